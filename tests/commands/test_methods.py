"""balance-tune methods: the cards are the classes' own, with torch and without."""

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from balance_tune.cli import main
from balance_tune.commands import cards as kept
from balance_tune.modulations.card import card
from balance_tune.registry import modulations
from balance_tune.studies.protocol.code_hash import hash_of

NOW = hash_of(sorted(kept.PACKAGE.rglob("*.py")))
CLASSES = [card(cls) for cls in modulations().classes().values()]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BALANCE_TUNE_CACHE", str(tmp_path))
    return tmp_path / "methods.json"


@pytest.fixture
def _no_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> list[dict[str, object]]:
        raise AssertionError("the classes were asked")

    monkeypatch.setattr(kept, "_asked", asked)


def run(*argv: str) -> tuple[str, set[str]]:
    """Return what the command prints in a process of its own, and the modules it has loaded."""
    code = (
        "import sys\nfrom balance_tune.cli import main\n"
        f"status = main({['methods', *argv]!r})\nprint(' '.join(sys.modules), file=sys.stderr)\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout, set(done.stderr.split())


@pytest.mark.parametrize("argv", [(), ("mlb",), ("-f", "json"), ("mlb", "-f", "json")], ids=" ".join)
def test_the_second_time_the_same_is_told_without_torch(argv: tuple[str, ...], cache: Path) -> None:
    first, loaded = run(*argv)
    assert "torch" in loaded
    second, loaded = run(*argv)
    assert not loaded & {"torch", "ray", "mlflow", "optuna", "numpy", "pydantic"}
    assert second == first


def test_what_is_kept_is_what_the_classes_say(cache: Path) -> None:
    assert kept.cards() == CLASSES
    assert json.loads(cache.read_text())["cards"] == CLASSES  # no tuple, no infinity on the way


@pytest.mark.usefixtures("_no_classes")
def test_a_name_that_does_not_exist_is_refused_all_the_same(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.write_text(json.dumps({"of": NOW, "cards": CLASSES}))
    assert main(["methods", "ogmge"]) == 2
    assert "did you mean `ogm_ge`?" in capsys.readouterr().err


def test_a_file_of_the_package_that_changes_has_the_classes_asked(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    (package / "deep").mkdir(parents=True)
    source = package / "deep" / "own.py"
    source.write_text("a = 1\n")
    monkeypatch.setattr(kept, "PACKAGE", package)
    asked: list[int] = []
    monkeypatch.setattr(kept, "_asked", lambda: asked.append(1) or [{"name": "own"}])

    def times(change: str) -> int:
        asked.clear()
        assert kept.cards() == [{"name": "own"}], change
        return len(asked)

    assert (times("none kept"), times("nothing")) == (1, 0)
    state = source.stat()
    source.write_text("a = 2\n")
    os.utime(source, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (times("other content, of one size and time"), times("nothing")) == (1, 0)
    source.rename(source.with_name("other.py"))
    assert (times("another name"), times("nothing")) == (1, 0)
    (package / "more.py").touch()
    assert (times("one more file"), times("nothing")) == (1, 0)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"of": 1}', '{"of": "OF", "cards": {}}', '{"of": "OF"}'])
def test_a_damaged_file_is_made_again(damage: str, cache: Path) -> None:
    cache.write_text(damage.replace("OF", NOW))
    assert kept.cards() == CLASSES
    assert json.loads(cache.read_text())["cards"] == CLASSES


def test_where_nothing_can_be_kept_the_classes_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BALANCE_TUNE_CACHE", str(tmp_path / "file"))
    assert kept.cards() == CLASSES


def test_with_methods_of_other_packages_nothing_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = EntryPoint("own", "own_package:Own", "balance_tune.modulations")
    monkeypatch.setattr(kept, "entry_points", lambda group: EntryPoints([theirs] if group == theirs.group else []))
    cache.write_text(json.dumps({"of": NOW, "cards": []}))
    assert kept.cards() == CLASSES
    assert json.loads(cache.read_text())["cards"] == []
