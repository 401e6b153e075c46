"""The guided tour of CONTRIBUTING.md names files that exist and are short."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST = 400


def test_the_guided_tour_is_at_most_400_lines_of_code() -> None:
    _, _, section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Guided tour\n")
    section = section.partition("\n## ")[0]
    files = re.findall(r"^\d+\. `([\w/.]+)`:", section, re.MULTILINE)
    assert len(files) == 5
    lines = {file: len((ROOT / file).read_text().splitlines()) for file in files}
    assert sum(lines.values()) <= MOST, lines
    assert f"at most {MOST} lines" in section
