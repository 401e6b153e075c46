"""The champion behind `mlflow models serve`, asked over HTTP with a recording and a picture of the embedded data."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from balance_tune.datasets.av_digits import AvDigits
from balance_tune.datasets.store import open_store
from balance_tune.training.checkpoint import load_best
from balance_tune.training.evaluation import predict
from tests.studies.tracking.digits import URI, Digits
from tests.studies.tracking.http import Ask, serving


@pytest.fixture(scope="module")
def ask(digits: Digits) -> Iterator[Ask]:
    with serving(URI, digits.mlflow.uri, digits.root) as asking:
        yield asking


def files(digits: Digits, rows: list[int]) -> list[dict[str, str]]:
    """Return recordings and pictures of source rows as they lie in the embedded file, in base64."""
    columns = AvDigits().columns(["audio", "image"])
    return [{m: base64.b64encode(columns[m][row].as_py()).decode() for m in columns} for row in rows]


def test_without_ray_and_optuna_and_our_code_it_takes_files_and_gives_the_probabilities_of_the_trial(
    digits: Digits, tmp_path: Path
) -> None:
    part = open_store(digits.data).parts["val"]
    logits, alone = predict(load_best(digits.folder), part)
    rows = files(digits, part.rows.tolist()[:3])
    (tmp_path / "rows.json").write_text(json.dumps([*rows, {"image": rows[0]["image"]}]))
    program = f"""
import json, sys
for name in ("ray", "optuna"):
    sys.modules[name] = None
import mlflow, pandas
mlflow.set_tracking_uri({digits.mlflow.uri!r})
answer = mlflow.pyfunc.load_model({URI!r}).predict(pandas.DataFrame(json.load(open("rows.json"))))
import balance_tune
print(json.dumps([balance_tune.__file__, answer["probabilities"].tolist()]))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, answers = json.loads(done.stdout.splitlines()[-1])
    assert ours.startswith(str(digits.root / "mlartifacts"))
    np.testing.assert_allclose(answers[:3], logits[:3].softmax(1).numpy(), atol=1e-5)
    np.testing.assert_allclose(answers[3], alone[1, 0].softmax(0).numpy(), atol=1e-5)


@pytest.mark.full
def test_files_are_answered_with_the_probabilities_of_the_trial(digits: Digits, ask: Ask) -> None:
    part = open_store(digits.data).parts["val"]
    logits, alone = predict(load_best(digits.folder), part)
    sent = files(digits, part.rows.tolist())
    answers = ask(sent[:100])
    probabilities = np.array([answer["probabilities"] for answer in answers])
    np.testing.assert_allclose(probabilities, logits[:100].softmax(1).numpy(), atol=1e-5)
    assert [answer["label"] for answer in answers] == [str(int(i)) for i in logits[:100].argmax(1)]

    pictures = ask([{"image": row["image"]} for row in sent])
    expected = alone[1].softmax(1).numpy()
    np.testing.assert_allclose([answer["probabilities"] for answer in pictures], expected, atol=1e-5)
    right = np.mean([int(a["label"]) == label for a, label in zip(pictures, part.labels.tolist(), strict=True)])
    assert right == pytest.approx(digits.metrics["val/accuracy/image"], abs=1e-9)


@pytest.mark.full
def test_numbers_and_missing_cells_may_be_mixed_with_files(digits: Digits, ask: Ask) -> None:
    samples = AvDigits().read().inputs
    (both,) = files(digits, [7])
    numbers = {m: samples[m][7].tolist() for m in both}
    answers = ask([both, numbers, {"audio": both["audio"], "image": None}, {"image": both["image"]}])
    whole, again, heard, seen = (np.array(answer["probabilities"]) for answer in answers)
    np.testing.assert_allclose(again, whole, atol=1e-5)
    assert abs(heard - whole).max() > 1e-3
    assert abs(seen - whole).max() > 1e-3
