"""What several commands take: a root, a study in it, an output format."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from balance_tune.errors import UserError
from balance_tune.studies.storage import object_store
from balance_tune.studies.storage.root import ROOT, root_folder
from balance_tune.studies.wording import did_you_mean, nearest, one_line, shown

if TYPE_CHECKING:
    from balance_tune.studies.config.schema import StudyConfig


def root_option(parser: argparse.ArgumentParser) -> None:
    """Let `parser` take `--root`; what was given before the command stays where it is not given after it."""
    parser.add_argument(
        "--root",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help=f"folder of all studies, or s3://..., gs://... (default: {ROOT}, else ./studies)",
    )


def format_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--format", choices=("table", "json"), default="table", help="how to print (default: table)"
    )


def miniature_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--miniature", action="store_true", help="try the study on made-up data: two epochs, a minute or two"
    )


def study_of(args: argparse.Namespace) -> StudyConfig:
    """Return the study of `study_file` after its overrides, or its miniature where that is asked for."""
    from balance_tune.studies.loading import load_config

    if not args.miniature:
        return load_config(args.study_file, args.overrides)
    from balance_tune.studies.miniature import miniature

    plain, left_out = miniature(load_config(args.study_file, args.overrides))
    if left_out:
        print(f"left out, because two epochs are too few for them: {', '.join(left_out)}", file=sys.stderr)
    return load_config(plain, [word for word in args.overrides if not word.startswith(("methods=", "name="))])


def study_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", help="name of a study under the root")


def root_of(args: argparse.Namespace) -> Path:
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


def writable_root(args: argparse.Namespace) -> Path:
    """Return the root folder, made if need be, after a file was written into it and removed."""
    root = root_of(args)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(one_line(f"the root must be a folder that can be written, but {root}: {reason}.")) from error
    if object_store.mirror_of(root) is not None:
        object_store.check(root)
    return root


def studies_in(root: Path) -> list[str]:
    """Return the names of the studies under a root."""
    if object_store.mirror_of(root) is not None:
        try:
            return object_store.studies_below(root)
        except object_store.Away as error:
            raise UserError(f"the root must answer, but {error}.") from error
    if not root.is_dir():
        return []
    return sorted(path.parent.name for path in root.glob("*/study.yaml"))


def study_folder(args: argparse.Namespace) -> Path:
    """Return the folder of the study that was named.

    Raises:
        UserError: there is none of that name; the nearest comes first.
    """
    root = root_of(args)
    names = studies_in(root)
    name: str = args.study
    if name in names:
        return _brought(root / name)
    place = object_store.where(root)
    if not names:
        raise UserError(f"a study must have been run, but there is none in {place}; is that the right --root?")
    stem = Path(name).stem  # somebody gave the study file
    hint = f" Did you mean `{stem}`?" if nearest(name, names) is None and stem in names else did_you_mean(name, names)
    raise UserError(one_line(f"a study must exist, but there is no {shown(name)} in {place}.{hint}"))


def _brought(folder: Path) -> Path:
    """Return a study's folder; one that stands for an object store's as it is there now."""
    if object_store.mirror_of(folder) is not None:
        from balance_tune.studies.storage.claim import fetch_study

        fetch_study(folder)
    return folder
