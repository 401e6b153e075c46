"""What a method says about itself, as plain data.

python -m balance_tune.modulations.card > docs/methods.md
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.card_text import as_markdown, number
from balance_tune.modulations.published import Published, published
from balance_tune.registry import modulations
from balance_tune.tasks import TASKS
from balance_tune.tunable import tunables, words

EPOCHS = 100  # of the run in whose terms a card says when a trial is judged
TOUCHES: dict[str, str] = {
    "auto": "4-D convolution weights of an encoder that has such, else its weights of two or more dimensions",
    "conv4d": "4-D convolution weights of the encoders",
    "ndim>=2": "weights of two or more dimensions of the encoders",
    "encoder": "all parameters of the encoders",
    "encoder+head": "all parameters of the encoders, and those weights of the fusion that serve one modality alone",
}


def card(cls: type[Modulation]) -> dict[str, Any]:
    """Return a method's card as plain, JSON-able data.

    Keys: name, paper, summary (the docstring's first line), description (the rest: formula, deviations),
    hyperparameters {name: default, kind, low, high, log, choices, searched, source}, window, touches (which parameters'
    gradients, under the default policy; None where there is no policy to choose), cost, neutral, tasks (None: all),
    judged (when a trial may be), needs (what a training loop of the user's lacks for it; None: nothing), variants
    (whether every modality makes an arm of its own), published (numbers of papers: dataset, value, selection, setting,
    source).
    """
    summary, _, description = (inspect.getdoc(cls) or "").partition("\n")
    defaults = {f.name: f.default for f in dataclasses.fields(cls) if f.init}
    return {
        "name": cls.name,
        "paper": cls.paper,
        "summary": summary,
        "description": description.strip(),
        "hyperparameters": _hyperparameters(cls),
        "window": _window(cls, defaults),
        "touches": TOUCHES[str(defaults["policy"])] if "policy" in defaults else None,
        "cost": cls.cost or "nothing",
        "neutral": _neutral(cls.neutral()),
        "tasks": None if cls.tasks == TASKS else f"{' and '.join(cls.tasks)} only; it needs {cls.needs}",
        "judged": _judged(cls),
        "needs": _default(cls).beyond_step() or None,
        "variants": bool(cls.variants(("first", "second"))),
        "published": [_without_method(row) for row in published(cls.name)],
    }


def cards() -> list[dict[str, Any]]:
    """Return the cards of the methods that ship with the package, sorted by name; joint comes first."""
    ours = [cls for cls in modulations().classes().values() if cls.__module__.startswith("balance_tune.")]
    return [card(cls) for cls in sorted(ours, key=lambda cls: (cls is not Modulation, cls.name))]


def _hyperparameters(cls: type[Modulation]) -> dict[str, dict[str, Any]]:
    specs, hyperparameters = tunables(cls), {}
    hidden = {"modality"} | (set() if cls.windowed else {"start", "end"})
    for f in dataclasses.fields(cls):
        if f.name in hidden or not f.init or not isinstance(f.default, bool | int | float | str):
            continue
        spec = specs.get(f.name)
        choices = spec.choices if spec else words(cls).get(f.name)
        hyperparameters[f.name] = {
            "default": f.default,
            "kind": spec.kind if spec else type(f.default).__name__,
            "low": spec.low if spec else None,
            "high": spec.high if spec else None,
            "log": bool(spec and spec.log),
            "choices": None if choices is None else list(choices),
            "searched": spec is not None,
            "source": spec.source if spec else "not searched",
        }
    return hyperparameters


def _window(cls: type[Modulation], defaults: Mapping[str, Any]) -> str:
    if not cls.windowed:
        return "the whole run; the architecture is its own"
    start, end = defaults["start"], defaults["end"]
    return "the whole run" if (start, end) == (0.0, 1.0) else f"from {start:.0%} to {end:.0%} of the run"


def _neutral(neutral: Neutral | str) -> str:
    if isinstance(neutral, str):
        return f"none: {neutral}"
    if not neutral.settings:
        return "always"
    at = ", ".join(f"{name} = {number(value)}" for name, value in neutral.settings.items())
    how = "bit for bit" if not neutral.tolerance else f"to {neutral.tolerance:g}"
    like = ", ".join(f"{name} = {number(value)}" for name, value in neutral.reference_settings.items())
    return f"at {at} it is {neutral.reference}{f' with {like}' if like else ''}, {how}"


def _without_method(row: Published) -> dict[str, str]:
    return {name: value for name, value in dataclasses.asdict(row).items() if name != "method"}


def _judged(cls: type[Modulation]) -> str:
    min_epochs = _default(cls).min_epochs(EPOCHS)
    return f"from epoch {min_epochs} of {EPOCHS}" if min_epochs else "from the first epoch"


def _default(cls: type[Modulation]) -> Modulation:
    variants = cls.variants(("first", "second"))
    return cls.of({"modality": variants[0]} if variants else {})


if __name__ == "__main__":
    print(as_markdown(cards()), end="")
