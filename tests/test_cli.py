"""The command line as a whole: start-up, exit statuses, one line for every mistake."""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from balance_tune.cli import COMMANDS, main, parsed, parser
from balance_tune.commands.reference import commands

QUICKSTART = str(Path(__file__).parents[1] / "search_spaces" / "quickstart.yaml")
HEAVY = ("torch", "ray", "optuna", "mlflow", "pydantic", "numpy", "yaml", "rich")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BALANCE_TUNE_ROOT", raising=False)
    monkeypatch.setenv("BALANCE_TUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A stand-in for the engine, so that nothing starts Ray."""
    module = ModuleType("balance_tune.studies.engine")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return the one line on standard error of a command that ends with status 2."""
    assert main(argv) == 2
    told = capsys.readouterr()
    assert not told.out
    assert len(told.err.splitlines()) == 1
    assert told.err.startswith("balance-tune: ")
    return told.err


@pytest.mark.parametrize("argv", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=lambda argv: argv[0])
def test_every_command_has_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 0
    assert "usage: balance-tune" in capsys.readouterr().out


@pytest.mark.parametrize("command", list(commands(parser())), ids=lambda made: made.prog)
def test_every_command_has_an_example_that_it_takes(command: argparse.ArgumentParser) -> None:
    before, example = str(command.epilog).split("example: balance-tune ")
    assert not before
    words = shlex.split(example.partition(" > ")[0])
    assert " ".join(["balance-tune", *words]).startswith(command.prog)
    assert parsed(words).command == words[0]
    assert example in " ".join(command.format_help().split())


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import sys
from balance_tune.cli import main
try:
    main(["--help"])
except SystemExit:
    print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "balance_tune", "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "required: COMMAND"),
        (("runn",), "but got `runn`; did you mean `run`?"),
        (("run",), "required: STUDY.yaml; see `balance-tune run --help`"),
        (("status",), "required: STUDY"),
        (("methods", "-f", "xml"), "-f/--format must be one of table, json, but got `xml`"),
        (("methods", "--farmat", "json"), "unrecognized argument"),
        (("methods", "ogmge"), "did you mean `ogm_ge`?"),
        (("datasets", "av_digit"), "did you mean `av_digits`?"),
        (("fusions", "concatt"), "did you mean `concat`?"),
        (("encoders", "cnnn"), "did you mean `cnn`?"),
        (("status", "x", "y"), "unrecognized argument: y"),
        (("ui", "--port", "0"), "must be a whole number from 1 to 65535, but got `0`"),
        (("status", "x"), "a study must have been run, but there is none in"),
        (
            ("status", "x", "--root", "nosuch://bucket"),
            "a URI that pyarrow can open, but got nosuch://bucket:",
        ),
        (("status", "x", "--root", "s3://me:kept@bucket/p"), "must not hold credentials, but s3://bucket/p was given"),
        (
            ("status", "x", "--root", "s3:/bucket/p"),
            "must be given as text, s3://bucket/prefix",
        ),
        (("run", "nowhere.yaml"), "must be readable, but `nowhere.yaml`: No such file"),
        (("run", "."), "a study file must be a file"),
        (("status", "x", "--root", "/" + "y" * 5000), "/yyyyyyyy"),  # Python 3.13 finds nothing there, 3.11 refuses
        (("data", "info", "./" + "z" * 300), "File name too long"),
        (("data", "miniature", "ave", "--out", "a\0b"), "must not hold the character NUL"),
        (("data", "prepare", "table", "--source", "t.csv", "--recipe", "."), "a recipe must be a file, but `.` is a"),
        (("run", "x" * 5000), "must fit into the file system, but `"),
    ],
)
def test_each_mistake_is_one_line_and_status_2(
    argv: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nane: x", "`nane` is not a setting of a study. Did you mean `name`?"),
        ("name: x\ndatasets: [av_digit]\nmethods: [mlb]", "Did you mean `av_digits`?"),
        ("name: x\ndatasets: [av_digits]\nmethods: [mbl]", "did you mean `mlb`?"),
        ("name: x\ndatasets: [av_digits]\nmethods: mlb", "`methods` must be a list"),
        ("name: x\nname: y", "line 2: a key must be given once"),
        ("a: [1", "must be valid YAML"),
        ("a: &a [1]\nb: *a", "aliases are not allowed"),
        ("- x", "must hold settings as `key: value`"),
        (
            "name: x\ndatasets: [av_digits]\nmethods: [mlb]\nsearch: {space: {mlb: {alpha: {low: 2, high: 1}}}}",
            "`low <= high` must hold for `search.space.mlb.alpha`",
        ),
        (
            "name: x\ndatasets: [av_digits]\nmethods: [mlb]\nsearch: {space: {training: {lr: {low: 0.2}}}}",
            "has the default 0.05",
        ),
        ("name: x\ndatasets: [av_digits]\nmethods: [mlb]\nseed: soon", "`seed` must be a whole number, but got `soon`"),
        ("name: x\ndatasets: [av_digits]\nmethods: [mlb]\nsearch: {trials: 1e9}", "`search.trials` must be a whole"),
    ],
)
def test_a_bad_study_file_is_one_line_and_status_2_before_anything_starts(
    text: str, words: str, tmp_path: Path, engine: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert words in refused(capsys, "run", "x.yaml")
    assert not (tmp_path / "studies").exists()


def test_a_root_that_cannot_be_written_is_refused(
    tmp_path: Path, engine: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for root in ("file", "file/below"):
        assert "the root must be a folder that can be written" in refused(capsys, "run", QUICKSTART, "--root", root)


@pytest.mark.parametrize("argv", [("--root", "there", "status", "x"), ("status", "x", "--root", "there")])
def test_the_root_may_stand_before_or_after_the_command(
    argv: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert str(tmp_path / "there") in refused(capsys, *argv)


def test_the_root_comes_from_the_option_then_the_environment_then_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"none in {tmp_path / 'studies'};" in refused(capsys, "status", "x")
    monkeypatch.setenv("BALANCE_TUNE_ROOT", "set")
    assert f"none in {tmp_path / 'set'};" in refused(capsys, "status", "x")
    assert f"none in {tmp_path / 'given'};" in refused(capsys, "status", "x", "--root", "given")


def test_an_interruption_is_status_130(engine: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def run_study(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    engine.run_study = run_study  # type: ignore[attr-defined]
    assert main(["run", QUICKSTART]) == 130
    assert capsys.readouterr().err == "balance-tune: interrupted\n"


def test_a_reader_that_stops_reading_is_no_error_to_shout_about() -> None:
    command = f"{sys.executable} -m balance_tune methods -f json | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout == "["
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["data", "verify", "~nosuchuser/x"],
        ["data", "prepare", "crema_d", "--source", "~nosuchuser/x", "--out", "here"],
        ["status", "--root", "~nosuchuser/x"],
    ],
)
def test_the_home_of_nobody_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1, told


def test_ctrl_c_within_code_of_a_string_ends_the_module_with_its_status_too(tmp_path: Path) -> None:
    """CPython would kill it by SIGINT, although it was handled."""
    (tmp_path / "sitecustomize.py").write_text(
        "import balance_tune.commands.methods as methods\nmethods.run = lambda args: exec('raise KeyboardInterrupt')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "balance_tune", "methods"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, "balance-tune: interrupted\n")
