"""`balance-tune watch`: the report of a study over HTTP, which follows the study and leaves it as it is."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer
from pathlib import Path

import optuna
import pytest

from balance_tune.cli import main
from balance_tune.commands.live_report import HOST, LiveReport, handler_of
from balance_tune.errors import UserError
from balance_tune.studies.loading import load_config
from balance_tune.studies.storage.files import JOURNAL
from balance_tune.studies.storage.study_folder import StudyFolder
from tests.studies.made_study import Made, make_study

SMALL = Made(datasets=("av_digits",), methods=("joint", "mlb"), trials=4, confirm_seeds=3, default_seeds=2)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return make_study(tmp_path, SMALL)


def report_of(study: Path, every: float = 0.0) -> LiveReport:
    return LiveReport(lambda: StudyFolder.of(study), every)


def add_trial(study: Path) -> None:
    """A driver writes one more trial."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(study / JOURNAL)))
    arm = optuna.load_study(study_name="av_digits/mlb", storage=storage)
    arm.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, user_attrs={"phase": "search"}))


def test_the_page_of_a_running_study_begins_with_its_progress(study: Path) -> None:
    report = report_of(study)
    with (study / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        page = report.page()
        assert report.running
        assert (
            page.index("quickstart is running") < page.index('<td class="n">4/4</td>') < page.index("Leaderboard</h2>")
        )
    page = report.page()
    assert not report.running
    assert "quickstart is not running" in page
    assert '<td class="n">4/4</td>' not in page


def test_it_follows_the_study_and_writes_nothing(study: Path) -> None:
    def stats() -> dict[str, tuple[int, int]]:
        return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(study.rglob("*"))}

    report, before = report_of(study), stats()
    first = report.page()
    assert report.page() is first
    assert stats() == before
    add_trial(study)
    assert report.page() is not first
    test = next(study.glob("trials/**/test.json"))
    second = report.page()
    test.unlink()
    assert report.page() is not second


def test_a_page_is_used_again_for_a_while(study: Path) -> None:
    report = report_of(study, every=3600)
    first = report.page()
    add_trial(study)
    assert report.page() is first


def test_a_study_that_has_not_begun_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "study.yaml").write_text(
        load_config({"name": "new", "datasets": ["av_digits"], "methods": ["mlb"]}).as_yaml()
    )
    assert "new is not running; 0 s of device time so far." in report_of(tmp_path / "new").page()


def answer(report: LiveReport, path: str = "/", host: str | None = None) -> tuple[int, str]:
    with ThreadingHTTPServer((HOST, 0), handler_of(report)) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        request = urllib.request.Request(f"http://{HOST}:{server.server_port}{path}")
        if host:
            request.add_header("Host", host)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                assert response.headers["Refresh"] == "60"
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def test_what_is_asked_for_is_the_page_or_nothing(study: Path) -> None:
    report = report_of(study)
    assert answer(report) == (200, report.page())
    assert answer(report, "/?again")[0] == 200
    assert answer(report, "/../study.yaml")[0] == 404
    assert answer(report, host="localhost:5100")[0] == 200
    assert answer(report, host="elsewhere.example:5100")[0] == 403


def test_why_there_is_no_report_is_one_line(study: Path) -> None:
    def folder() -> StudyFolder:
        raise UserError("a study must exist, but <none> is there.")

    code, page = answer(LiveReport(folder, 0.0))
    assert code == 503
    assert "a study must exist, but &lt;none&gt; is there." in page


def test_it_serves_on_the_loopback_interface_and_ends_with_ctrl_c(study: Path) -> None:
    with socket.socket() as occupied:
        occupied.bind((HOST, 0))
        occupied.listen()
        port = occupied.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-u", "-m", "balance_tune", "watch", "quickstart", "--root", str(study.parent),
             "--port", str(port)],
            cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, env=os.environ | {"NO_PROXY": "*"},
        )  # fmt: skip
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            match = re.fullmatch(r"The report of quickstart is at (http://127\.0\.0\.1:(\d+)), .*\n", line)
            assert match is not None, line
            assert int(match[2]) > port
            with urllib.request.urlopen(match[1], timeout=60) as page:
                assert "quickstart is not running" in page.read().decode()
            shutil.rmtree(study)
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 0
        finally:
            server.kill()
            server.communicate()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quikstart"], "Did you mean `quickstart`?"),
        (["quickstart", "--every", "0"], "must be a whole number of seconds from 1 on"),
        (["quickstart", "--port", "70000"], "must be a whole number from 1 to 65535"),
    ],
)
def test_a_mistake_is_one_line(study: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", *words, "--root", str(study.parent)]) == 2
    assert message in capsys.readouterr().err
