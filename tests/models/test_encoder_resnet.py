"""A ResNet-18 starts from a local checkpoint, in which nothing is executed, and is made again without it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from balance_tune.errors import UserError
from balance_tune.models.encoder_resnet import ResNet18, read_weights
from balance_tune.models.multimodal import ModelSpec


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18(weights=None).state_dict(), path)
    return path


def test_a_checkpoint_of_torchvision_gives_its_features(checkpoint: Path) -> None:
    net = resnet18(weights=None)
    net.load_state_dict(torch.load(checkpoint, weights_only=True))
    net.fc = torch.nn.Identity()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(
        ResNet18((3, 32, 32), weights=str(checkpoint)).eval()(x), net.eval()(x), rtol=1e-4, atol=1e-5
    )


def test_a_first_convolution_of_other_channels_answers_the_same_to_the_same_in_all_channels(checkpoint: Path) -> None:
    grey = torch.randn(2, 1, 32, 32)
    three = ResNet18((3, 32, 32), weights=str(checkpoint)).eval()(grey.expand(-1, 3, -1, -1))
    one = ResNet18((1, 32, 32), weights=str(checkpoint)).eval()(grey)
    torch.testing.assert_close(one, three, rtol=1e-3, atol=1e-4)


def test_safetensors_and_wrapped_checkpoints_are_read_too(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}}, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        assert torch.equal(read_weights(tmp_path / name)["conv1.weight"], state["conv1.weight"])


def test_a_trained_model_is_made_without_the_checkpoint_it_started_from(checkpoint: Path) -> None:
    spec = ModelSpec({"image": ((3, 32, 32), "resnet18", {"weights": str(checkpoint), "batch_norm_scale": 0.02})}, 2)
    assert spec.trained().encoders["image"] == ((3, 32, 32), "resnet18", {"batch_norm_scale": 0.02})


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_what_is_no_checkpoint_is_one_line_and_is_not_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"conv1.weight": _Payload()}, tmp_path / "evil.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "part.pth")
    for name, message in {
        "evil.pth": "must be a checkpoint of tensors by name",
        "empty.pth": "must be a checkpoint of tensors by name",
        "list.pth": "holds something else",
        "part.pth": r"101 of \d+ tensors|tensors are missing",
        "none.pth": "must be a file on this machine",
    }.items():
        with pytest.raises(UserError, match=message):
            ResNet18((3, 32, 32), weights=str(tmp_path / name))
    assert "executed" not in capsys.readouterr().out
