"""The index of equations, algorithms/EQUATIONS.md, and the lines that its rows point to.

A row is an indented block, the equation, and the paragraph below it:

    source
    · `file: function, Class.method`; `file: function`
    · `test_file.py: test_name, test_name`

It stands under a heading, whose last word is the file that displays the equation, if there is one.
"""

import ast
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from algorithms.runner.beside import named
from algorithms.runner.errors import Failure

ROOT = Path(__file__).parents[2]
INDEX = "algorithms/EQUATIONS.md"
PLACES = ROOT / "algorithms", ROOT, ROOT / "tests"  # where a row's paths begin


class Row(NamedTuple):
    """One equation, its first line being `line` of the index. code and tests are pairs (file,
    name); page is "" under a heading without."""

    section: str
    page: str
    block: str
    source: str
    code: tuple[tuple[str, str], ...]
    tests: tuple[tuple[str, str], ...]
    line: int

    @property
    def equation(self):
        return tuple(plain(line) for line in self.block.split("\n"))


def plain(line):
    """The line with single spaces."""
    return " ".join(line.split())


def parts(text):
    """Yield the headings, paragraphs and Rows of an index. Raises Failure where a block has no
    source, code and test."""
    section, page, line, blocks = "", "", 1, text.strip("\n").split("\n\n")
    for before, block, below in zip(["", *blocks], blocks, [*blocks[1:], ""]):
        if block.startswith("    "):
            found = plain(below).split(" · ")
            if len(found) != 3:
                raise Failure(f"{INDEX}:{line}: must be source · code · tests below: {block}")
            yield Row(section, page, block, found[0], *map(pointers, found[1:]), line)
        elif not before.startswith("    "):
            if block.startswith("#"):
                section = block.strip("# ")
                page = section.split("`")[1] if section.endswith("`") else ""
            yield block
        line += block.count("\n") + 2


def read():
    """Return the rows of the index."""
    text = (ROOT / INDEX).read_text(encoding="utf-8")
    return [part for part in parts(text) if isinstance(part, Row)]


def pointers(text):
    """Return ((file, name), ...) of '`file: name, name`; `file: name`'."""
    found = []
    for part in text.split("; "):
        file, _, names = part.strip("`").partition(": ")
        found += [(file, name) for name in names.split(", ")]
    return tuple(found)


def line_of(file, name, line=1):
    """Return (path, line) of a function, class or method. Raises Failure, naming the index's line,
    if there is none."""
    path = next((place / file for place in PLACES if (place / file).is_file()), None)
    if path is None or name not in definitions(path):
        raise Failure(f"{INDEX}:{line}: {file}: {name}: must be a function or class that exists")
    return path.relative_to(ROOT), definitions(path)[name]


@lru_cache
def definitions(path):
    """{name: line} of a file's functions and classes, and of methods as Class.method."""
    return {n: node.lineno for n, node in named(ast.parse(path.read_text(encoding="utf-8")))}
