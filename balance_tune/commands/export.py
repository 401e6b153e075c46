"""balance-tune export: writes the trials of a study to an sqlite file, which every Optuna tool opens."""

from __future__ import annotations

import argparse
from contextlib import suppress

from balance_tune.commands.arguments import root_option, study_argument, study_folder
from balance_tune.datasets.address import expanded
from balance_tune.errors import UserError
from balance_tune.studies.wording import one_line


def add(parser: argparse.ArgumentParser) -> None:
    study_argument(parser)
    parser.add_argument(
        "-o", "--out", metavar="FILE", help="the file to write, which must not exist (default: ./STUDY.sqlite3)"
    )
    root_option(parser)


def run(args: argparse.Namespace) -> int:
    import optuna

    from balance_tune.studies.storage import durable
    from balance_tune.studies.storage.records import open_to_read
    from balance_tune.studies.storage.trials import export

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = study_folder(args)
    out = expanded(args.out or f"{folder.name}.sqlite3")
    if out.exists():
        raise UserError(f"an export must not overwrite, but {out} exists; name another file with --out.")
    temporary = out.with_name(f".{out.name}.writing")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        export(open_to_read(folder.path), temporary)
        durable.adopt(temporary, out)
    except OSError as error:
        raise UserError(one_line(f"an export must be writable, but {out}: {error.strerror}.")) from error
    finally:
        with suppress(OSError):  # reported already
            temporary.unlink(missing_ok=True)
    print(f"{out}\nOptuna's tools open it, for example: optuna-dashboard sqlite:///{out}")
    return 0
