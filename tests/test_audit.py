"""What `make check` says of the advisory database's answer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.audit import verdict

SOUND = {"name": "sound", "version": "1.0", "vulns": []}
UNSOUND = {"name": "unsound", "version": "2.0", "vulns": [{"id": "GHSA-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "status", "last"),
    [
        ([SOUND, UNKNOWN], 0, "audit: 1 of 2 pinned packages asked about, 0 advisories"),
        ([SOUND, UNSOUND], 1, "audit: 2 of 2 pinned packages asked about, 1 advisories"),
        ([UNKNOWN], 0, "audit: NOT DONE, the advisory database knows none of the pinned packages from here"),
    ],
)
def test_a_known_vulnerability_fails_and_an_audit_that_was_not_done_is_told(
    packages: list[dict[str, Any]], status: int, last: str
) -> None:
    found, lines = verdict(packages)
    assert (found, lines[-1]) == (status, last)


def test_an_advisory_names_the_package_and_the_version_that_mends_it() -> None:
    assert verdict([UNSOUND])[1][0] == "audit: unsound 2.0 has GHSA-1, fixed in 2.1"
