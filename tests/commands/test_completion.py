"""`completion` prints a script with which a shell completes commands, options and files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from balance_tune.cli import COMMANDS, main
from balance_tune.commands.completion import SHELLS


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", "bash"]) == 0
    file = tmp_path / "script"
    file.write_text(capsys.readouterr().out)
    (tmp_path / "mine.yaml").touch()
    return file


def completed(script: Path, line: str) -> set[str]:
    """Return what bash offers for the last word of a command line."""
    words = line.split(" ")
    code = (
        f'source {script}; COMP_WORDS=({" ".join(words[:-1])} "{words[-1]}"); COMP_CWORD={len(words) - 1}; '
        '_shtab_balance_tune; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code], cwd=script.parent, capture_output=True, text=True, check=True)
    return {word for word in done.stdout.split("\n") if word}


def test_bash_completes_commands_options_and_files(script: Path) -> None:
    assert completed(script, "balance-tune re") == {"report", "reproduce"}
    assert set(COMMANDS) <= completed(script, "balance-tune ")
    assert completed(script, "balance-tune run --min") == {"--miniature"}
    assert completed(script, "balance-tune run mi") == {"mine.yaml"}
    assert completed(script, "balance-tune data ver") == {"verify"}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)
