"""Where a study's own Ray puts its sockets and its token, and who can reach it."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.cluster import own_ray, ray_cluster
from balance_tune.studies.cluster.own_ray import (
    is_on_loopback,
    modules_for_workers,
    private_token,
    ray_folder,
    shared_memory_free,
    small_shared_memory,
)
from balance_tune.studies.cluster.ray_cluster import OBJECT_STORE
from balance_tune.studies.config.schema import Resources

LISTENING = """
import json
import psutil
import ray
from balance_tune.studies.cluster.ray_cluster import ray_for
from balance_tune.studies.config.schema import Resources
with ray_for(Resources(), cpus=1):
    @ray.remote
    def work(): return 1
    assert ray.get(work.remote()) == 1
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    ports = {}
    for process in family:
        for c in process.net_connections("inet"):
            if c.status == psutil.CONN_LISTEN:
                ports[f"{process.name()}:{c.laddr.port}"] = c.laddr.ip
    print(json.dumps(ports))
"""


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_TMPDIR", "TMPDIR", "XDG_RUNTIME_DIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


def test_a_short_folder_is_left_to_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.setattr(own_ray, "_usable", lambda folder: True)
    assert ray_folder() is None


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_too_long_for_sockets_is_replaced(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("slurm_jobdir_" + "x" * 60)
    long.mkdir()
    monkeypatch.setenv(variable, str(long))
    folder = ray_folder()
    assert folder is not None
    assert len(folder) + own_ray.BELOW <= own_ray.LONGEST_SOCKET
    assert Path(folder).stat().st_uid == os.getuid()


def test_the_ray_folder_of_another_user_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_ray, "_usable", lambda folder: folder != Path("/tmp/ray"))
    assert ray_folder() == f"/tmp/ray-{os.getuid()}"


def test_a_folder_that_somebody_else_laid_there_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert not own_ray._private(tmp_path / "link")
    assert own_ray._private(tmp_path / "mine")


def test_without_any_folder_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_ray, "_usable", lambda folder: False)
    monkeypatch.setattr(own_ray, "_private", lambda folder: False)
    with pytest.raises(UserError, match="set RAY_TMPDIR to a short folder of your own"):
        ray_folder()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("mib", "small"), [(0, True), (64, True), (99, True), (100, False), (4096, False)])
def test_a_small_shared_memory_is_one_line(mib: int, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = os.statvfs_result((4096, 1024, 2**30, 2**30, mib * 1024, 0, 0, 0, 0, 255))  # a block is 1 KiB
    asked: list[object] = []
    monkeypatch.setattr(os, "statvfs", lambda place: asked.append(place) or blocks)
    note = small_shared_memory(shared_memory_free(), OBJECT_STORE)
    assert asked == ["/dev/shm"]
    assert (note is not None) == small
    if note is not None:
        assert note.startswith(f"/dev/shm has {mib} MiB free, and Ray's object store takes 100, so Ray keeps it in")
        assert "docker run --shm-size=2g" in note
        assert "\n" not in note


def test_no_shared_memory_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_ray, "SHARED_MEMORY", "/nowhere")
    assert shared_memory_free() is None
    assert small_shared_memory(None, OBJECT_STORE) is None


@pytest.mark.parametrize(("workers", "lines"), [(1, 0), (2, 1)])
def test_it_is_said_where_a_trial_has_several_workers(
    workers: int, lines: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, object] = {}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_cluster, "start", options.update)
    monkeypatch.setattr(ray_cluster, "disconnect", lambda: None)
    monkeypatch.setattr(ray_cluster, "private_token", lambda: None)
    monkeypatch.setattr(ray_cluster, "shared_memory_free", lambda: 64 * 2**20)
    monkeypatch.setattr("ray.cluster_resources", dict)
    with ray_cluster.ray_for(Resources(workers=workers)):
        assert options["object_store_memory"] == OBJECT_STORE
    assert [r.getMessage()[:29] for r in caplog.records] == ["/dev/shm has 64 MiB free, and"] * lines


def test_a_token_is_made_that_nobody_else_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    private_token()
    path = tmp_path / ".ray" / "auth_token"
    assert (mode(path), len(path.read_text())) == (0o600, 64)
    before = path.read_text()
    path.chmod(0o644)  # as Ray leaves it
    private_token()
    assert (mode(path), path.read_text()) == (0o600, before)


def test_where_the_home_folder_cannot_be_written_the_token_is_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    private_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "given")])
def test_what_the_user_chose_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(name, value)
    private_token()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "bound", "alone"),
    [("127.0.0.1", "127.0.0.1", True), ("localhost", "127.0.0.1", True), ("127.0.0.1", "0.0.0.0", False),
     ("10.1.2.3", "127.0.0.1", False)],
)  # fmt: skip
def test_a_cluster_is_on_loopback_where_this_machines_network_address_does_not_reach_it(
    monkeypatch: pytest.MonkeyPatch, host: str, bound: str, alone: bool
) -> None:
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.2")  # another address of this machine
    with socket.socket() as server:
        server.bind((bound, 0))
        server.listen()
        assert is_on_loopback(host, server.getsockname()[1]) is alone


@pytest.mark.ray
def test_another_process_joins_a_ray_that_listens_on_loopback(cluster: None) -> None:
    import ray

    program = (
        "from balance_tune.studies.cluster.ray_cluster import ray_for\n"
        "from balance_tune.studies.config.schema import Resources\n"
        "with ray_for(Resources()) as resources: print(resources['CPU'])\n"
    )
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address, "RAY_AUTH_MODE": "token"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["2.0"], done.stderr


@pytest.mark.ray
def test_everything_that_a_study_starts_listens_on_loopback_alone(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment["TMPDIR"] = str(tmp_path / ("a_long_folder_as_batch_systems_make_them_" + "x" * 40))
    Path(environment["TMPDIR"]).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    ports = json.loads(done.stdout.splitlines()[-1])
    assert {name.partition(":")[0] for name in ports} >= {"gcs_server", "raylet"}
    assert {address.removeprefix("::ffff:") for address in ports.values()} <= {"127.0.0.1", "::1"}, ports


def test_folders_of_modules_reach_what_is_started_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", ["", os.path.dirname(os.__file__), "/tmp/one", *sys.path, "../code"])
    for before in (None, "/tmp/one"):
        monkeypatch.delenv("PYTHONPATH", raising=False)
        if before:
            monkeypatch.setenv("PYTHONPATH", before)
        with modules_for_workers():
            folders = os.environ["PYTHONPATH"].split(os.pathsep)
        assert os.environ.get("PYTHONPATH") == before
        assert folders[:2] == [str(tmp_path / "here"), "/tmp/one"]
        assert folders[-1] == str(tmp_path / "code")
        assert not [f for f in folders if "site-packages" in f or f.startswith(os.path.dirname(os.__file__))]
