"""What the README shows is true: its method works as it stands, its links lead somewhere, its commands are executed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.readme import BY_CI, HERE, blocks, commands

CI = (HERE / ".ci" / "run").read_text()


def test_every_command_is_run_by_ci() -> None:
    assert {c for c in commands() if c.startswith("make")} <= {*BY_CI, "make ui"}
    assert "make check docs test" in CI
    assert "make study" in CI
    assert "-m tests.readme" in CI
    assert "balance-tune report quickstart -f json" in commands()


def test_the_method_shown_is_a_whole_file_that_is_found_and_fulfils_the_contract(tmp_path: Path) -> None:
    (source,) = [body for body in blocks("python") if "class SlowLeader" in body]
    (tmp_path / "slow_leader.py").write_text(source)
    (tmp_path / "test_slow_leader.py").write_text(
        "import slow_leader\n"
        "from balance_tune.testing import ModulationContract\n\n\n"
        "class TestSlowLeader(ModulationContract):\n"
        "    method = 'slow_leader'\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


def test_every_link_to_a_file_leads_somewhere() -> None:
    for page in [HERE / "README.md", HERE / "CONTRIBUTING.md", *(HERE / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_layout_shown_exists() -> None:
    (layout,) = [body for body in blocks("") if "balance_tune/\n" in body]
    for line in layout.splitlines():
        for name in re.findall(r"^\s*([\w./]+(?:\s[\w./]+/)?)\s{2,}", line):
            for part in name.split():
                inside = HERE / "balance_tune" / part if line.startswith("  ") else HERE / part
                assert inside.exists(), line


def test_methods_in_the_table_are_those_that_exist() -> None:
    from balance_tune.registry import modulations

    shown = set(re.findall(r"^\| `(\w+)`", (HERE / "README.md").read_text(), re.MULTILINE))
    assert shown == set(modulations().names())
