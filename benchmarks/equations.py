"""The index of equations, algorithms/EQUATIONS.md, and the lines that its rows point to.

    python -m benchmarks.equations [WORD ...]

prints the rows that contain all the words (all rows without any), each with the lines of its
functions and tests today. A row is an indented block, the equation, and the paragraph below it:

    source
    · `file: function, Class.method`; `file: function`
    · `test_file.py: test_name, test_name`

It stands under a heading, whose last word is the file that displays the equation, if there is one.
"""

import ast
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
INDEX = ROOT / "algorithms" / "EQUATIONS.md"
PLACES = ROOT / "algorithms", ROOT, ROOT / "tests"  # where a row's paths begin


class Row(NamedTuple):
    """One equation. code and tests are pairs (file, name); page is "" under a heading without."""

    section: str
    page: str
    equation: tuple[str, ...]
    source: str
    code: tuple[tuple[str, str], ...]
    tests: tuple[tuple[str, str], ...]


def plain(line):
    """The line with single spaces."""
    return " ".join(line.split())


def read(text):
    """Return the rows of an index. Raises ValueError where a block has no source, code and test."""
    rows, section, page, blocks = [], "", "", text.split("\n\n")
    for block, below in zip(blocks, [*blocks[1:], ""]):
        if block.startswith("#"):
            section = block.strip("# \n")
            page = section.split("`")[1] if section.endswith("`") else ""
        elif block.startswith("    "):
            parts = plain(below).split(" · ")
            if len(parts) != 3:
                raise ValueError(f"{below!r}: must be source · code · tests, below {block!r}")
            equation = tuple(plain(line) for line in block.strip("\n").split("\n"))
            rows.append(Row(section, page, equation, parts[0], *map(pointers, parts[1:])))
    return rows


def pointers(text):
    """Return ((file, name), ...) of '`file: name, name`; `file: name`'."""
    found = []
    for part in text.split("; "):
        file, _, names = part.strip("`").partition(": ")
        found += [(file, name) for name in names.split(", ")]
    return tuple(found)


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


def line_of(file, name):
    """Return (path, line) of a function, class or method. Raises LookupError if there is none."""
    path = next((place / file for place in PLACES if (place / file).is_file()), None)
    if path is None or name not in definitions(path):
        raise LookupError(f"{file}: {name}: must be a function or class that exists")
    return path.relative_to(ROOT), definitions(path)[name]


@lru_cache
def definitions(path):
    """{name: line} of a file's functions and classes, and of methods as Class.method."""
    found = {}

    def collect(nodes, before):
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found[before + node.name] = node.lineno
                if isinstance(node, ast.ClassDef):
                    collect(node.body, f"{before}{node.name}.")

    collect(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


def written(row):
    """A row as text, with lines."""
    equation = "\n".join(f"    {line}" for line in row.equation)
    places = []
    for file, name in (*row.code, *row.tests):
        path, line = line_of(file, name)
        places.append(f"{path}:{line}: {name}")
    return "\n".join([f"{row.section}: {row.source}", "", equation, "", *places, ""])


def main():
    words = [word.lower() for word in sys.argv[1:]]
    for row in read(INDEX.read_text(encoding="utf-8")):
        text = written(row)
        if all(word in text.lower() for word in words):
            print(text)


if __name__ == "__main__":
    main()
