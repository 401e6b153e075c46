"""A short hash of source files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def hash_of(paths: Sequence[Path]) -> str:
    """Return 12 hex digits that change with the name and content of any of the files, and with their order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
