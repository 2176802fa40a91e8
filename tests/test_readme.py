"""README and the other texts: what they quote, what they link to, and the table of methods."""

import re
from pathlib import Path

import pytest

from benchmarks import readme

ROOT = Path(__file__).parent.parent
TEXTS = ["README.md", "USING.md", "CONTRIBUTING.md", "algorithms/README.md", "benchmarks/README.md",
         "algorithms/EQUATIONS.md"]  # fmt: skip
TEXT = (ROOT / "README.md").read_text("utf-8")


def test_quotation__is_the_pages_own_text():
    blocks = re.findall("```python\n# (algorithms/.*?)\n(.*?)```", TEXT, re.S)
    assert blocks
    for path, block in blocks:
        page = (ROOT / path).read_text("utf-8")
        for function in block.strip().split("\n\n\n"):
            assert function in page


def test_table__is_what_the_records_give():
    assert readme.written(TEXT) == TEXT, "python -m benchmarks.readme"


@pytest.mark.parametrize("method", readme.METHODS, ids=lambda method: method.page)
def test_table__names_tests_that_exist(method):
    tests = (ROOT / "tests" / f"test_{method.page}.py").read_text("utf-8")
    assert f"def {method.proof}(" in tests


@pytest.mark.parametrize("name", TEXTS)
def test_links__lead_somewhere(name):
    text = (ROOT / name).read_text("utf-8")
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", text):
        assert ((ROOT / name).parent / link).exists(), link


def test_readme__is_short():
    assert len(TEXT.splitlines()) <= 110
