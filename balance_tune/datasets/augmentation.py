"""What a user may ask for in training (`augment:` of a recipe or study), as operations on stored samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from balance_tune.datasets.modality import Modality, Operation
from balance_tune.errors import UserError


@dataclass(frozen=True)
class _Number:
    """A setting: its default (None: it must be given), bounds, and whether it is a pair or a whole number."""

    default: Any
    low: float
    high: float
    pair: bool = False
    whole: bool = False


_P = _Number(0.5, 0.0, 1.0)
_SHARE = _Number(0.0, 0.0, 1.0)
_COUNT = _Number(1, 1, 1000, whole=True)
_WIDTH = _Number(None, 1, 1e6, whole=True)
AUGMENTATIONS: dict[str, dict[str, _Number]] = {
    "crop": {"of": _Number(None, 1, 1e5, whole=True)},
    "resized_crop": {
        "scale": _Number((0.08, 1.0), 0.001, 1.0, pair=True),
        "ratio": _Number((3 / 4, 4 / 3), 0.01, 100, pair=True),
    },
    "flip": {"p": _P},
    "rotate": {"degrees": _Number(None, 0.0, 180.0)},
    "colour": {"brightness": _SHARE, "contrast": _SHARE, "saturation": _SHARE},
    "mask_frequency": {"width": _WIDTH, "count": _COUNT},
    "mask_time": {"width": _WIDTH, "count": _COUNT},
}
"""Augmentation -> its settings, in the order in which they are applied."""
PICTURES = ("crop", "resized_crop", "flip", "rotate", "colour")
SOUNDS = ("mask_frequency", "mask_time")
WINDOWS = ("centre_crop", "resize")  # of evaluation; a random one takes their place
FILTER_BANK = 128  # bands


def checked(augment: Any, allowed: Sequence[str], where: str) -> dict[str, dict[str, Any]]:
    """Return augmentations with all their settings, in the order in which they are applied.

    Args:
        augment: what a user wrote: augmentation -> settings.
        allowed: the augmentations that fit.
        where: what it is for, for messages.

    Raises:
        UserError: an augmentation or setting does not exist or fit, or a number is out of bounds.
    """
    if not isinstance(augment, Mapping):
        raise UserError(f"`augment` of {where} must map augmentations to their settings, but is {augment!r:.60}.")
    for name in augment:
        if name not in allowed:
            fits = f"may be {', '.join(allowed)}" if allowed else "must be empty"
            raise UserError(f"`augment` of {where} {fits}, but has `{name}`.")
    if "crop" in augment and "resized_crop" in augment:
        raise UserError(f"`augment` of {where} may have `crop` or `resized_crop`, but has both.")
    augmentations = {}
    for name, settings in AUGMENTATIONS.items():
        if name not in augment:
            continue
        values = augment[name] or {}
        if not isinstance(values, Mapping) or any(key not in settings for key in values):
            raise UserError(f"`{name}` of {where} must have settings of {', '.join(settings)}, but is {values!r:.60}.")
        augmentations[name] = {
            key: _value(values, key, number, f"`{name}.{key}` of {where}") for key, number in settings.items()
        }
    return augmentations


def _value(settings: Mapping[str, Any], key: str, number: _Number, where: str) -> Any:
    value = settings.get(key, number.default)
    values = list(value) if number.pair and isinstance(value, list | tuple) else [value]
    kind: Any = int if number.whole else int | float
    bounds = f"{number.low:g} to {number.high:g}"
    if len(values) != (2 if number.pair else 1) or any(isinstance(v, bool) or not isinstance(v, kind) for v in values):
        what = "two numbers" if number.pair else "a whole number" if number.whole else "a number"
        raise UserError(f"{where} must be {what} from {bounds}, but is {value!r:.40}.")
    if any(not number.low <= v <= number.high for v in values) or values != sorted(values):
        raise UserError(f"{where} must lie from {bounds}{', the lower first' if number.pair else ''}, but is {value}.")
    return values if number.pair else value


def augmented(modality: Modality, augment: Mapping[str, Mapping[str, Any]], *, time_first: bool = False) -> Modality:
    """Return a modality with other operations in training.

    Where `augment` has no crop, training takes the same window as evaluation; where it is empty, training samples are
    exactly those of evaluation.

    Args:
        modality: what a store holds and how it is evaluated.
        augment: as `checked` returns it.
        time_first: whether the second last axis of a sound is time (a filter bank), not frequency (a spectrogram).
    """
    size = modality.shape[-1]
    cropped = "resized_crop" in augment or "crop" in augment
    operations = [entry for entry in modality.evaluate if not (cropped and entry[0] in WINDOWS)]
    for name, settings in augment.items():
        if name == "crop":
            operations.append(("random_crop", {"size": size}))
        elif name == "resized_crop":
            operations.append(("random_resized_crop", {"size": size, **settings}))
        elif name in SOUNDS and time_first:
            operations.append((SOUNDS[1 - SOUNDS.index(name)], dict(settings)))
        else:
            operations.append((name, dict(settings)))
    return replace(modality, augment=tuple(operations))


def overridden(modalities: Mapping[str, Modality], augment: Mapping[str, Any]) -> dict[str, Modality]:
    """Return a dataset's modalities with the augmentation that a study gives to some of them, whatever they had.

    Raises:
        UserError: what a modality's store holds cannot be augmented so.
    """
    results = dict(modalities)
    for name, wanted in augment.items():
        if name not in modalities:
            continue
        modality, where = modalities[name], f"modality `{name}`"
        picture = modality.dtype == "uint8" and modality.stored[0] == 3 and len(modality.stored) in (3, 4)
        sound = modality.dtype in ("int16", "float16") and len(modality.stored) == 3 and modality.stored[0] == 1
        settings = checked(wanted, PICTURES if picture else SOUNDS if sound else (), where)
        if "crop" in settings and settings["crop"]["of"] != modality.stored[-1]:
            raise UserError(
                f"`crop.of` of {where} must be the size of its stored pictures, {modality.stored[-1]}, but is "
                f"{settings['crop']['of']}."
            )
        if "crop" in settings and min(modality.stored[-2:]) < modality.shape[-1]:
            raise UserError(f"{where} is stored smaller than the model sees it; use `resized_crop`.")
        bank = modality.dtype == "float16" and modality.shape[-1] == FILTER_BANK
        results[name] = augmented(modality, settings, time_first=bank)
    return results


def described(modality: Modality) -> dict[str, str]:
    """Return in words what is done to a stored sample in training and in evaluation."""
    return {"training": _words(modality.augment), "evaluation": _words(modality.evaluate)}


def _words(operations: Sequence[Operation]) -> str:
    phrases = [
        name + (f" ({', '.join(f'{key} {_plain(value)}' for key, value in settings.items())})" if settings else "")
        for name, settings in operations
    ]
    return ", ".join(phrases) or "as stored"


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " to ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
