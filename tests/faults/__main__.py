"""Runs the fault suite several times and keeps its table in docs/reliability.md: python -m tests.faults [TIMES [PARTS]]

With PARTS, the files of a round run as so many processes side by side: sooner done, and what a fault costs less clear.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "reliability.md"
LONG = {"test_damage": 8, "test_trials_broken": 7, "test_driver_killed": 6, "test_surroundings": 6, "test_signals": 6}
"""Minutes, of those that take more than two."""
BEGIN, END = "<!-- measured -->\n", "<!-- end of measured -->\n"


def main() -> int:
    rounds, parts = (int(word) for word in [*sys.argv[1:], *["3", "1"][len(sys.argv) - 1 :]])
    tables: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(rounds):
            table = suite(Path(folder), parts)
            if table is None:
                print(f"round {i + 1} of {rounds} failed; docs/reliability.md is left as it was")
                return 1
            tables.append(table)
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(head + BEGIN + measured(tables) + END + tail)
    return 0


def suite(folder: Path, parts: int) -> list[str] | None:
    """Run the suite once; return the lines of its table, or None where a test failed."""
    running = []
    for k, own in enumerate(spread(parts)):
        table = folder / f"{k}.md"
        table.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-m", "faults", *own]
        environment = {**os.environ, "BALANCE_TUNE_FAULTS_TABLE": str(table)}
        running.append((subprocess.Popen(command, cwd=REPOSITORY, env=environment), table))
    if any([process.wait() for process, _ in running]):
        return None
    (first, *others) = [table.read_text().splitlines() for _, table in running if table.exists()]
    return [*first, *(row for lines in others for row in lines[2:])]


def spread(parts: int) -> list[list[str]]:
    """Return the suite's files in parts that take about as long."""
    files = (REPOSITORY / "tests" / "faults").glob("test_*.py")
    shares: list[list[Path]] = [[] for _ in range(parts)]
    for path in sorted(files, key=lambda path: (-LONG.get(path.stem, 2), path.stem)):
        min(shares, key=lambda share: sum(LONG.get(other.stem, 2) for other in share)).append(path)
    return [sorted(map(str, share)) for share in shares]


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
