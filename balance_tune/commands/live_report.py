"""The report of a study as it is now, and a server for it on this machine; both only read the study."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from balance_tune.commands import status
from balance_tune.errors import UserError
from balance_tune.studies.results.report.html import render
from balance_tune.studies.results.report.sources import gather
from balance_tune.studies.signals import LOOK_EVERY, EndRequest
from balance_tune.studies.storage.exclusive import is_running
from balance_tune.studies.storage.files import JOURNAL
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.page import HOST, free_port

HOSTS = (HOST, "localhost")  # what a browser on this machine, or behind a tunnel, calls this server
IDLE = 60  # seconds after which a browser loads the page of a study that does not run again
TEMPLATES = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
PROGRESS = TEMPLATES.from_string("""\
<section aria-label="Progress">
<p><b>{{ sentence }}</b></p>
{% if rows %}
<div class="wide"><table class="compact">
<thead><tr>
{% for head in headers %}
<th{% if not loop.first %} class="n"{% endif %}>{{ head }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}
<tr>{% for cell in row %}<td{% if not loop.first %} class="n"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% endif %}
</section>
""")
PLAIN = TEMPLATES.from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ name }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 28px 24px; }
th, td { text-align: left; padding: 3px 16px 3px 0; }
</style>
</head>
<body>
<h1>{{ name }}</h1>
{{ body }}
</body>
</html>
""")


class LiveReport:
    """The report of a study as it is now.

    It holds no lock and writes nothing, so that it cannot disturb a driver.

    Args:
        folder: returns the study's folder, with what an object store has of it.
        every: seconds for which a page is used again.
    """

    def __init__(self, folder: Callable[[], StudyFolder], every: float) -> None:
        self.every, self.running = every, False
        self._folder = folder
        self._page, self._stamp, self._looked = "", object(), -float("inf")
        self._lock = threading.Lock()

    def page(self) -> str:
        """Return the page, rendered again where the study has changed and the last look is `every` seconds ago.

        Raises:
            UserError: the study was deleted, or one of its files cannot be read.
        """
        with self._lock:
            if time.monotonic() - self._looked < self.every:
                return self._page
            folder = self._folder()
            stamp = _stamp(folder)
            if stamp != self._stamp:
                state = status.state_of(folder)
                self._page, self.running = _rendered(folder, state), state["running"]
            self._stamp, self._looked = stamp, time.monotonic()
            return self._page


def _stamp(folder: StudyFolder) -> object:
    """Return a value that changes with the study; where files do not show a change, a new value each time."""
    journal = folder.path / JOURNAL
    if folder.store is not None or not journal.is_file():  # trials in a database, or none yet
        return object()
    stats = [path.stat() for path in (journal, folder.path / "study.yaml")]
    evaluated = sum(1 for _ in folder.path.glob("trials/**/test.json"))
    return [(stat.st_size, stat.st_mtime_ns) for stat in stats], evaluated, is_running(folder)


def _rendered(folder: StudyFolder, state: dict[str, Any]) -> str:
    rows = status.cells(state) if state["running"] else []
    progress = Markup(PROGRESS.render(sentence=status.sentence(state), headers=status.HEADERS, rows=rows))
    if not state["begun"]:
        return PLAIN.render(name=state["study"], body=progress)
    return render(gather(folder.path), progress)


def serve(report: LiveReport, study: str, port: int) -> int:
    """Print the address of a report and serve it on the loopback interface until a signal ends it; return 0.

    Args:
        report: what is served.
        study: its name, for the printed line.
        port: the port to listen on, or the next free one.
    """
    with ThreadingHTTPServer((HOST, free_port(HOST, port)), handler_of(report)) as server, EndRequest() as request:
        print(
            f"The report of {study} is at http://{HOST}:{server.server_port}, updated every {report.every:g} s "
            "(Ctrl-C ends it)",
            flush=True,
        )
        server.timeout = LOOK_EVERY
        while not request.requested:
            server.handle_request()
        print()  # behind the terminal's ^C
    return 0


def handler_of(report: LiveReport) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers requests for `report`."""

    class Handler(_Handler):
        live = report

    return Handler


class _Handler(BaseHTTPRequestHandler):
    """Answers requests for the one page there is."""

    live: LiveReport

    def do_GET(self) -> None:
        """Send the page, or the one line that says why there is none."""
        if self.headers.get("Host", HOST).partition(":")[0] not in HOSTS:  # a page of another site is asking
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path.partition("?")[0] != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            try:
                self._send(HTTPStatus.OK, self.live.page())
            except UserError as error:
                self._send(HTTPStatus.SERVICE_UNAVAILABLE, PLAIN.render(name="There is no report now", body=str(error)))

    def _send(self, code: HTTPStatus, page: str) -> None:
        body = page.encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Refresh", f"{self.live.every if self.live.running else IDLE:g}")  # the browser loads it again
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log no request."""
