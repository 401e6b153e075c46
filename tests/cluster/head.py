"""A Ray head as a child process of the tests, with token authentication; ended by its process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
PATIENCE = 120.0


@dataclass(frozen=True)
class Head:
    """A running head: its folder, its dashboard's address, and the environment in which it is reached."""

    folder: Path
    address: str
    gcs: str
    environment: Mapping[str, str]
    pid: int


def free_port() -> int:
    """Return a port that nobody listens on, below those that Ray hands out to its workers."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def processes(word: str) -> dict[int, str]:
    """Return ids and command lines of living processes that hold `word` in command line or environment."""
    found = {}
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or path.name == str(os.getpid()):
            continue
        try:
            line = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if word.encode() in line and state != "Z":
            found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    return found


@contextmanager
def running_head(*options: str, cpus: int = 2, port: int | None = None, **environment: str) -> Iterator[Head]:
    """Start a head, wait until it takes jobs, and end it; nothing of it is left, or the test fails and it is ended.

    Its folder has a short name, because sockets lie in it.
    """
    folder = Path(tempfile.mkdtemp(prefix="bt"))
    token = folder / "token"
    token.write_text("ab" * 16)
    token.chmod(0o600)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "BALANCE_TUNE_", "MLFLOW_"))}
    env |= {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0", "HOME": str(folder), "BALANCE_TUNE_SAVE_EVERY_S": "0", "BT_TEST": str(folder),
        "PATH": f"{RAY.parent}:{os.environ['PATH']}",
    }  # fmt: skip
    env |= environment
    port, dashboard = port or free_port(), free_port()
    command = [
        str(RAY), "start", "--head", "--block", f"--port={port}", "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}",
        f"--ray-client-server-port={free_port()}", f"--num-cpus={cpus}", "--disable-usage-stats",
        "--object-store-memory=104857600", *options,
    ]  # fmt: skip
    log = (folder / "head.log").open("wb")
    head = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{dashboard}"
        deadline = time.monotonic() + PATIENCE
        while ray("job", "list", "--address", address, env=env).returncode:
            assert head.poll() is None, (folder / "head.log").read_text()
            assert time.monotonic() < deadline, "the head does not answer"
        yield Head(folder, address, f"127.0.0.1:{port}", env, head.pid)
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(timeout=PATIENCE)
        log.close()
        deadline = time.monotonic() + PATIENCE
        while (left := processes(str(folder))) and time.monotonic() < deadline:
            time.sleep(0.2)
        for pid in left:
            with suppress(ProcessLookupError):  # one may end with another
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
    assert left == {}


def ray(*words: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command of Ray's."""
    return subprocess.run([str(RAY), *words], env=dict(env), capture_output=True, text=True, timeout=300)


def balance_tune(*words: str, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of ours, as a user would, with standard output and error in one."""
    return subprocess.run(
        [sys.executable, "-m", "balance_tune", *words],
        env=dict(env), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
    )  # fmt: skip
