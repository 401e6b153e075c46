"""An own model by import path, from a script that stands in for a notebook, with the module in another folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.journey.user import User
from tests.test_extending import block

SCRIPT = """
import json
import sys

sys.path.append("../code")  # as the first cell of a notebook does
import balance_tune
import my_models

result = balance_tune.run_study(
    {
        "name": "own",
        "datasets": ["multiple_features"],
        "methods": ["joint"],
        "model": {"name": "my_models:build"},
        "training": {"epochs": 4, "lr": 0.3},
        "search": {"trials": 2, "space": {"model": {"settings": {"width": [8, 16]}}}},
        "select": {"points": 1, "seeds": 0},
        "confirm": {"seeds": 2, "default_seeds": 0},
    },
    progress="none",
)
print(json.dumps([result.state, result.rows[0].test_mean, result.rows[0].params["model.settings.width"]]))
"""
TYPED_IN = """
import sys

sys.path.append("../code")
from my_models import Waves
import balance_tune


class Typed(Waves):
    pass


try:
    balance_tune.run_study(
        {"name": "typed", "datasets": ["multiple_features"], "methods": ["joint"],
         "model": {"encoders": {"fourier": "__main__:Typed"}}}
    )
except balance_tune.UserError as error:
    print(error)
"""


@pytest.fixture
def user(tmp_path: Path) -> User:
    (tmp_path / "code").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "code" / "my_models.py").write_text(block("python", "def build("))
    return User(tmp_path / "notebooks")


@pytest.mark.ray
def test_it_reaches_the_workers_and_goes_with_the_model(user: User) -> None:
    (user.folder / "notebook.py").write_text(SCRIPT)
    done = user.starts("notebook.py")
    assert done.returncode == 0, done.stderr
    state, accuracy, width = json.loads(done.stdout.splitlines()[-1])
    assert state == "done"
    assert accuracy > 0.4  # ten classes
    assert width in (8, 16)

    told = user.types("best", "own", status=2).stderr
    assert "`my_models:build` must be importable" in told
    assert "put its folder on PYTHONPATH" in told
    (best,) = User(user.folder, user.folder.parent / "code").reads("best", "own", "--export", "taken")
    assert best["study"]["model"] == {**best["study"]["model"], "name": "my_models:build", "settings": {"width": width}}
    for model in ("taken/multiple_features/model", "models:/own-multiple_features@champion"):  # its code comes with it
        told = user.reads("evaluate", model, "--data", "multiple_features", "--split", "val")
        assert told["accuracy"] > 0.4


def test_a_class_of_the_script_itself_is_told_in_one_line(user: User) -> None:
    (user.folder / "notebook.py").write_text(TYPED_IN)
    done = user.starts("notebook.py")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert "encoder `__main__:Typed` is defined in the notebook or script" in line
    assert "put it into a module" in line
