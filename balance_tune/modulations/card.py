"""What a method says about itself, as plain data, as text, and as the page docs/methods.md.

python -m balance_tune.modulations.card > docs/methods.md
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from balance_tune.modulations.base import Modulation, Neutral
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
PREAMBLE = """# Methods

Generated from the classes by `python -m balance_tune.modulations.card > docs/methods.md`; `balance-tune methods NAME`
prints the same. Windows and intervals are fractions of the run. "Cost" is what a method adds to joint training's one
forward and one backward pass per step. A setting without a range is not searched; a study may set it all the same.
"""


def card(cls: type[Modulation]) -> dict[str, Any]:
    """Return a method's card as plain, JSON-able data.

    Keys: name, paper, summary (the docstring's first line), description (the rest: formula, deviations),
    hyperparameters {name: default, kind, low, high, log, choices, searched, source}, window, touches (which parameters'
    gradients, under the default policy; None where there is no policy to choose), cost, neutral, tasks (None: all),
    judged (when a trial may be), variants (whether every modality makes an arm of its own).
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
        "variants": bool(cls.variants(("first", "second"))),
    }


def cards() -> list[dict[str, Any]]:
    """Return the cards of the methods that ship with the package, sorted by name; joint comes first."""
    ours = [cls for cls in modulations().classes().values() if cls.__module__.startswith("balance_tune.")]
    return [card(cls) for cls in sorted(ours, key=lambda cls: (cls is not Modulation, cls.name))]


def as_text(card: Mapping[str, Any]) -> str:
    """Return a card for the terminal."""
    head = [card["name"], card["paper"], "", card["summary"], "", card["description"]]
    facts = [f"{name + ':':<9} {text}" for name, text in _facts(card)]
    rows = [("hyperparameter", "default", "range", "scale", "source"), *_rows(card)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    table = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
    return "\n".join([*head, "", *facts, "", *table])


def as_markdown(cards: Iterable[Mapping[str, Any]]) -> str:
    """Return docs/methods.md: a table of all methods, then each in full."""
    cards = list(cards)
    index = ["| method | what it does | cost |", "|---|---|---|"]
    index += [f"| [`{c['name']}`](#{c['name']}) | {_cell(c['summary'])} | {_cell(c['cost'])} |" for c in cards]
    return "\n".join([PREAMBLE, *index, *(line for c in cards for line in ("", _section(c)))]) + "\n"


def _section(card: Mapping[str, Any]) -> str:
    lines = [f"## {card['name']}", "", f"*{card['paper']}*", "", card["summary"], ""]
    if card["description"]:
        lines += ["```text", card["description"], "```", ""]
    lines += [f"- **{name.capitalize()}**: {text}" for name, text in _facts(card)]
    lines += ["", "| hyperparameter | default | range | scale | source |", "|---|---|---|---|---|"]
    for name, *cells in _rows(card):
        lines.append(f"| `{name}` | " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = {"window": card["window"], "touches": card["touches"], "cost": card["cost"], "neutral": card["neutral"]}
    facts |= {
        "tasks": card["tasks"],
        "judged": card["judged"],
        "arms": "one per modality" if card["variants"] else None,
    }
    return [(name, text) for name, text in facts.items() if text]


def _rows(card: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    rows = []
    for name, h in card["hyperparameters"].items():
        span = "" if h["low"] is None else f"{_number(h['low'])} to {_number(h['high'])}"
        if h["choices"] is not None:
            span = ", ".join(map(_number, h["choices"]))
        scale = ("log" if h["log"] else "linear") if h["low"] is not None else ""
        rows.append((name, _number(h["default"]), span, scale, h["source"]))
    return rows


def _hyperparameters(cls: type[Modulation]) -> dict[str, dict[str, Any]]:
    specs, found = tunables(cls), {}
    hidden = {"modality"} | (set() if cls.windowed else {"start", "end"})
    for f in dataclasses.fields(cls):
        if f.name in hidden or not f.init or not isinstance(f.default, bool | int | float | str):
            continue
        spec = specs.get(f.name)
        choices = spec.choices if spec else words(cls).get(f.name)
        found[f.name] = {
            "default": f.default,
            "kind": spec.kind if spec else type(f.default).__name__,
            "low": spec.low if spec else None,
            "high": spec.high if spec else None,
            "log": bool(spec and spec.log),
            "choices": None if choices is None else list(choices),
            "searched": spec is not None,
            "source": spec.source if spec else "not searched",
        }
    return found


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
    at = ", ".join(f"{name} = {_number(value)}" for name, value in neutral.settings.items())
    how = "bit for bit" if not neutral.tolerance else f"to {neutral.tolerance:g}"
    like = ", ".join(f"{name} = {_number(value)}" for name, value in neutral.reference_settings.items())
    return f"at {at} it is {neutral.reference}{f' with {like}' if like else ''}, {how}"


def _judged(cls: type[Modulation]) -> str:
    variants = cls.variants(("first", "second"))
    settled = cls.of({"modality": variants[0]} if variants else {}).settled_after(EPOCHS)
    return f"from epoch {settled} of {EPOCHS}" if settled else "from the first epoch"


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(as_markdown(cards()), end="")
