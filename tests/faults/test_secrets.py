"""Secrets planted in the environment and in addresses are found nowhere that a study writes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.faults.conftest import Trial
from tests.faults.test_surroundings import free_port, mlflow_server

pytestmark = [pytest.mark.ray, pytest.mark.faults]
SECRET = "-".join(("pLaNtEd", "0f3c9a"))  # in two parts: a model carries the code of its method, this folder's
NAMES = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_API_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "PGPASSWORD",
    "MY_OWN_API_KEY",
)


def test_planted_secrets_are_found_nowhere(trial: Trial) -> None:
    port = free_port()
    planted = {name: f"{SECRET}-{i}" for i, name in enumerate(NAMES)}
    address = {"MLFLOW_TRACKING_URI": f"http://user:{SECRET}-in-url@127.0.0.1:{port}"}
    driver = dataclasses.replace(trial.driver, environment={**planted, **address})
    with mlflow_server(driver, port):
        assert driver.run() == 0, driver.said()
    assert holders(driver.root) == []
    trial.passed("secrets planted")


def test_a_failing_study_tells_no_secret_either(trial: Trial) -> None:
    address = {"MLFLOW_TRACKING_URI": f"http://user:{SECRET}@127.0.0.1:{free_port()}/nowhere"}
    driver = dataclasses.replace(trial.driver, environment={**address, "BALANCE_TUNE_OUTAGE_S": "5"})
    driver.run()
    assert holders(driver.root) == []


def holders(root: Path) -> list[str]:
    found = [str(p) for p in root.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]
    return found + [str(p) for p in root.rglob("*") if SECRET in p.name]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "log").write_bytes(b"\x00" + SECRET.encode())
    assert holders(tmp_path) == [str(tmp_path / "a" / "log")]
