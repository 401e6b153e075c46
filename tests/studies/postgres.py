"""A PostgreSQL server of the tests' own, on the loopback and with a password; nothing where it is not installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLACES = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt")
PASSWORD = "kept-secret-7f"  # tests look for it where it must not be


def binaries() -> Path | None:
    """Return the folder with initdb, pg_ctl and postgres, the newest there is."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    folders = [path.parent for place in PLACES for path in Path(place).glob("*/bin/initdb")]
    return max(folders, key=lambda path: path.parent.name, default=None)


class Postgres:
    """An empty database in a new folder; it can be stopped as a crash would, and started again at the same address."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if self._user:
            for path in (self.folder, password):
                shutil.chown(path, self._user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"postgresql://tester:{PASSWORD}@127.0.0.1:{self._port}/postgres"
        self._run("initdb", "-U", "tester", "-E", "UTF8", "-A", "scram-sha-256", f"--pwfile={password}")

    def start(self) -> None:
        options = f"-p {self._port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-m", "immediate", "stop")

    def _run(self, program: str, *words: str) -> None:
        with (self.folder / "out").open("ab") as out:  # pg_ctl's child would keep a pipe open
            subprocess.run(
                [str(self._programs / program), "-D", str(self.folder / "data"), *words],
                check=True,
                user=self._user,
                cwd="/",
                stdout=out,
                stderr=out,
                env={"PATH": "/usr/bin:/bin"},
            )


@contextmanager
def server(programs: Path) -> Iterator[Postgres]:
    """Run a server."""
    made = Postgres(programs)
    try:
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)
