"""Where studies lie: a folder, which every machine of a study sees under one path, or an object store."""

from __future__ import annotations

import re
from pathlib import Path

from balance_tune.datasets.address import expanded
from balance_tune.errors import UserError
from balance_tune.studies.wording import shown

ROOT = "BALANCE_TUNE_ROOT"


def root_folder(text: str, *, driver: bool = False) -> Path:
    """Return the root that is meant, as an absolute path; it need not exist.

    For a URI that pyarrow opens (s3://, gs://, ...) it is the local folder that stands for it (see `mirror`); that of a
    study's `driver` is another than that of those who look on.

    Raises:
        UserError: it can be neither.
    """
    if "://" in text and not text.startswith("file://"):
        from balance_tune.studies.storage.object_store import mirrored

        return mirrored(text, "run" if driver else "look")
    if re.match(r"[A-Za-z0-9+]+:/[^/]", text):
        raise UserError(f"a root in an object store must be given as text, s3://bucket/prefix, but got {shown(text)}.")
    return expanded(text.removeprefix("file://"))
