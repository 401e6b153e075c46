"""The command line: finds the command, turns whatever happens into an exit status.

0: done. 1: failed. 2: the user's input is wrong; one line on standard error. 130: interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from balance_tune import __version__, shadows, timeouts
from balance_tune.commands.arguments import root_option
from balance_tune.errors import UserError
from balance_tune.studies.wording import nearest, one_line

REFUSALS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE,
    errno.ELOOP, errno.ENOTDIR,
}  # fmt: skip
"""What a file system answers that an operator can fix: one line instead of a traceback."""
COMMANDS = {
    "run": ("run", "run, resume or extend a study", "quickstart search.trials=4"),
    "submit": ("submit", "run a study as a job of a Ray cluster", "quickstart --address http://127.0.0.1:8265"),
    "plan": (
        "plan",
        "show what a study would train and how long that takes, without starting it",
        "quickstart search.trials=4",
    ),
    "studies": ("studies", "list the study files that ship with the package, or print one", "quickstart > mine.yaml"),
    "init": ("init", "write a new study file that has every key with its meaning", "mine"),
    "status": ("status", "show how far a running or stopped study is", "quickstart"),
    "watch": ("watch", "serve the report of a study while it runs", "quickstart --port 5101"),
    "report": ("report", "print the leaderboard of a study and write its report", "quickstart -f json"),
    "best": (
        "best",
        "print the winning configuration of each dataset as a study file",
        "quickstart --dataset av_digits --export winner",
    ),
    "methods": ("methods", "list the methods, or describe one", "mlb"),
    "datasets": ("datasets", "list the datasets, or describe one", "av_digits"),
    "data": (
        "data",
        "prepare a dataset as a store, verify a store, or describe it",
        "prepare crema_d --source ~/CREMA-D",
    ),
    "fusions": ("parts", "list the fusions, or describe one", "film"),
    "encoders": ("parts", "list the encoders, or describe one", "cnn"),
    "evaluate": (
        "evaluate",
        "evaluate a stored model on a part of a dataset, or on a table of files",
        "models:/quickstart-av_digits@champion --data av_digits",
    ),
    "reproduce": (
        "reproduce",
        "train a recorded trial again and compare the results",
        "0123456789abcdef0123456789abcdef",
    ),
    "probe": ("probe", "fit linear heads on the frozen features of a trial", "quickstart av_digits/mlb 3"),
    "export": ("export", "write the trials of a study to an sqlite file for Optuna's tools", "quickstart"),
    "delete": ("delete", "remove a study: its folder, runs, artifacts and models", "quickstart"),
    "doctor": ("doctor", "check what a study needs, on this machine or on the cluster at RAY_ADDRESS", "quickstart"),
    "ui": ("ui", "serve the MLflow UI with every trial", "quickstart --port 5001"),
    "completion": (
        "completion",
        "print a script that completes commands, options and files in a shell",
        "bash > ~/.local/share/bash-completion/completions/balance-tune",
    ),
}
"""Command -> (module below `balance_tune.commands`, what it does, arguments of the example in its help)."""


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, the nearest right word first."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{one_line(message)}; see `{self.prog} --help`.")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            near = nearest(str(value), map(str, action.choices))
            hint = f"did you mean `{near}`? " if near else ""
            what = "the command" if action.dest == "command" else "/".join(action.option_strings) or action.dest
            raise UserError(
                one_line(
                    f"{what} must be one of {', '.join(map(str, action.choices))}, but got `{value}`; {hint}"
                ).rstrip("; ")
            )


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    root = _Parser(prog="balance-tune", description="Studies of balanced multimodal training.", allow_abbrev=False)
    root.add_argument("--version", action="version", version=f"balance-tune {__version__}")
    root_option(root)
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, (module, words, example) in COMMANDS.items():
        import_module(f"balance_tune.commands.{module}").add(
            commands.add_parser(
                name,
                help=words,
                description=words[0].upper() + words[1:] + ".",
                epilog=f"example: balance-tune {name} {example}",
                formatter_class=argparse.RawDescriptionHelpFormatter,
                allow_abbrev=False,
            )
        )
    return root


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a command line.

    Raises:
        UserError: there is no such command or option.
    """
    arguments_parser = parser()
    args, rest = arguments_parser.parse_known_args(argv)
    for word in rest:  # argparse does not look for more `key=value` behind an option
        if word.startswith("-") or not hasattr(args, "overrides"):
            arguments_parser.error(f"unrecognized argument: {word}")
        args.overrides = [*args.overrides, word]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="backslashreplace")  # `±` must not end a study that is finished
    try:
        timeouts.check()
        args = parsed(argv)
        status: int = import_module(f"balance_tune.commands.{COMMANDS[args.command][0]}").run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
    except UserError as error:
        return _failed(str(error), 2)
    except KeyboardInterrupt:
        return _failed("interrupted", 130)
    except BrokenPipeError:  # `balance-tune methods | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        name = str(error.filename or "standard output" if error.errno == errno.ENOSPC else error.filename)
        if error.errno == errno.ENAMETOOLONG:
            return _failed(f"a name must fit into the file system, but `{name[:60]}...` is too long", 2)
        if error.filename is None and sys.stdout is not None:  # /dev/full, say: what is left in the buffer goes nowhere
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _failed(f"files must be readable and writable, but {name}: {error.strerror}", 2)
    except Exception:
        file = shadows.imported_shadow()
        if file is None:
            raise
        return _failed(shadows.sentence(file), 2)
    return status


def _failed(message: str, status: int) -> int:
    if sys.stderr is not None:
        print(f"balance-tune: {one_line(message)}", file=sys.stderr)
    return status
