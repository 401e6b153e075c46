"""The record of every look at a sealed test part that was not a study's own, one line each."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.object_store import reason
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.origin import code_version

FILE, FOLDER = "unsealed.jsonl", "unsealed"


def record(root: StudyFolder, entry: Mapping[str, Any]) -> None:
    """Append who opened what, and what came out, to `<root>/unsealed.jsonl`, or put it into an
    object store of its own below `<root>/unsealed/`.

    Raises:
        UserError: the root cannot be written; a look that cannot be recorded must not be shown.
    """
    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "code_version": code_version(), **entry}
    try:
        if root.store is not None:  # an object cannot be appended to
            root.write_json(f"{FOLDER}/{line['at']}-{uuid.uuid4().hex[:8]}.json", line)
            return
        with (root.path / FILE).open("ab", buffering=0) as file:
            durable.append(file, json.dumps(line) + "\n")
    except OSError as error:
        raise UserError(
            f"opening a sealed part must be recorded, but {root.display_uri(FILE)} cannot be written: {reason(error)}."
        ) from error
