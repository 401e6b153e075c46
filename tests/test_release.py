"""What a release states in several places is the same everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from balance_tune.package import VERSION

REPOSITORY = Path(__file__).parents[1]


def test_the_citation_and_the_images_name_the_version() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == VERSION
    files = [path for path in (REPOSITORY / "cluster").rglob("*") if path.is_file()]
    tags = {tag for path in files for tag in re.findall(r"balance-tune:(\d[\w.]*)", path.read_text())}
    assert tags == {VERSION}


def test_ci_runs_on_every_python_that_is_declared() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["run"]
    assert {"run": ".ci/run"} in job["steps"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    declared = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    assert job["strategy"]["matrix"]["python"] == declared
    assert project["requires-python"] == f">={declared[0]}"
