"""A study file to start from: every key with its meaning and its default."""

from __future__ import annotations

import textwrap

from balance_tune.studies.config.reference import REQUIRED, Key, as_yaml, keys

WIDTH = 100
EXAMPLES = {"datasets": "[av_digits]", "methods": "[joint, ogm_ge, mlb]"}
"""Values of the keys that have no default, so that the file can be run as it is."""


def template(name: str) -> str:
    """Return a study file with every key of the schema; those that have a default are commented out.

    Args:
        name: of the study.
    """
    head = (
        "A study of balance_tune. A key behind a hash has the value that is shown.\n"
        f"  balance-tune plan {name}.yaml      what the study would run, and how long it would take\n"
        f"  balance-tune run {name}.yaml       run it; the same command resumes it"
    )
    values = {"name": name, **EXAMPLES}
    every = [key for key in keys() if ".DATASET." not in key.path]  # their section shows them in its example
    lines = [f"# {line}" for line in head.splitlines()]
    for key in every:
        lines += ["", *_entry(key, values)] if key.path.count(".") == 0 else _entry(key, values)
    return "\n".join(lines) + "\n"


def _entry(key: Key, values: dict[str, str]) -> list[str]:
    *above, name = key.path.split(".")
    indent = "  " * len(above)
    empty = key.default in (None, {}, [])
    text = key.meaning if key.section else f"{key.meaning} {key.kind[0].upper()}{key.kind[1:]}."
    text += f" Example: {key.example}" if empty and not key.section else ""
    comment = textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    if key.section:
        return [*comment, f"{indent}{name}:"]
    if key.default is REQUIRED:
        return [*comment, f"{indent}{name}: {values[key.path]}"]
    return [*comment, f"{indent}#{name}: {as_yaml(key.default)}".rstrip()]
