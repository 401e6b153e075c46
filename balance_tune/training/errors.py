"""How a training run ends that does not reach its last epoch: by itself, by its device, or because it was stopped."""

import re

import torch

FAILURE = re.compile(
    r"CUDA error|CUDA driver|NVIDIA driver|No CUDA GPUs|not compiled with CUDA|CUDNN_STATUS|cuDNN error|CUBLAS_STATUS"
    r"|NCCL error"
)


class Diverged(ArithmeticError):
    """The loss or the model's answers are no longer finite; the trial has failed and the study goes on."""


class DeviceError(RuntimeError):
    """The device does not work; nothing is known of the trial, which can be run again elsewhere."""


def device_failed(error: BaseException) -> bool:
    """Return whether an exception says that a GPU, or the way to another one, failed; one that is full did not.

    After a CUDA error every further call in the process fails too.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return False
    if isinstance(error, DeviceError | torch.AcceleratorError | torch.distributed.DistBackendError):
        return True
    return isinstance(error, RuntimeError) and FAILURE.search(str(error)) is not None


class Stopped(Exception):
    """The trial was asked to stop in the middle of an epoch."""
