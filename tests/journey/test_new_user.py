"""A new user's way from her files to a model that answers over HTTP, by the commands alone."""

from __future__ import annotations

import base64
import csv
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest

from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.backend import connect, store_of
from tests.journey import made_up
from tests.journey.user import User
from tests.studies.tracking.http import serving

pytestmark = pytest.mark.ray
CHAMPION = "models:/arrows_study-arrows@champion"


def new_files(folder: Path) -> list[dict[str, str]]:
    """Write ten pictures and sounds that the model has not seen, and a table with the columns of the first one."""
    generator, rows = np.random.default_rng(7), []
    for k in range(10):
        points_to = made_up.CLASSES[k % 2]
        made_up.picture(points_to, generator).save(folder / f"new {k}.png")
        rows.append({"file": f"new {k}.png", "recording": f"{k + 10}.wav" if k else "", "points_to": points_to})
    with (folder / "new.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return rows


def test_from_files_to_a_served_model(tmp_path: Path) -> None:
    made_up.write(tmp_path)
    user = User(tmp_path)

    user.types("data", "prepare", "table", "--recipe", "recipe.yaml", "--source", "table.csv")
    info = user.reads("data", "info", "arrows")
    assert sum(info["rows"].values()) == made_up.SPEAKERS * made_up.EACH - len(made_up.BROKEN)
    broken = {entry["file"] for entry in info["skipped"]}
    assert broken == {f"{'picture ' * (k % 2)}{row}{('.wav', '.png')[k % 2]}" for k, row in enumerate(made_up.BROKEN)}
    assert {m["training"] for m in info["transforms"].values()} == {"as stored"}  # nothing is mirrored untold
    assert sum(own.get("voice", 0) for own in info["absent"].values()) == 3

    assert "arrows/joint" in user.types("plan", "study.yaml").stdout
    said = user.interrupts("run", "study.yaml", after="search 0: completed")
    assert "The same command goes on" in said
    resumed = user.types("run", "study.yaml").stderr
    assert "search 0: completed" not in resumed
    assert "search 1: completed" in resumed
    extended = user.types("run", "study.yaml", "methods=[joint,ogm]").stderr
    assert "extended: `methods` changed" in extended
    assert "arrows/joint" not in extended.replace("arrows/joint confirm", "")

    rows = user.reads("report", "arrows_study")
    assert [row["method"] for row in rows] == ["joint", "ogm"]
    assert min(row["test_mean"] for row in rows) > 0.9  # half of it where pictures are mirrored in training

    (best,) = user.reads("best", "arrows_study", "--export", "taken")
    assert best["study"]["model"]["fusion"] in ("concat", "sum")
    card = (tmp_path / "taken" / "arrows" / "README.md").read_text()
    assert "- `picture`: in training as stored; in evaluation as stored" in card
    user.types("export", "arrows_study", "--out", "trials.sqlite3")

    assert user.reads("evaluate", CHAMPION, "--data", "arrows")["accuracy"] > 0.9
    new = new_files(tmp_path)
    told = user.reads("evaluate", "taken/arrows/model", "--data", "new.csv")
    assert (told["rows"], told["modalities"]["voice"]["rows"]) == (10, 9)
    assert told["accuracy"] == 1.0

    run_id = trial_of(tmp_path / "studies")
    reproduced = user.reads("reproduce", run_id)
    assert (reproduced["verdict"], reproduced["different"]) == ("bit-identical", 0)
    assert user.reads("probe", "arrows_study", "arrows/joint", "0")["probe/accuracy/picture"] > 0.9

    store = store_of(StudyFolder(tmp_path / "studies"))
    pictures = [base64.b64encode((tmp_path / row["file"]).read_bytes()).decode() for row in new]
    with serving(CHAMPION, store.uri, tmp_path) as ask:
        answers = ask([{"picture": picture} for picture in pictures])
        with pytest.raises(HTTPError) as refused:
            ask([{"pictrue": pictures[0]}])
        assert "must be one of picture, voice, but got `pictrue`" in refused.value.read().decode()
    assert [answer["label"] for answer in answers] == [row["points_to"] for row in new]


def trial_of(root: Path) -> str:
    """Return the id of a search trial's run, as MLflow's page shows it."""
    client: Any = connect(store_of(StudyFolder(root)))
    experiment = client.get_experiment_by_name("arrows_study").experiment_id
    runs = client.search_runs([experiment])
    return next(str(run.info.run_id) for run in runs if run.info.run_name == "001 / joint / arrows")
