"""The page of all commands is made from the parser."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from balance_tune.cli import COMMANDS, parser
from balance_tune.commands.reference import as_markdown, commands

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def test_the_page_has_not_drifted() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "balance_tune.commands.reference"], capture_output=True, text=True, check=True
    )
    assert PAGE.read_text() == made.stdout, "run: python -m balance_tune.commands.reference > docs/commands.md"
    assert made.stdout == as_markdown()


@pytest.mark.parametrize("command", list(commands(parser())), ids=lambda made: made.prog)
def test_a_command_is_there_with_every_argument(command: object) -> None:
    section = PAGE.read_text().split(f"## `{command.prog}`\n")[1].split("\n## ")[0]  # type: ignore[attr-defined]
    for action in command._actions:  # type: ignore[attr-defined]
        for name in action.option_strings:
            assert name in section or action.dest == "help"


def test_the_commands_of_the_page_are_those_that_exist() -> None:
    assert [made.prog.removeprefix("balance-tune ") for made in commands(parser()) if " " not in made.prog[13:]] == [
        *COMMANDS
    ]
