"""The index of equations: every displayed equation has a row, and every row points to something."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from algorithms.runner.equations import INDEX, ROOT, line_of, parts, plain, read
from algorithms.runner.errors import Failure
from algorithms.runner.lookup import METHODS
from benchmarks.equations import main

TEXT = (ROOT / INDEX).read_text(encoding="utf-8")
ROWS = read()


def displayed(path):
    """Return the lines that a file displays: of the module's docstring those that are indented or
    have columns; of all others the indented blocks that begin after an empty line."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)):
            continue
        doc = ast.get_docstring(node, clean=False) or ""
        margin = " " * node.body[0].col_offset if doc else ""
        lines = [line.removeprefix(margin).rstrip() for line in doc.split("\n")]
        if isinstance(node, ast.Module):
            found += [x for x in lines if x.startswith("    ") or "    " in x.strip()]
            continue
        for block in "\n".join(lines).split("\n\n"):
            rows = block.rstrip("\n").split("\n")
            found += rows if all(x.startswith("    ") for x in rows) else []
    return found


PAGES = sorted({page.module.replace(".", "/") for page in METHODS.values()})
BESIDE = [path for page in PAGES for path in sorted(ROOT.glob(f"{page}*.py"))]
EXACT = sorted((ROOT / "algorithms" / "exact").glob("*.py"))
COMPLETE = [path.relative_to(ROOT).as_posix() for path in (*BESIDE, *EXACT) if displayed(path)]
POINTERS = {pointer for row in ROWS for pointer in (*row.code, *row.tests)}


def lines_of(page):
    return [line for row in ROWS if row.page == page for line in row.equation]


@pytest.mark.parametrize("page", COMPLETE)
def test_page__what_it_displays_is_its_rows_in_order(page):
    assert lines_of(page) == [plain(line) for line in displayed(ROOT / page)]


def test_pages__all_display_equations():
    assert {f"{page}.py" for page in PAGES} <= set(COMPLETE)


@pytest.mark.parametrize("page", sorted({row.page for row in ROWS} - {""}))
def test_rows__under_a_file_are_written_in_it(page):
    source = plain((ROOT / page).read_text(encoding="utf-8"))
    assert [line for line in lines_of(page) if line not in source] == []


@pytest.mark.parametrize("file", sorted({file for file, _ in POINTERS}))
def test_rows__point_to_functions_and_tests_that_exist(file):
    for name in sorted(name for other, name in POINTERS if other == file):
        path, line = line_of(file, name)
        found = (ROOT / path).read_text(encoding="utf-8").split("\n")[line - 1]
        assert f" {name.split('.')[-1]}" in found


def test_rows__have_code_that_is_no_test_and_tests_that_are():
    for row in ROWS:
        assert row.source and row.code and row.tests, row
        assert not any(file.startswith("test_") for file, _ in row.code), row
        for file, name in row.tests:
            assert file.startswith("test_") and name.startswith("test_"), row


def test_rows__are_no_duplicates():
    rows = Counter((row.section, row.equation) for row in ROWS)
    assert [row for row, n in rows.items() if n > 1] == []
    for row in ROWS:
        assert len(set(row.code)) == len(row.code) and len(set(row.tests)) == len(row.tests), row


def test_notes__each_of_their_tests_has_a_row():
    named = {name for row in ROWS for file, name in row.tests if file == "test_notes.py"}
    tree = ast.parse((Path(__file__).parent / "test_notes.py").read_text(encoding="utf-8"))
    tests = {node.name for node in tree.body if getattr(node, "name", "").startswith("test_")}
    assert named == tests


def test_statements__that_only_runs_can_show_are_claims():
    """Each name in backticks is a claim that is measured, or said to be unmeasured."""
    listed = TEXT.partition("## Statements")[2].partition("\n- ")[2]
    names = listed.split("`")[1::2]
    claims = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks" / "claims").glob("*.py")
    )
    wrong = [name for name in names if f"def {name}(" not in claims and f'"{name}"' not in claims]
    assert names and not wrong


@pytest.mark.parametrize("below", ["only a source", "    y = 2", ""])
def test_parts__names_file_and_line_of_a_block_without_its_paragraph(below):
    with pytest.raises(Failure, match=r"EQUATIONS\.md:3: must be source"):
        list(parts(f"# Head\n\n    x = 1\n\n{below}"))


def test_rows__know_their_lines():
    lines = TEXT.split("\n")
    for row in ROWS:
        assert row.block.split("\n")[0] == lines[row.line - 1]


@pytest.mark.parametrize(
    "pointer",
    [("reinforce.py", "nothing"), ("nowhere.py", "gradient"), ("a3c.py", "worker.x")],
)
def test_line_of__names_what_does_not_exist(pointer):
    with pytest.raises(Failure, match=r"EQUATIONS\.md:7: .*: must be a function"):
        line_of(*pointer, 7)


def test_displayed__is_what_docstrings_set_apart(tmp_path):
    path = tmp_path / "page.py"
    path.write_text(
        '"""Text.\n\n    a = 1\n\nTheorem    b = 2\nmore text."""\n'
        'class C:\n    """C.\n\n        c = 3\n    """\n'
        '    def f(self):\n        """F.\n\n        x    one\n            two\n        """\n',
        encoding="utf-8",
    )
    assert [plain(line) for line in displayed(path)] == ["a = 1", "Theorem b = 2", "c = 3"]


def test_command__prints_rows_with_lines(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["equations", "13.8", "sb"])
    main()
    path, line = line_of("reinforce.py", "weights")
    assert f"{path}:{line}: weights" in capsys.readouterr().out
