"""What README.md, CONTRIBUTING.md and docs/quickstart.md show is true: links, commands, and where things are."""

from __future__ import annotations

import re

from tests.readme import BY_CI, HERE, blocks, commands

CI = (HERE / ".ci" / "run").read_text()


def test_every_command_is_run_by_ci() -> None:
    assert {c for c in commands() if c.startswith("make")} <= {*BY_CI, "make ui"}
    assert "make -j3 --output-sync=target check docs test-jobs" in CI
    assert "make -j2 --output-sync=target test\n" in CI
    assert "make study" in CI
    assert "-m tests.readme" in CI
    assert "balance-tune report quickstart -f json" in commands()


def test_every_link_to_a_file_leads_somewhere() -> None:
    for page in [HERE / "README.md", HERE / "CONTRIBUTING.md", *(HERE / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_packages_that_are_described_exist() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (HERE / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`([\w./]+)`", row)]
    assert {"models/", "engine.py", "results/"} <= set(names)
    for name in names:
        assert any((HERE / "balance_tune" / place / name).exists() for place in ("", "studies")), name


def test_the_guided_tour_is_linked() -> None:
    assert "(CONTRIBUTING.md#guided-tour)" in (HERE / "README.md").read_text()
    assert "\n## Guided tour\n" in (HERE / "CONTRIBUTING.md").read_text()


def test_readme_shows_the_table_of_the_quickstart_page() -> None:
    (table,) = [body for body in blocks("") if body.startswith("av_digits (sealed test")]
    (output,) = [body for body in blocks("text") if body.startswith("av_digits (sealed test")]
    for part in table.split("\n\n"):
        assert part.strip() in output
