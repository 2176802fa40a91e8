"""Equations beside the code that computes them: quotations of Python files, and their HTML."""

import ast
import inspect
import re
from html import escape
from itertools import pairwise
from typing import NamedTuple


class Source:
    """A Python file that is quoted; fail(why) raises, naming the place that quotes it."""

    def __init__(self, root, name, fail):
        self.root, self.name, self.fail = root, name, fail
        if not (root / name).is_file():
            fail(f"{name} does not exist")
        text = (root / name).read_text(encoding="utf-8")
        self.lines, self.tree = text.split("\n"), ast.parse(text)
        self.docstring, self.line = ast.get_docstring(self.tree) or "", 1
        self.functions = dict(named(self.tree))

    def function(self, name):
        if name not in self.functions:
            self.fail(f"{self.name} has no function {name}")
        return self.functions[name]

    def place(self, quoted, node=None):
        """The index of the only line, of a function or of the file, that has the quoted text."""
        first, last = (node.lineno - 1, node.end_lineno) if node else (0, len(self.lines))
        found = [k for k in range(first, last) if quoted in self.lines[k]]
        if len(found) != 1:
            place = f"{self.name}:{first + 1}" + (f" ({node.name})" if node else "")
            self.fail(f"{quoted!r} is in {len(found)} lines of {place}, must be in one")
        return found[0]

    def equation(self, quoted):
        """The line of the docstring's only equation that has the quoted text."""
        lines = range(2, self.docstring.count("\n") + 2)
        found = [n for n in lines if "   " in self.lines[n - 1] and quoted in self.lines[n - 1]]
        found = [n for n in found if self.lines[n - 1].strip() == quoted] or found
        if len(found) != 1:
            self.fail(f"{quoted!r} is in {len(found)} lines of {self.name}:1, must be in one")
        return found[0]

    def quote(self, text):
        """HTML of "function", without its docstring, or of "function: part of a statement"."""
        if text.split(" ")[0].endswith(".py"):
            file, _, text = text.partition(" ")
            return Source(self.root, file, self.fail).quote(text)
        name, _, part = text.partition(": ")
        node = self.function(name)
        spans = [(node.lineno, node.end_lineno)]
        if part:
            ends = [self._statement(node, self.place(x, node) + 1) for x in part.split(" ... ")]
            spans = [(ends[0][0], ends[-1][1])]
        elif ast.get_docstring(node):
            spans = [
                (node.lineno, node.body[0].lineno - 1),
                (node.body[0].end_lineno + 1, spans[0][1]),
            ]
        code = "\n".join("\n".join(self.lines[a - 1 : b]) for a, b in spans if b >= a)
        file = self.name.split("/")[-1]
        caption = f"<small>{file}:{spans[0][0]}{'' if not part else ', ' + name}</small>"
        return f"{caption}{highlighted(inspect.cleandoc(chr(10) + code))}"

    def _statement(self, node, line):
        """(first, last) line of the smallest statement there; of a compound one, its head."""
        inside = [n for n in ast.walk(node) if isinstance(n, ast.stmt) and n is not node]
        at = [n for n in inside if n.lineno <= line <= n.end_lineno]
        if not at:
            return line, line
        best = min(at, key=lambda n: n.end_lineno - n.lineno)
        body = getattr(best, "body", None)
        return best.lineno, body[0].lineno - 1 if body else best.end_lineno


def named(tree, prefix=""):
    """Yield (name, node) of functions; methods are named Class.method."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from named(node, f"{node.name}.")


class Lines(NamedTuple):
    kind: str
    text: str
    line: int


def blocks(docstring, line):
    """Yield ("prose" or "display", text, line): lines that are indented or have columns are
    displayed, the others are paragraphs."""
    current = None
    for k, text in enumerate([*docstring.split("\n"), ""]):
        kind = "display" if text.startswith("    ") or "   " in text else "prose"
        if current and (not text or current.kind != kind):
            yield current
            current = None
        if text:
            current = (
                current._replace(text=f"{current.text}\n{text}")
                if current
                else Lines(kind, text, line + k)
            )


def grid(rows):
    """HTML of displayed lines, whose columns stay columns, apart unless a = goes on."""
    starts = sorted({column for row in rows for column, _ in row})
    twos = [two for row in rows for two in pairwise(row)]
    near = {column for (_, cell), (column, _) in twos if cell.endswith("=</mo></math>")}
    html = ""
    for k, row in enumerate(rows, 1):
        ends = [starts.index(column) + 1 for column, _ in row[1:]] + [-1]
        for (column, cell), end in zip(row, ends):
            where = f"grid-row:{k};grid-column:{starts.index(column) + 1}/{end}"
            apart = ' class="apart"' if column not in near | {starts[0]} else ""
            html += f'<div style="{where}"{apart}>{cell}</div>'
    columns = f"grid-template-columns:repeat({len(starts)},auto)"
    return f'<div class="equations" style="{columns}">{html}</div>'


def lines(rows):
    """HTML of displayed lines one below the other, broken where there is no room; what is no
    formula but a remark beside one is a label."""
    html = ""
    for row in filter(None, rows):
        cells = ""
        for n, (_, cell) in enumerate(row):
            outside = re.sub("<math.*?</math>|<[^>]*>", "", cell)
            words = not re.search("[=←]", re.sub("<[^>]*>", "", cell)) and re.search(r"\w", outside)
            cells += f'<span class="label">{cell}</span>' if n and words else f"<span>{cell}</span>"
        indent = max(row[0][0] - 4, 0) * 0.25
        html += f'<div class="line" style="padding-left:{indent:.2f}em">{cells}</div>'
    return html


def pairs(rows, codes):
    """HTML of displayed lines, each beside its code; a line without code joins the one before."""
    groups = []
    for row, code in zip(rows, codes):
        if code or not groups:
            groups.append(["", ""])
        groups[-1][0] += lines([row])
        groups[-1][1] += code
    return "".join(
        f'<div class="pair"><div>{left}</div><div>{right}</div></div>' for left, right in groups
    )


def table(head, rows):
    """HTML of a table that scrolls by itself, and on a phone is a list."""
    html = "".join(f"<th>{name}</th>" for name in head)
    names = [escape(re.sub("<[^>]*>", "", name)) for name in head]
    for row in rows:
        plain = (re.sub("<[^>]*>", "", cell) for cell in row)
        labels = ("" if name == text else name for name, text in zip(names, plain))
        cells = (f'<td data-of="{label}">{cell}</td>' for label, cell in zip(labels, row))
        html += f"</tr><tr>{''.join(cells)}"
    return f'<div class="wide"><table><tr>{html}</tr></table></div>'


def highlighted(code):
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    html = highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip("\n")
    html = "".join(f'<span class="ln">{line}\n</span>' for line in html.split("\n"))
    return f'<div class="highlight"><pre><code>{html}</code></pre></div>'


def raw(html):
    """HTML that Markdown leaves alone: one block, without blank lines."""
    return f'\n<div class="book">{html}</div>\n'
