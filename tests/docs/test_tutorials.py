"""Every tutorial is done as it is printed, with small studies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from balance_tune.cli import parsed
from tests.docs.walk import LANGUAGES, blocks

REPOSITORY = Path(__file__).parents[2]
TUTORIALS = sorted((REPOSITORY / "docs" / "tutorials").glob("*.md"))
PAGES = [*TUTORIALS, *(REPOSITORY / "docs" / name for name in ("index.md", "faq.md"))]


def test_the_tutorials_are_those_of_the_start_page() -> None:
    assert {path.stem for path in TUTORIALS} == {"my-table", "my-model", "my-method", "on-a-cluster", "read-a-report"}
    linked = re.findall(r"\(tutorials/([\w-]+)\.md\)", (REPOSITORY / "docs" / "index.md").read_text())
    assert sorted(linked) == [path.stem for path in TUTORIALS]


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_works_as_it_is_printed(page: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("BALANCE_TUNE", "MLFLOW", "RAY_"))}
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.walk", str(page), str(tmp_path)],
        cwd=REPOSITORY,
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for command in (command for block in blocks(page) for command in block.commands):
        assert f"$ {command}" in done.stdout


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_block_is_of_a_language_that_the_walk_knows(page: Path) -> None:
    assert page.read_text().count("\n```") == 2 * len(blocks(page))
    assert {block.language for block in blocks(page)} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_within_sentences_exist(page: Path) -> None:
    """`balance-tune x ...` in the text: the command, its options and the settings are known."""
    for found in re.findall(r"`balance-tune ([^`]+)`", page.read_text()):
        args = parsed(found.split())
        assert args.command == found.split()[0]
