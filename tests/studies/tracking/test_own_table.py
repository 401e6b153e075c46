"""A model of a user's own table: it takes what the table has, where only the packages that it pins are installed."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from balance_tune.datasets.store import open_store
from balance_tune.errors import UserError
from balance_tune.registry import datasets
from balance_tune.studies.tracking.champions import card
from balance_tune.training.checkpoint import load_best
from balance_tune.training.evaluation import predict
from tests.studies.tracking.own_table import OwnTable, train_own

BLOCKED = """
import sys
from importlib.machinery import PathFinder
class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else super().find_spec(name, path, target)
blocked = set(json.load(open("blocked.json")))
sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> OwnTable:
    return train_own(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def expected(own: OwnTable) -> tuple[list[int], Any, Any]:
    """The validation rows, the probabilities of these, and those of `song` alone."""
    part = open_store(own.store).parts["val"]
    from balance_tune.training.feed import Feed
    from balance_tune.training.transform import Transform

    transforms = {m: Transform(x, own.manifest.statistics.get(m)) for m, x in own.manifest.modalities.items()}
    logits, alone = predict(load_best(own.trial), Feed(part, transforms))
    return part.rows.tolist(), logits.double().softmax(1).numpy(), alone[1].double().softmax(1).numpy()


def answers(found: pd.DataFrame) -> Any:
    return np.stack(found["probabilities"])


def test_it_is_packed_by_a_process_that_does_not_know_the_dataset(own: OwnTable) -> None:
    assert "wrens" not in datasets().names()
    known = mlflow.models.Model.load(str(own.model)).metadata["inputs"]
    assert known["photo"].startswith(
        "a file (its path, its bytes, or these as base64), or numbers of shape (3, 32, 32)"
    )
    assert known["weather"] == "numbers of shape (2,); may be missing"


def test_paths_bytes_base64_and_numbers_are_answered_as_the_rows_of_the_store(
    own: OwnTable, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, together, _ = expected
    monkeypatch.chdir(own.folder)
    model = mlflow.pyfunc.load_model(str(own.model))
    table = pd.DataFrame([own.rows[row] for row in rows])
    paths = table[["picture", "sound", "warm", "wet"]]  # as in the table, under its columns' names
    np.testing.assert_allclose(answers(model.predict(paths)), together, atol=1e-5)
    part = open_store(own.store).parts["val"]
    mixed = pd.DataFrame({
        "photo": [Path(name) if k % 2 else Path(name).read_bytes() for k, name in enumerate(table.picture)],
        "song": [base64.b64encode(Path(name).read_bytes()).decode() for name in table.sound],
        "weather": [[float(a), float(b)] for a, b in zip(table.warm, table.wet, strict=True)],
    })  # fmt: skip
    np.testing.assert_allclose(answers(model.predict(mixed)), together, atol=1e-5)
    stored = pd.DataFrame({"photo": [x.tolist() for x in part.inputs["photo"]], **mixed[["song", "weather"]]})
    np.testing.assert_allclose(answers(model.predict(stored)), together, atol=1e-5)


def test_with_a_modality_missing_it_answers_from_the_others(own: OwnTable, expected: Any) -> None:
    rows, _, heard = expected
    model = mlflow.pyfunc.load_model(str(own.model))
    sounds = [(own.folder / own.rows[row]["sound"]).read_bytes() for row in rows]
    for absent in ({}, {"photo": [None] * len(rows)}, {"photo": [float("nan")] * len(rows), "warm": None, "wet": None}):
        found = model.predict(pd.DataFrame({"song": sounds} | absent))
        np.testing.assert_allclose(answers(found), heard, atol=1e-5)


def test_a_wrong_column_or_file_is_one_line(own: OwnTable) -> None:
    model = mlflow.pyfunc.load_model(str(own.model))
    with pytest.raises(UserError, match="must be one of photo, song, weather, but got `picure`"):
        model.predict(pd.DataFrame({"picure": [b""], "sound": [own.folder / "0.wav"]}))
    with pytest.raises(UserError, match=r"row 1, `photo`: a file must be readable, but .*none\.png"):
        model.predict(pd.DataFrame({"photo": [own.folder / "0.png", own.folder / "none.png"]}))


def test_its_card_tells_what_is_done_to_samples(own: OwnTable) -> None:
    contender = {"arm": "wrens/joint", "objective": "val/accuracy", "val": 0.5, "test_mean": None, "seeds": 2}
    contender |= {"split_hash": "abc", "data_hash": "def", "augment": {}, "replicates": 1}
    told = card(contender, own.manifest)
    assert "- `photo`: in training flip (p 0.25); in evaluation as stored\n" in told
    assert "- `weather`: in training as stored; in evaluation as stored\n" in told
    told = card({**contender, "augment": {"photo": {}, "song": {"mask_time": {"width": 3}}}}, own.manifest)
    assert "- `photo`: in training as stored; in evaluation as stored\n" in told
    assert "- `song`: in training mask_time (width 3, count 1); in evaluation as stored\n" in told


def closure(lines: list[str]) -> set[str]:
    """Return the distributions that are installed with these requirements."""
    waiting, found = [Requirement(line) for line in lines], set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        try:
            waiting += map(Requirement, requires(name) or ())
        except PackageNotFoundError:  # of another platform
            continue
    return found


def test_it_answers_where_only_the_packages_that_it_pins_are_installed(
    own: OwnTable, expected: Any, tmp_path: Path
) -> None:
    lines = (own.model / "requirements.txt").read_text().split()
    pinned = {line.partition("==")[0] for line in lines}
    assert {"soundfile", "soxr", "pillow", "scipy", "av", "torchvision"} <= pinned
    assert "torchaudio" not in pinned  # for filter banks
    there = closure(lines)
    blocked = [
        module
        for module, names in packages_distributions().items()
        if not any(canonicalize_name(name) in there for name in names) and module != "balance_tune"
    ]
    assert {"ray", "optuna", "torchaudio"} <= set(blocked)
    (tmp_path / "blocked.json").write_text(json.dumps(blocked))
    row = own.rows[expected[0][0]]
    program = f"""
import json{BLOCKED}
import mlflow, pandas
from pathlib import Path
here = Path({str(own.folder)!r})
model = mlflow.pyfunc.load_model({str(own.model)!r})
answer = model.predict(pandas.DataFrame({{"photo": [here / {row["picture"]!r}], "song": [here / {row["sound"]!r}],
    "weather": [[{row["warm"]}, {row["wet"]}]]}}))
import balance_tune
print(json.dumps([balance_tune.__file__, answer["probabilities"].tolist()]))
"""
    environment = {"PATH": "/usr/bin:/bin", "MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    ours, probabilities = json.loads(done.stdout.splitlines()[-1])
    assert ours.startswith(str(own.model))
    np.testing.assert_allclose(probabilities, expected[1][:1], atol=1e-5)
