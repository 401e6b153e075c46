"""The record of every look at a sealed test part that was not a study's own, one line each."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies.storage import durable, object_store
from balance_tune.studies.tracking.origin import code_version

FILE, FOLDER = "unsealed.jsonl", "unsealed"


def record(root: Path, entry: Mapping[str, Any]) -> None:
    """Append who opened what, and what came out, to `<root>/unsealed.jsonl`, or put it into an
    object store of its own below `<root>/unsealed/`.

    Raises:
        UserError: the root cannot be written; a look that cannot be recorded must not be shown.
    """
    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "code_version": code_version(), **entry}
    try:
        if object_store.mirror_of(root) is not None:  # an object cannot be appended to
            durable.write_json(root / FOLDER / f"{line['at']}-{uuid.uuid4().hex[:8]}.json", line)
            return
        with (root / FILE).open("ab", buffering=0) as file:
            durable.append(file, json.dumps(line) + "\n")
    except OSError as error:
        raise UserError(
            f"opening a sealed part must be recorded, but {object_store.where(root / FILE)} cannot be written: "
            f"{object_store.said(error)}."
        ) from error
