import json
from pathlib import Path

import pytest

from balance_tune.cli import main
from tests.studies.tracking.servers import free_port


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(list(argv))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_miniature_is_made_prepared_verified_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, root = str(tmp_path / "source"), ["--root", str(tmp_path / "root")]
    assert run(capsys, "data", "miniature", "crema_d", "--out", source)[0] == 0
    status, out, err = run(
        capsys, "data", "prepare", "crema_d", "--recipe", "mlb", "--source", source, "--workers", "1", *root
    )
    assert status == 0
    assert "preparing crema_d_mlb: 24 of 24 samples" in err
    assert "257 x 188" in out
    status, out, _ = run(capsys, "data", "verify", "crema_d_mlb", *root)
    assert status == 0
    assert "every hash, shape, range and count as stated (train 14, monitor 2, val 4, test 4)" in out
    told = json.loads(run(capsys, "data", "info", str(tmp_path / "root/data/crema_d_mlb"), "-f", "json")[1])
    assert told["modalities"]["visual"] == {
        "stored": [3, 3, 256, 256],
        "dtype": "uint8",
        "model_sees": [3, 3, 224, 224],
        "encoder": "resnet18",
        "range": told["modalities"]["visual"]["range"],
    }
    assert run(capsys, "data", "miniature", "crema_d", "--out", source)[0] == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["prepare", "crema_d", "--source", "nowhere"], "the source of `crema_d` must be a folder with AudioWAV/"),
        (["prepare", "cremad", "--source", "."], "but got `cremad`; did you mean `crema_d`?"),
        (["prepare", "crema_d", "--recipe", "ogn", "--source", "."], "a recipe of crema_d must be one that exists"),
        (["prepare", "watch", "--source", "."], "dataset `watch` needs no preparation"),
        (["prepare", "crema_d"], "--source"),
        (["verify", "nowhere"], "a store must be a folder or URI with a manifest.json, or a dataset's name"),
        (["info", "crema_d"], "balance-tune data prepare crema_d"),
        (["unpack", "crema_d"], "unpack"),
    ],
)
def test_a_mistake_is_one_line(
    argv: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "data", *argv)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("action", ["info", "verify"])
def test_a_store_that_does_not_answer_is_one_line(
    action: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    place = f"s3://bucket/data/crema_d?scheme=http&endpoint_override=127.0.0.1:{free_port()}"
    status, out, err = run(capsys, "data", action, place)
    assert (status, out) == (2, "")
    assert "s3://bucket/data/crema_d must be a place that can be read, but: " in err
    assert err.count("\n") == 1
