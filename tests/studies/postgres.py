"""A PostgreSQL server of the tests' own, as a child process on the loopback; None where it is not installed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLACES = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt")


def binaries() -> Path | None:
    """Return the folder of the server's programs."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    return next((p.parent for place in PLACES for p in sorted(Path(place).glob("*/bin/initdb"), reverse=True)), None)


@contextmanager
def server(programs: Path) -> Iterator[str]:
    """Yield the URL of an empty database; the server is ended by its process id."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    account = {"user": "postgres"} if os.getuid() == 0 else {}  # it refuses to run as root
    if account:
        shutil.chown(folder, "postgres")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    data = folder / "data"
    make = [str(programs / "initdb"), "-D", str(data), "-U", "tester", "--auth=trust", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder, **account)  # type: ignore[call-overload]
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1"]
    process = subprocess.Popen([*command, "-F"], stderr=subprocess.PIPE, text=True, cwd=folder, **account)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "ready to accept connections" in line:
                break
        yield f"postgresql://tester:secret@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)
