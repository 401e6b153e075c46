"""URIs as they may be shown and recorded."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit


def bare(uri: str) -> str:
    """Return a URI without user, password and query, as it may be shown and recorded; a path stays as it is."""
    if "://" not in uri:
        return uri
    parts = urlsplit(uri)
    path = re.sub("/+", "/", parts.path).rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", ""))
