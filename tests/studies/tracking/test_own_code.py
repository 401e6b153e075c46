"""What of a user's own code goes with a model: its modules, what they import beside them, and packages by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from balance_tune.models.encoders import Mlp
from balance_tune.studies.tracking.own_code import OwnCode, own_code


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_module_comes_with_its_neighbours_and_names_the_packages_that_it_imports(here: Path) -> None:
    (here / "lone_encoder.py").write_text(
        "import json\nfrom typing import TYPE_CHECKING\nimport neighbour_of_it\n"
        "from balance_tune.models import fusion\n"
        "if TYPE_CHECKING:\n    import optuna\n"
        "class Theirs:\n    def late(self):\n        import soundfile\n"
    )
    (here / "neighbour_of_it.py").write_text("from PIL import Image\n")
    found = own_code([import_module("lone_encoder").Theirs, Mlp])
    assert found.modules == ("lone_encoder",)
    assert found.places == {
        "lone_encoder": here / "lone_encoder.py",
        "neighbour_of_it": here / "neighbour_of_it.py",
    }
    assert found.packages == ("pillow", "soundfile")


def test_of_a_package_only_what_is_imported_names_packages(here: Path) -> None:
    package = here / "their_parts"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "deep" / "__init__.py").write_text("from ..shared import scale\n")
    (package / "deep" / "encoder.py").write_text("from . import other\nclass Theirs: ...\n")
    (package / "deep" / "other.py").write_text("import scipy.fft\n")
    (package / "shared.py").write_text("import yaml\nscale = 1\n")
    (package / "plots.py").write_text("import matplotlib\n")
    found = own_code([import_module("their_parts.deep.encoder").Theirs])
    assert found.modules == ("their_parts.deep.encoder",)
    assert found.places == {"their_parts": package}
    assert found.packages == ("PyYAML", "scipy")


def test_a_folder_without_init_is_a_package_too(here: Path) -> None:
    (here / "bare_folder").mkdir()
    (here / "bare_folder" / "encoder.py").write_text("class Theirs: ...\n")
    found = own_code([import_module("bare_folder.encoder").Theirs])
    assert (found.modules, found.places) == (("bare_folder.encoder",), {"bare_folder": here / "bare_folder"})


def test_what_was_typed_in_by_hand_has_no_file() -> None:
    typed = type("Theirs", (), {"__module__": "__main__"})
    assert own_code([typed]).places == {}


def test_of_our_own_classes_nothing_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balance_tune.studies.tracking.own_code.packages_distributions", lambda: pytest.fail("read"))
    assert own_code([Mlp]) == OwnCode((), {}, ())
