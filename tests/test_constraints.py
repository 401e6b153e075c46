"""Every package that gets installed has one exact version, and the declared ranges admit it."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parents[1]


def pins() -> dict[str, Version]:
    found: dict[str, Version] = {}
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        wanted = line.partition("#")[0].strip()
        if not wanted:
            continue
        requirement = Requirement(wanted)
        (exact,) = requirement.specifier
        assert exact.operator == "==", f"{line}: a constraint must be one exact version"
        name = canonicalize_name(requirement.name)
        assert name not in found, f"{name} is pinned twice"
        found[name] = Version(exact.version)
    return found


def test_every_declared_package_is_pinned_inside_its_range() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    pinned = pins()
    for text in declared:
        requirement = Requirement(text)
        if requirement.name == project["name"]:
            continue
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(pinned[name], prereleases=True), f"{text} does not admit {pinned[name]}"
