"""Runs the fault suite several times and keeps its table in docs/reliability.md: python -m tests.faults [TIMES]."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "reliability.md"
BEGIN, END = "<!-- measured -->\n", "<!-- end of measured -->\n"


def main() -> int:
    rounds = int(sys.argv[1]) if sys.argv[1:] else 3
    tables: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(rounds):
            table = Path(folder) / f"{i}.md"
            status = subprocess.run(
                [sys.executable, "-m", "pytest", "-m", "faults", "tests/faults"],
                cwd=REPOSITORY,
                env={**os.environ, "BALANCE_TUNE_FAULTS_TABLE": str(table)},
            ).returncode
            if status:
                print(f"round {i + 1} of {rounds} failed; docs/reliability.md is left as it was")
                return 1
            tables.append(table.read_text().splitlines())
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(head + BEGIN + measured(tables) + END + tail)
    return 0


def measured(tables: list[list[str]]) -> str:
    """Return the rounds as one table: counts added up, the wall time of each round."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True)
    lines = [f"\n{len(tables)} rounds in a row on commit {commit.stdout.strip()}, {date.today():%Y-%m-%d}.\n"]
    lines += tables[0][:2]
    for rows in zip(*(table[2:] for table in tables), strict=True):
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
        fault, costs = cells[0][0], [c[4] for c in cells]
        counts = [str(sum(int(c[k]) for c in cells)) for k in (1, 2, 3)]
        cost = costs[0] if len(set(costs)) == 1 else ", ".join(costs)
        lines.append(f"| {fault} | {' | '.join(counts)} | {cost} |")
    return "\n".join(lines) + "\n\n"


if __name__ == "__main__":
    sys.exit(main())
