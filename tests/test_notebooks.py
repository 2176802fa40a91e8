"""The notebooks, kept as text (percent format), run from the first cell to the last."""

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"


@pytest.mark.parametrize("notebook", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_notebook__runs(notebook, capsys):
    runpy.run_path(str(notebook))
    assert capsys.readouterr().out
