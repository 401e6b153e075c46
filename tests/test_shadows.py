"""A file that hides a module is known before trials are spent, whether the module was imported already or not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from balance_tune.shadows import hidden_by, sentence


@pytest.mark.parametrize("name", ["queue.py", "numpy.py", "mlflow.py", "ray/__init__.py"])
def test_a_file_with_the_name_of_a_module_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    module = name.partition("/")[0].removesuffix(".py")
    if module in ("mlflow", "ray"):  # a study imports them later
        monkeypatch.delitem(sys.modules, module, raising=False)
    hidden = hidden_by(str(tmp_path))
    assert hidden == str(path)
    assert f"hides `{module}`" in sentence(hidden)


@pytest.mark.parametrize("name", ["my_model.py", "av.py", "ray.txt", "torch/README"])
def test_other_files_hide_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    monkeypatch.delitem(sys.modules, "av", raising=False)  # the name of a user's own module, where none reads videos
    assert hidden_by(str(tmp_path)) is None
    assert hidden_by(str(tmp_path / "gone")) is None
