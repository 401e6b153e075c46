"""A method's card as text for the terminal, and all cards as the page docs/methods.md; no method is imported here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

PREAMBLE = """# Methods

Generated from the classes by `python -m balance_tune.modulations.card > docs/methods.md`; `balance-tune methods NAME`
prints the same. Windows and intervals are fractions of the run. "Cost" is what a method adds to joint training's one
forward and one backward pass per step. "Your loop" says whether it works in a training loop of your own
([own-loop.md](own-loop.md)). A setting without a range is not searched; a study may set it all the same.
"""

REPORTED = (
    "What papers report (test accuracy; the epoch chosen on test or validation rows, `?` where that is not stated; not "
    "comparable across sources):"
)


def as_text(card: Mapping[str, Any]) -> str:
    """Return a card for the terminal."""
    head = [card["name"], card["paper"], "", card["summary"], "", card["description"]]
    facts = [f"{name + ':':<9} {text}" for name, text in _facts(card)]
    rows = [("hyperparameter", "default", "range", "scale", "source"), *_rows(card)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    table = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
    return "\n".join([*head, "", *facts, "", *table, *_published_text(card)])


def _published_text(card: Mapping[str, Any]) -> list[str]:
    """Return what papers report, a line each, or nothing."""
    if not card.get("published"):
        return []
    rows = [("dataset", "%", "epoch by", "setting", "source")]
    rows += [(r["dataset"], r["value"], r["selection"], r["setting"], r["source"]) for r in card["published"]]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
    return ["", REPORTED, "", *lines]


def as_markdown(cards: Iterable[Mapping[str, Any]]) -> str:
    """Return docs/methods.md: a table of all methods, then each in full."""
    cards = list(cards)
    index = ["| method | paper | what it does | cost | your loop |", "|---|---|---|---|---|"]
    for c in cards:
        words = (c["paper"], c["summary"], c["cost"], "no" if c["needs"] else "yes")
        cells = [f"[`{c['name']}`](#{c['name']})", *map(_cell, words)]
        index.append(f"| {' | '.join(cells)} |")
    return "\n".join([PREAMBLE, *index, *(line for c in cards for line in ("", _section(c)))]) + "\n"


def _section(card: Mapping[str, Any]) -> str:
    lines = [f"## {card['name']}", "", f"*{card['paper']}*", "", card["summary"], ""]
    if card["description"]:
        lines += ["```text", card["description"], "```", ""]
    lines += [f"- **{name.capitalize()}**: {text}" for name, text in _facts(card)]
    lines += ["", "| hyperparameter | default | range | scale | source |", "|---|---|---|---|---|"]
    for name, *cells in _rows(card):
        lines.append(f"| `{name}` | " + " | ".join(_cell(cell) for cell in cells) + " |")
    if card.get("published"):
        lines += ["", REPORTED, "", "| dataset | % | epoch by | setting | source |", "|---|---|---|---|---|"]
        for r in card["published"]:
            names = ("dataset", "value", "selection", "setting", "source")
            lines.append("| " + " | ".join(_cell(r[name]) for name in names) + " |")
    return "\n".join(lines)


def _facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = {"window": card["window"], "touches": card["touches"], "cost": card["cost"], "neutral": card["neutral"]}
    facts |= {
        "tasks": card["tasks"],
        "judged": card["judged"],
        "own loop": f"no: it needs {card['needs']}" if card["needs"] else "works in any training loop",
        "arms": "one per modality" if card["variants"] else None,
    }
    return [(name, text) for name, text in facts.items() if text]


def _rows(card: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    rows = []
    for name, h in card["hyperparameters"].items():
        span = "" if h["low"] is None else f"{number(h['low'])} to {number(h['high'])}"
        if h["choices"] is not None:
            span = ", ".join(map(number, h["choices"]))
        scale = ("log" if h["log"] else "linear") if h["low"] is not None else ""
        rows.append((name, number(h["default"]), span, scale, h["source"]))
    return rows


def number(value: object) -> str:
    """Return a number without trailing zeros, anything else as it is."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
