"""Does what a page of docs/ says, in an empty folder: python -m tests.docs.walk PAGE FOLDER

A block with a title becomes that file. Commands of a `bash` block run one after the other; `balance-tune` runs in this
process, where a study is cut to two methods, two search trials and two epochs, and runs without Ray. The contract of a
method is cut to one fusion. A `python` block without a title is executed. Other blocks show output.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from balance_tune import cli

FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL = [
    "training.epochs=2", "search.trials=2", "search.early_stopping=none", "select.points=1", "select.seeds=0",
    "replicates=1", "placebo=false", "confirm.seeds=2", "confirm.default_seeds=0",
]  # fmt: skip
ONE_FUSION = "concat or not (film or gated or late or mlp or sum or transformer)"
LANGUAGES = {"bash", "python", "yaml", "toml", "text"}


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    title: str
    body: str

    @property
    def commands(self) -> list[str]:
        """The commands of a `bash` block."""
        return [line for line in self.body.splitlines() if line] if self.language == "bash" else []


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


def small_run(words: list[str]) -> int:
    """Run a study as `balance-tune run` does, but small, in this process."""
    from balance_tune.studies.loading import load_config
    from balance_tune.studies.results.tables import as_text
    from tests.studies import in_process

    args = cli.parsed(["run", *words])
    config = load_config(args.study_file, args.overrides)  # as it is printed it must be right
    names = [method.name for method in config.methods][:2]
    overrides = [f"methods={names}".replace("'", '"'), f"datasets=[{config.datasets[0]}]", *SMALL]
    config = load_config(args.study_file, [*args.overrides, *overrides])
    print(as_text(in_process.run(config, Path("studies").absolute() / config.name, tracked=True)))
    return 0


def checked_submit(words: list[str]) -> int:
    """Check a `balance-tune submit` as far as that can be done without a cluster."""
    from balance_tune.studies.loading import load_config

    args = cli.parsed(["submit", *words])
    load_config(args.study_file, args.overrides)
    assert args.address or os.environ["RAY_API_SERVER_ADDRESS"]
    return 0


def balance_tune(words: list[str]) -> int:
    special = {"run": small_run, "submit": checked_submit}
    return special[words[0]](words[1:]) if words[0] in special else cli.main(words)


def export(words: list[str]) -> int:
    for word in words:
        name, _, value = word.partition("=")
        os.environ[name] = os.path.expandvars(os.path.expanduser(value))
        if name == "PYTHONPATH":
            sys.path[:0] = os.environ[name].split(os.pathsep)
    return 0


def shell(words: list[str]) -> int:
    """Run another command; `pip install` installs into a folder beside, without dependencies and the internet."""
    if words[0] == "pip":
        site = Path("site-packages").absolute()
        words = [sys.executable, "-m", *words, "--target", str(site), "--no-deps", "--no-build-isolation", "--quiet"]
        sys.path.insert(0, str(site))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    if words[0] == "python":
        words[0] = sys.executable
    if "pytest" in words:
        words += ["-k", ONE_FUSION]
    return subprocess.run(words, check=False).returncode


def main(page: Path, folder: Path) -> None:
    """Walk through a page; a command that ends with another status than 0 ends the walk."""
    os.chdir(folder)
    os.environ["PWD"] = str(folder)
    for block in blocks(page):
        if block.title:
            Path(block.title).write_text(block.body, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.body, f"{page.name}", "exec"), {"__name__": "__main__"})
        for command in block.commands:
            print(f"$ {command}", flush=True)
            name, *words = shlex.split(command)
            run = {"balance-tune": balance_tune, "export": export}.get(
                name, lambda words, name=name: shell([name, *words])
            )
            status = run(words)
            if status:
                sys.exit(f"status {status}: {command}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]))
