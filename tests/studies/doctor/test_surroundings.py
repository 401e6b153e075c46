"""What the checks of a study's surroundings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.studies.doctor import surroundings

MIB = 2**20


@pytest.mark.parametrize(
    ("others", "address", "state"),
    [
        ([], None, "ok"),
        ([], "10.0.0.1:6379", "ok"),
        (["127.0.0.1:6379"], None, "warn"),
        (["127.0.0.1:6379", "127.0.0.1:6380"], None, "fail"),
        (["127.0.0.1:6379", "127.0.0.1:6380"], "127.0.0.1:6381", "ok"),
    ],
)
def test_several_rays_on_a_host_need_an_address(others: list[str], address: str | None, state: str) -> None:
    found = surroundings.instances(others, address)
    assert found.state == state
    if state == "fail":
        assert "127.0.0.1:6379, 127.0.0.1:6380" in found.words
        assert "RAY_ADDRESS" in found.remedy


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    (tmp_path / ".ray" / "auth_token").chmod(0o600)
    return tmp_path


@pytest.mark.parametrize(
    ("environment", "address", "state", "words"),
    [
        ({}, None, "ok", "there and private"),
        ({"RAY_AUTH_MODE": "token"}, "10.0.0.1:6379", "ok", "there and private"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "x"}, "10.0.0.1:6379", "ok", "is set"),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere"},
            "10.0.0.1:6379",
            "fail",
            "no token in /nowhere",
        ),
        ({"RAY_AUTH_MODE": "tokn"}, None, "fail", "RAY_AUTH_MODE is `tokn`"),
        ({}, "10.0.0.1:6379", "fail", "whoever reaches 10.0.0.1:6379 runs code on it"),
        ({"RAY_AUTH_MODE": "disabled"}, "ray://gpu:10001", "fail", "whoever reaches"),
        ({"RAY_AUTH_MODE": "disabled"}, None, "warn", "off"),
        ({}, "127.0.0.1:6379", "warn", "off"),
    ],
)
def test_the_token_is_asked_for_where_others_reach_the_cluster(
    home: Path, environment: dict[str, str], address: str | None, state: str, words: str
) -> None:
    found = surroundings.token(environment, address, home)
    assert (found.state, words in found.words) == (state, True), found
    assert "secret" not in str(found)


def test_a_token_that_others_may_read_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".ray" / "auth_token").chmod(0o644)
    for folder in (home, home / ".ray"):
        folder.chmod(0o755)
    monkeypatch.setattr(Path, "parents", property(lambda path: [home / ".ray", home]))
    assert "chmod 600" in surroundings.token({}, None, home).remedy
    home.chmod(0o700)  # nobody else comes so far
    assert surroundings.token({}, None, home).state == "ok"


def test_without_a_token_ray_makes_one_for_a_local_cluster(tmp_path: Path) -> None:
    assert surroundings.token({}, None, tmp_path).state == "ok"


@pytest.mark.parametrize(
    ("status", "body", "state", "remedy"),
    [
        (200, "", "ok", ""),
        (None, "Connection refused", "fail", "MLFLOW_TRACKING_URI"),
        (403, "Invalid Host header - possible DNS rebinding attack detected", "fail", "--allowed-hosts"),
        (401, "", "fail", "MLFLOW_TRACKING_USERNAME"),
        (502, "Bad gateway", "fail", "log"),
    ],
)
def test_each_answer_of_mlflow_has_its_remedy(status: int | None, body: str, state: str, remedy: str) -> None:
    found = surroundings.mlflow("http://mlflow:5000", status, body)
    assert found.state == state
    assert remedy in found.remedy


@pytest.mark.parametrize(("size", "state"), [(1, "ok"), (60, "warn"), (101, "fail")])
def test_a_large_working_directory_is_told_with_what_is_large_in_it(size: int, state: str) -> None:
    found = surroundings.working_dir("/home/me", size * MIB, "videos", 100 * MIB)
    assert found.state == state
    assert (".rayignore" in found.remedy and "videos" in found.words) == (state != "ok")
