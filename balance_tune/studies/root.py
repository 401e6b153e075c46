"""Where studies lie: a folder, which every machine of a study sees under one path."""

from __future__ import annotations

from pathlib import Path

from balance_tune.errors import UserError
from balance_tune.studies.wording import shown

ROOT = "BALANCE_TUNE_ROOT"


def root_folder(text: str) -> Path:
    """Return the root that is meant, as an absolute path; it need not exist.

    Raises:
        UserError: a URI, whatever it names: trials append to files below the root and lock them.
    """
    if "://" in text:
        raise UserError(
            f"the root must be a folder that all machines see under one path, but got {shown(text)}; mount shared "
            "storage (NFS, EFS, Filestore, a ReadWriteMany claim) and give its path; datasets may lie in buckets."
        )
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # ~somebody
        raise UserError(f"the root must be a folder, but got {shown(text)}: {error}.") from error
