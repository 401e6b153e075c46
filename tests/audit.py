"""Asks the public advisory database about every pinned package: python -m tests.audit

Status 1 where a pinned version is known to be vulnerable. Where the database does not answer, as on a machine without
the internet, nothing is audited, and the last line says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PINS = Path(__file__).parents[1] / "constraints.txt"
PATIENCE = 300.0  # seconds for all packages together


def main() -> int:
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "-f", "json", "-r", str(PINS)],
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        print(f"audit: NOT DONE, the advisory database did not answer within {PATIENCE:.0f} s")
        return 0
    try:
        answer = json.loads(asked.stdout)
    except ValueError:
        reason = (asked.stderr.strip().splitlines() or [f"status {asked.returncode}"])[-1]
        print(f"audit: NOT DONE, the advisory database could not be asked: {reason}")
        return 0
    status, lines = verdict(answer["dependencies"])
    print("\n".join(lines))
    return status


def verdict(packages: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """Return the exit status and what to say of pip-audit's findings."""
    known = [p for p in packages if "skip_reason" not in p]
    lines = [
        f"audit: {p['name']} {p['version']} has {v['id']}, fixed in {', '.join(v['fix_versions']) or 'no version yet'}"
        for p in known
        for v in p["vulns"]
    ]
    if not known:
        return 0, ["audit: NOT DONE, the advisory database knows none of the pinned packages from here"]
    found = len(lines)
    lines.append(f"audit: {len(known)} of {len(packages)} pinned packages asked about, {found} advisories")
    return int(found > 0), lines


if __name__ == "__main__":
    sys.exit(main())
