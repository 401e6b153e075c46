"""Study files that ship with the package: found by name, from a clone and from an installed package."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.studies.config import shipped
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.shipped import shipped_studies, study_path, summary

REPOSITORY = Path(__file__).parents[3]


def test_in_a_clone_they_are_the_files_of_search_spaces() -> None:
    assert list(shipped_studies().values()) == sorted((REPOSITORY / "search_spaces").glob("*.yaml"))


def test_in_an_installed_package_they_lie_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "balance_tune"
    (package / "search_spaces").mkdir(parents=True)
    (tmp_path / "search_spaces").mkdir()
    (package / "search_spaces" / "one.yaml").touch()
    monkeypatch.setattr(shipped, "FOLDER", package)
    assert shipped_studies() == {"one": package / "search_spaces" / "one.yaml"}


def test_a_bare_name_is_a_shipped_study_unless_a_file_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()  # a study's folder, say: the working directory is the root
    assert study_path("quickstart") == shipped_studies()["quickstart"]
    assert read_config("quickstart").name == "quickstart"
    assert study_path("./quickstart") == Path("quickstart")
    assert study_path("quickstart.yaml") == Path("quickstart.yaml")
    assert study_path("nothing") == Path("nothing")
    (tmp_path / "watch").write_text("name: other\n")
    assert study_path("watch") == Path("watch")


def test_a_summary_is_the_first_sentence_of_the_comment() -> None:
    assert summary("# Two lines\n# of text (more). Rest.\n#   command\nname: x\n") == "Two lines of text"
    for name, path in shipped_studies().items():
        assert 20 < len(summary(path.read_text())) < 125, name
