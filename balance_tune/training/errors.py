"""Failures of a training run that are results of it, not bugs."""


class Diverged(ArithmeticError):
    """The loss or the model's answers are no longer finite; the trial has failed and the study goes on."""


class Stopped(Exception):
    """The trial was told to stop in the middle of an epoch."""
