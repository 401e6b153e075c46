"""The notebook of the tutorials runs from the first cell to the figure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorials" / "quickstart.ipynb"
SMALL = "epochs, trials, seeds = 2, 2, 2"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def tagged(notebook: Any, tag: str) -> Any:
    (cell,) = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]
    return cell


def test_it_is_valid_and_tells_nothing_of_the_machine_it_was_run_on() -> None:
    notebook = read()
    nbformat.validate(notebook)
    assert tagged(notebook, "install").source.startswith("%pip install")
    assert re.fullmatch(r"epochs, trials, seeds = \d+, \d+, \d+", tagged(notebook, "parameters").source)
    assert not re.search(r"/home/|/root/|/tmp/|/work/", NOTEBOOK.read_text())


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", NOTEBOOK.read_text()):
        assert (NOTEBOOK.parent / target).is_file(), target


@pytest.mark.ray
def test_it_runs_from_the_first_cell_to_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BALANCE_TUNE_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = read()
    tagged(notebook, "parameters").source = SMALL
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, kernel_name="python3", resources=resources, skip_cells_with_tag="install")
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.data for output in outputs if "data" in output]
    assert any("image/png" in data for data in shown)
    assert any("ogm_ge" in data.get("text/html", "") for data in shown)
    assert [data["text/plain"] for data in shown if data.get("text/plain") == "'done'"]
    assert (tmp_path / "studies" / "notebook" / "report" / "index.html").is_file()
