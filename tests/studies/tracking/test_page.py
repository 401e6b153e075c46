"""The address of a study's page, and a server behind it where there is none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.tracking import page
from balance_tune.studies.tracking.backend import Store, connect, store_of
from balance_tune.studies.tracking.page import ui
from balance_tune.studies.tracking.runs import TAG
from balance_tune.studies.tracking.sync import sync
from tests.studies.tracking.written import WrittenStudy


def test_without_a_store_there_is_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`balance-tune run` makes one"):
        ui(tmp_path)


def test_a_study_that_does_not_exist_is_told(root: Path) -> None:
    with pytest.raises(UserError, match="must exist to be shown"):
        ui(root, "no-such-study")


def test_of_a_server_only_the_address_is_told(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@server:5000/")
    assert ui(tmp_path) == 0
    told = capsys.readouterr().out
    assert told.startswith("http://server:5000/#/experiments")
    assert "secret" not in told


def test_without_a_study_the_page_lists_the_runs_of_all(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    client = connect(store)
    assert page._page(store, None) == "#/experiments?workflowType=machine_learning"
    ids = [client.create_experiment(name, tags={TAG + "kind": "study"}) for name in ("one", "two")]
    client.create_experiment("of somebody else")
    assert page._page(store, "one").startswith(f"#/experiments/{ids[0]}/runs?workflowType=machine_learning")
    several = urllib.parse.unquote(page._page(store, None))
    assert several.startswith(f'#/compare-experiments/s?experiments=["{ids[0]}","{ids[1]}"]&workflowType=')


def test_a_port_that_is_taken_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((page.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert page.free_port(page.HOST, port) > port


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGTERM, id="SIGTERM"), pytest.param(signal.SIGINT, id="Ctrl-C", marks=pytest.mark.full)],
)
def test_the_server_shows_the_study_and_ends_whole(
    root: Path, store: Store, written: Callable[..., WrittenStudy], number: int
) -> None:
    written_study = written()
    written_study.begin(0).train(2).end()
    assert sync(written_study.folder, store, "interrupted")
    study = written_study.folder.name
    served = subprocess.Popen(
        [sys.executable, "-u", "-m", "balance_tune", "ui", study, "--root", str(root)],
        cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True, env={**os.environ, "NO_PROXY": "*"},
    )  # fmt: skip
    assert served.stdout is not None
    line = next(line for line in served.stdout if line.startswith("MLflow shows"))
    assert f"MLflow shows {study} at http://127.0.0.1:" in line
    address = line.split(" at ")[1].split("/#")[0]
    with urllib.request.urlopen(address, timeout=60) as answer:
        assert b"<html" in answer.read()
    for _ in range(20):  # more than one comes where `make` hands on what the whole group was sent
        served.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            served.wait(0.01)
    assert served.wait(60) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address, timeout=60)
