"""How a training run ends that does not reach its last epoch: by itself, by its device, or because it was stopped."""


class Diverged(ArithmeticError):
    """The loss or the model's answers are no longer finite; the trial has failed and the study goes on."""


class DeviceFailure(RuntimeError):
    """The device does not work; nothing is known of the trial, which can be run again elsewhere."""


class Stopped(Exception):
    """The trial was told to stop in the middle of an epoch."""
