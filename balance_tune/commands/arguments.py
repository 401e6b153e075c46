"""Arguments that several commands share: a root, a study in it, an output format."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from balance_tune.errors import UserError
from balance_tune.studies.storage.object_store import StoreUnavailable
from balance_tune.studies.storage.study_folder import ROOT, StudyFolder, root_folder
from balance_tune.studies.wording import did_you_mean, nearest, one_line, shown

if TYPE_CHECKING:
    from balance_tune.studies.config.schema import StudyConfig


def root_option(parser: argparse.ArgumentParser) -> None:
    """Let `parser` take `--root`; a value before the command is kept if there is none after it."""
    parser.add_argument(
        "--root",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help=f"folder of all studies, or s3://..., gs://... (default: {ROOT}, else ./studies)",
    )


def format_option(parser: argparse.ArgumentParser) -> None:
    """Add `-f` and `--format`: a table or JSON."""
    parser.add_argument(
        "-f", "--format", choices=("table", "json"), default="table", help="format of the output (default: table)"
    )


def port_option(parser: argparse.ArgumentParser, default: int) -> None:
    """Add `--port`, for a command that serves a page."""
    words = f"port to listen on, or the next free (default: {default})"
    parser.add_argument("--port", type=_port, default=default, help=words)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 65535, but got `{text[:20]}`")
    return int(text)


def miniature_option(parser: argparse.ArgumentParser) -> None:
    """Add `--miniature`, which runs a small version of a study on generated data."""
    parser.add_argument(
        "--miniature", action="store_true", help="run a small version on generated data: two epochs, a minute or two"
    )


def study_file_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Let `parser` take a study and keys of it to set."""
    words = "a study file, or a study that ships with balance_tune (see `balance-tune studies`)"
    parser.add_argument("study_file", metavar="STUDY.yaml", nargs=None if required else "?", type=Path, help=words)
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        default=[],
        help="a key of the study file and its value, such as search.trials=4",
    )


def study_of(args: argparse.Namespace) -> StudyConfig:
    """Return the study of `study_file` after its overrides, or its miniature with `--miniature`."""
    from balance_tune.studies.loading import load_config

    root = root_of(args)
    if not args.miniature:
        return load_config(args.study_file, args.overrides, root=root)
    from balance_tune.studies.miniature import miniature

    plain, left_out = miniature(load_config(args.study_file, args.overrides, root=root))
    if left_out:
        print(f"left out, because two epochs are too few for them: {', '.join(left_out)}", file=sys.stderr)
    overrides = [word for word in args.overrides if not word.startswith(("methods=", "name="))]
    return load_config(plain, overrides, root=root)


def study_argument(parser: argparse.ArgumentParser) -> None:
    """Add the name of a study under the root."""
    parser.add_argument("study", metavar="STUDY", help="name of a study under the root")


def root_of(args: argparse.Namespace) -> StudyFolder:
    """Return the root folder, which need not exist."""
    return root_folder(root_text(args))


def root_text(args: argparse.Namespace) -> str:
    """Return the root as it was given."""
    return str(getattr(args, "root", None) or os.environ.get(ROOT) or _default_root())


def _default_root() -> str:
    """Return `studies` here; for a Ray job below the home folder, since a job's own folder is removed after it."""
    return "~/studies" if in_a_job() else "studies"


def in_a_job() -> bool:
    """Return whether this is the driver of a Ray job, in the folder that Ray made for it."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and "runtime_resources" in Path.cwd().parts


def writable_root(args: argparse.Namespace) -> StudyFolder:
    """Return the root folder, created if it is missing, after a file was written into it and removed."""
    root = root_of(args)
    root.check_writable()
    return root


def study_folder(args: argparse.Namespace) -> StudyFolder:
    """Return the folder of the named study, with the files that an object store has of it.

    Raises:
        UserError: there is none of that name (the nearest comes first), or the root does not answer.
    """
    root = root_of(args)
    try:
        names = root.studies()
    except StoreUnavailable as error:
        raise UserError(f"the root must answer, but {error}.") from error
    name: str = args.study
    if name in names:
        folder = root / name
        if folder.store is not None:
            from balance_tune.studies.storage.pruning_table import download_study

            download_study(folder)
        return folder
    place = root.display_uri()
    if not names:
        raise UserError(f"a study must have been run, but there is none in {place}; check --root.")
    stem = Path(name).stem  # the study file was given
    hint = f" Did you mean `{stem}`?" if nearest(name, names) is None and stem in names else did_you_mean(name, names)
    raise UserError(one_line(f"a study must exist, but there is no {shown(name)} in {place}.{hint}"))
