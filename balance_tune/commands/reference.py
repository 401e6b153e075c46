"""Every command with its arguments and an example, as a page:

python -m balance_tune.commands.reference > docs/commands.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from balance_tune.cli import COMMANDS, parser

HEAD = """# Commands

Generated from the parser by `python -m balance_tune.commands.reference > docs/commands.md`.
`balance-tune COMMAND --help` prints the same. Exit status: 0 done, 1 failed, 2 the input is wrong (one line says what),
130 interrupted.

| command | what it does |
|---|---|
"""


def commands(parent: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of all commands, and of the actions of a command that has some."""
    for action in parent._actions:  # argparse lists them in no other place
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield inner
                yield from commands(inner)


def as_markdown() -> str:
    """Return docs/commands.md: a table of all commands, then each in full."""
    rows = [f"| [`{name}`](#balance-tune-{name}) | {words} |" for name, (_, words, _) in COMMANDS.items()]
    return HEAD + "\n".join(rows) + "\n" + "".join(_section(command) for command in commands(parser()))


def _section(command: argparse.ArgumentParser) -> str:
    every = [action for action in command._actions if action.dest != "help" and action.help is not None]
    positional = [action for action in every if not action.option_strings]
    own = [*positional, *(action for action in every if action.option_strings)]
    example = str(command.epilog).removeprefix("example: ")
    words = [command.prog, *map(_placed, positional)]
    rows = [f"| `{_names(action)}` | {_meaning(action)} |" for action in own]
    table = "\n".join(["| argument | meaning |", "|---|---|", *rows, ""])
    return (
        f"\n## `{command.prog}`\n\n{command.description}\n\n"
        f"```text\n{' '.join(words)} [OPTIONS]\n```\n\n{table if rows else ''}\nExample:\n\n```text\n{example}\n```\n"
    )


def _placed(action: argparse.Action) -> str:
    name = _value(action)
    return {"?": f"[{name}]", "*": f"[{name} ...]"}.get(str(action.nargs), name)


def _names(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return f"{', '.join(action.option_strings)}{value}" if action.option_strings else _value(action)


def _value(action: argparse.Action) -> str:
    if action.metavar is None and action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    return action.metavar or action.dest.upper()


def _meaning(action: argparse.Action) -> str:
    must = " (must be given)" if action.required and action.option_strings else ""
    return f"{action.help}{must}".replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
