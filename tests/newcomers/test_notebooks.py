"""The notebooks in examples/, run from the first cell to the last in an empty folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from helpers import ROOT

SHOWN = {"engineer": "Turkey → Offer black tea.", "scientist": "soft_emd", "researcher": "nobody in particular"}
"""Notebook → what one of its outputs says."""


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(ROOT / "examples" / f"{name}.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "Outputs are not kept."
    NotebookClient(notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    texts = [str(output) for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any(SHOWN[name] in text for text in texts)
    assert not any("Error" in text for text in texts), texts
