"""MLflow beside an object store: what was not sent went with the driver's machine, or the bucket was away."""

from __future__ import annotations

import json
from pathlib import Path

from botocore.exceptions import ClientError, EndpointConnectionError

from balance_tune.studies.tracking.delivery import is_refusal
from balance_tune.studies.tracking.tracker import _earlier
from tests.studies.bucket import Bucket


def test_a_trial_that_goes_on_tells_its_earlier_epochs_again(bucket: Bucket, tmp_path: Path) -> None:
    lines = [json.dumps({"epoch": epoch, "val/accuracy": 0.1 * epoch, "best_epoch": epoch}) for epoch in (1, 2)]
    bucket.write("s/trials/t/history.jsonl", "\n".join([*lines, ""]).encode())
    trial = {"folder": str(tmp_path / "run" / "s" / "trials" / "t"), "location": (bucket.uri, "s/trials/t")}
    assert [(row.step, row.metrics) for row in _earlier({**trial, "reported": 2})] == [
        (1, {"val/accuracy": 0.1}),
        (2, {"val/accuracy": 0.2}),
    ]
    assert _earlier(trial) == []


def test_a_bucket_that_does_not_answer_is_asked_again_and_a_fault_of_ours_is_not() -> None:
    away = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    assert not is_refusal(away)
    assert not is_refusal(ClientError({"Error": {"Code": "ExpiredToken"}}, "PutObject"))
    assert is_refusal(KeyError("run"))
