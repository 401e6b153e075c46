"""`status`, `report`, `best`, `export` on a study that was made up, not trained."""

import dataclasses
import fcntl
import json
from pathlib import Path

import optuna
import pytest

from balance_tune.cli import main
from balance_tune.studies.loading import load_config
from balance_tune.studies.protocol.arms import arms_of
from balance_tune.studies.results import leaderboard, tables
from tests.studies.made_study import Made, make_study


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    made = Made(datasets=("av_digits",), methods=("joint", "mlb", "opm"), trials=4, confirm_seeds=3, default_seeds=2)
    make_study(root, made)
    return root


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert main(argv) == 0
    return capsys.readouterr().out


def test_status_counts_the_trials_of_every_arm(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(printed(capsys, "status", "quickstart", "--root", str(root), "-f", "json"))
    assert (told["study"], told["running"]) == ("quickstart", False)
    assert [row["arm"] for row in told["arms"]] == ["av_digits/joint", "av_digits/mlb", "av_digits/opm"]
    for row in told["arms"]:
        assert row["search"] == row["search_trials"] == 4
        assert row["complete"] + row["pruned"] + row["failed"] == row["search"] + row["select"] + row["confirm"]
        assert row["search_val"] == row["best"] > 0.8
    assert "quickstart is not running" in printed(capsys, "status", "quickstart", "--root", str(root))


def test_status_knows_a_driver_by_its_lock(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (root / "quickstart" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "quickstart is running" in printed(capsys, "status", "quickstart", "--root", str(root))
    assert "is not running" in printed(capsys, "status", "quickstart", "--root", str(root))


def test_an_arm_that_has_not_begun_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config({"name": "new", "datasets": ["av_digits"], "methods": ["mlb"]})
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "study.yaml").write_text(config.as_yaml())
    told = json.loads(printed(capsys, "status", "new", "--root", str(tmp_path), "-f", "json"))
    assert [row["arm"] for row in told["arms"]] == ["av_digits/joint", "av_digits/mlb"]
    assert told["arms"][0]["best"] is None


def test_a_study_that_does_not_exist_names_the_nearest(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("quikstart", "search_spaces/quickstart.yaml"):
        assert main(["report", wrong, "--root", str(root)]) == 2
        assert "Did you mean `quickstart`?" in capsys.readouterr().err


def test_report_prints_the_rows_and_writes_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(printed(capsys, "report", "quickstart", "--root", str(root), "-f", "json"))
    assert [row["method"] for row in rows if row["dataset"] == "av_digits"]
    assert main(["report", "quickstart", "--root", str(root)]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == tables.as_text(leaderboard.build(root / "quickstart")).strip()
    assert str(root / "quickstart" / "report") in told.err
    assert {p.name for p in (root / "quickstart" / "report").iterdir()} >= {"index.html", "leaderboard.json"}


def test_report_writes_figures_where_they_are_asked_for(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = root / "quickstart" / "report" / "figures"
    assert not folder.exists()
    assert main(["report", "quickstart", "--root", str(root), "--figures"]) == 0
    assert f"Figures: {folder}" in capsys.readouterr().err
    names = {path.name for path in folder.iterdir()}
    assert {"intervals-av_digits.svg", "intervals-av_digits.pdf"} <= names
    assert {path.suffix for path in folder.iterdir()} == {".svg", ".pdf"}


def test_export_writes_what_optuna_opens(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "below" / "study.sqlite3"
    printed(capsys, "export", "quickstart", "--root", str(root), "--out", str(out))
    study = optuna.load_study(study_name="av_digits/mlb", storage=f"sqlite:///{out}")
    assert len(study.trials) == 4
    assert study.trials[0].user_attrs["default"] is True
    assert [p.name for p in out.parent.iterdir()] == ["study.sqlite3"]
    assert main(["export", "quickstart", "--root", str(root), "--out", str(out)]) == 2
    assert "must not overwrite" in capsys.readouterr().err


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study in which mlb is chosen, by validation."""
    config = load_config(
        {"name": "s", "datasets": ["av_digits"], "methods": ["joint", "mlb"], "training": {"epochs": 7}}
    )
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.yaml").write_text(config.as_yaml())
    rows: list[leaderboard.LeaderboardRow] = []
    for arm, val, test in zip(arms_of(config), (0.90, 0.95), (0.99, 0.91), strict=True):
        params = {**arm.space.defaults(), "training.lr": 0.02}
        row = leaderboard.LeaderboardRow(arm=arm.name, dataset="av_digits", val=val, params=params, test_mean=test)
        rows.append(dataclasses.replace(row, chosen=arm.method == "mlb", seeds=(7, 8, 9), delta=0.01))
    monkeypatch.setattr(leaderboard, "build", lambda folder: rows)
    return tmp_path


def test_best_is_what_the_leaderboard_chose_ready_to_paste(chosen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "best", "s", "--root", str(chosen))
    assert text.startswith("# av_digits/mlb: val/accuracy 0.9500, sealed test 0.9100 over 3 seeds (+0.0100 over tuned")
    (chosen / "pasted.yaml").write_text(text)
    pasted = load_config(chosen / "pasted.yaml")
    mlb = next(arm for arm in arms_of(pasted) if arm.method == "mlb")
    assert not mlb.space.parameters
    assert mlb.space.fixed["training.lr"].value == 0.02
    assert mlb.space.fixed["training.epochs"].value == 7


def test_best_gives_a_program_the_settings_of_a_trial(chosen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = json.loads(printed(capsys, "best", "s", "--root", str(chosen), "-f", "json"))
    assert found["arm"] == "av_digits/mlb"
    assert found["trial"]["training"]["lr"] == 0.02
    assert found["trial"]["modulation"]["alpha"] == pytest.approx(found["study"]["search"]["space"]["mlb"]["alpha"])


def test_best_of_an_unknown_dataset_names_the_nearest(chosen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["best", "s", "--root", str(chosen), "--dataset", "av_digit"]) == 2
    assert "Did you mean `av_digits`?" in capsys.readouterr().err


def test_best_before_anything_was_selected_says_so(
    chosen: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leaderboard, "build", lambda folder: [])
    assert main(["best", "s", "--root", str(chosen)]) == 2
    assert "must have selected a point" in capsys.readouterr().err
