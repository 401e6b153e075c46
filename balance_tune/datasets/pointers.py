"""Says what a file is that is not what its name says: a git-lfs pointer, a web page, an archive, a macOS companion."""

from __future__ import annotations

_COMPANION = "it is a companion file of macOS, not the file itself; delete the files called ._*"
_KINDS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    (
        (b"version https://git-lfs.github.com/spec", b"version https://hawser.github.com/spec"),
        "it is a git-lfs pointer, not the file itself; run `git lfs pull` where it was cloned",
    ),
    ((b"/annex/objects/", b"../.git/annex"), "it is a git-annex pointer, not the file itself; run `git annex get`"),
    ((b"\x00\x05\x16\x07",), _COMPANION),
    ((b"PK\x03\x04",), "it is a zip archive or an Excel workbook; unpack it, or save it as CSV in UTF-8"),
    ((b"\x1f\x8b",), "it is compressed with gzip; unpack it"),
    ((b"7z\xbc\xaf\x27\x1c", b"Rar!"), "it is an archive; unpack it"),
)
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<error")
_PAGE = "it is a web page or an error of a server, not the file itself; download it again"
_ANSWER = "it is the answer of a server (JSON), not the file itself; download it again"


def is_pointer(reason: str) -> bool:
    """Whether a reason, or what ends one, is an answer of `what_it_is`."""
    return any(words in reason for words in (_COMPANION, _PAGE, _ANSWER, *(words for _, words in _KINDS)))


def what_it_is(name: str, start: bytes) -> str | None:
    """Return what a file is by its first bytes and its name, in words that end a sentence; None where nothing is odd.

    Args:
        name: the file's name without its folder; "" where there is none.
        start: at least its first 512 bytes, or all.
    """
    if name.startswith("._"):
        return _COMPANION
    for beginnings, words in _KINDS:
        if start.startswith(beginnings):
            return words
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:32].lower()
    if text.startswith(_PAGES) and not name.lower().endswith((".svg", ".xml")):
        return _PAGE
    if text.startswith((b'{"error', b'{"message', b'{"detail')):
        return _ANSWER
    return None
