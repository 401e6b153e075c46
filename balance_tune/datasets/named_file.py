"""What lies at a path that a user has written: a file or a folder, or the reason why nothing can be read there."""

from __future__ import annotations

import errno
import re
import stat
from pathlib import Path

_ADDRESS = re.compile(r"(^|/)(https?|ftp|s3|gs|file|hf):/")  # a path has one `/` of the two
_REASONS = {
    errno.ENOENT: "it is missing",
    errno.ENOTDIR: "it is missing",
    errno.ELOOP: "it is a link to itself",
    errno.ENAMETOOLONG: "its name is too long for a file",
}


def unusable(path: Path) -> str | None:
    """Return why there is neither a file nor a folder at a path that a user has written; None where there is one.

    Args:
        path: any text as a path, also one that no file system takes.
    """
    try:
        mode = path.stat().st_mode
    except ValueError:
        return "its name has a character that no file's name has"
    except OSError as error:
        return _reason(path, error)
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    return "it is neither a file nor a folder"  # a pipe is waited for, a device has no end


def size_of(path: Path) -> int:
    """Return the bytes of a file; -1 where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _reason(path: Path, error: OSError) -> str:
    reason = _REASONS.get(error.errno or 0, f"it cannot be read ({error.strerror})")
    if error.errno != errno.ENOENT:
        return reason
    if _ADDRESS.search(str(path)):
        return f"{reason}; an address is not opened, so download it"
    if "\\" in str(path):
        return f"{reason}; folders are separated by `/`, not by `\\`"
    return "it is a link to something that is missing" if path.is_symlink() else reason


def shortened(name: str, head: int = 40, tail: int = 80) -> str:
    """Return a name as a message shows it, on one line; of a longer one its beginning and its end."""
    line = " ".join(name.split())
    return line if len(line) <= head + tail else f"{line[:head]}...{line[-tail:]}"
