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


@contextmanager
def server(programs: Path) -> Iterator[str]:
    """Run a server in a new folder and yield the URL of its empty database."""
    user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    (folder / "password").write_text(PASSWORD)
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["-D", str(folder / "data")]

    def run(program: str, *words: str) -> None:
        with (folder / "out").open("ab") as out:  # pg_ctl's child would keep a pipe open
            subprocess.run(
                [str(programs / program), *where, *words],
                check=True,
                user=user,
                cwd="/",
                stdout=out,
                stderr=out,
                env={"PATH": "/usr/bin:/bin"},
            )

    try:
        run("initdb", "-U", "tester", "-E", "UTF8", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://tester:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
