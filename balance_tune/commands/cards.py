"""The cards of the methods from a cache, without importing torch; a changed file of the package makes it invalid."""

from __future__ import annotations

import contextlib
import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from balance_tune.cache_folder import cache_folder
from balance_tune.package import FOLDER
from balance_tune.studies.protocol.code_hash import hash_of
from balance_tune.studies.storage import durable

PACKAGE = FOLDER


def cards() -> list[dict[str, Any]]:
    """Return the card (`balance_tune.modulations.card.card`) of every method, sorted by name.

    Methods of other packages may change in files that are not known here: with such installed, the classes are asked.
    """
    if entry_points(group="balance_tune.modulations"):
        return _asked()
    cache, of = cache_folder() / "methods.json", hash_of(sorted(PACKAGE.rglob("*.py")))
    content = _read(cache, of)
    if content is None:
        content = _asked()
        with contextlib.suppress(OSError):  # a cache that cannot be written costs a second and a half, no more
            durable.write_json(cache, {"of": of, "cards": content})
    return content


def _asked() -> list[dict[str, Any]]:
    from balance_tune.modulations.card import card
    from balance_tune.registry import modulations

    return [card(cls) for cls in modulations().classes().values()]


def _read(cache: Path, of: str) -> list[dict[str, Any]] | None:
    try:
        content = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return None
    stored = content.get("cards") if isinstance(content, dict) and content.get("of") == of else None
    return stored if isinstance(stored, list) else None
