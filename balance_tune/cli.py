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
# command -> (module below balance_tune.commands, what it does)
COMMANDS = {
    "run": ("run", "run, resume or extend a study"),
    "submit": ("submit", "run a study as a job of a Ray cluster"),
    "plan": ("plan", "what a study would run and take; starts nothing"),
    "status": ("status", "how far a running or stopped study is"),
    "report": ("report", "a study's leaderboard; writes its report as files"),
    "best": ("best", "the winning configuration, ready to paste"),
    "methods": ("methods", "the methods there are, or one in full"),
    "datasets": ("datasets", "the datasets there are, or one in full"),
    "data": ("data", "prepare real data into a store, check one, show what is in one"),
    "fusions": ("parts", "the fusions there are, or one in full"),
    "encoders": ("parts", "the encoders there are, or one in full"),
    "evaluate": ("evaluate", "a stored model on a dataset's part, or on a table of files"),
    "reproduce": ("reproduce", "train a recorded trial again and compare"),
    "probe": ("probe", "what the frozen features of a trial still know"),
    "export": ("export", "a study's trials as one sqlite file for Optuna's tools"),
    "delete": ("delete", "remove a study everywhere"),
    "doctor": ("doctor", "what would go wrong with a study here or on the cluster at RAY_ADDRESS"),
    "ui": ("ui", "serve the MLflow UI on every trial"),
}


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
    for name, (module, words) in COMMANDS.items():
        import_module(f"balance_tune.commands.{module}").add(
            commands.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".", allow_abbrev=False)
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
