"""`npgrad book`: the book of the project, a static site, from book/, the docstrings and the code.

A chapter is Markdown with these directives; what they cannot find fails, naming file and line:

    $θ_t$                         house notation within a line; ```equations for a block of it
    ```run                        Python, run while the book is built: its text, and what it prints
    ```file NAME, ```shell        a file, and npgrad commands run beside it, with what they print
    {{page algorithms/x.py}}      the page's docstring, with the code of the next ```beside block:
                                  the beginning of an equation's line, and below it, indented,
                                  [FILE ]function[: part of the line that computes it[ ... part
                                  of the last line]]
    {{gradients FILE f f_gradient ...}}    docstrings of functions beside their code
    {{tests FILE [prefix]}}       the names of tests
    {{tape def f}}                book/tape.py from that definition on, to the next directive's
    {{laboratory name; name}}     recorded rows of the laboratory
    {{record FILE.md}}            a recorded table of benchmarks/results
    {{picture FILE | caption}}    a picture of benchmarks/results
    {{number FILE key > key | format}}     a number of a JSON file of benchmarks/results
"""

import argparse
import ast
import contextlib
import inspect
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import NamedTuple

from algorithms.runner.errors import Failure, Outcome, UsageError, require
from algorithms.runner.notation import display, inline

ROOT = Path(__file__).parents[2]
RESULTS = "benchmarks/results"
EXTRA = "npgrad[docs]"
SHIM, WORKER = "https://unpkg.com/iframe-worker/shim", "iframe-worker.js"  # of the search
BLOCK = re.compile(
    r"^```(?P<kind>equations|run|beside|file|shell) ?(?P<name>[\w.]*)\n(?P<body>.*?)^```$"
    r"|^\{\{(?P<line>(?!number)\w+) ?(?P<rest>.*?)\}\}$",
    re.MULTILINE | re.DOTALL,
)
INLINE = re.compile(r"\$(?P<formula>[^$\n]+)\$|\{\{number (?P<number>[^}\n]+)\}\}|`[^`\n]*`")


def book_command(argv, methods) -> Outcome:
    """Build the book."""
    parser = argparse.ArgumentParser("npgrad book", description="Build the book, a static site.")
    parser.error = _usage
    parser.add_argument("--out", metavar="DIR", default="build/book", help="(default: build/book)")
    for flag in ("--json", "--debug"):
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    out = Path(parser.parse_args(argv).out).resolve()
    if not (ROOT / "book").is_dir():
        raise Failure(f"{ROOT / 'book'} does not exist: run npgrad book in a clone of the project")
    for module in ("zensical", "mkdocstrings", "pygments"):
        require(module, EXTRA)
    if out.exists() and any(out.iterdir()) and not (out / "sitemap.xml").exists():
        raise UsageError(f"--out = {out}: is neither empty nor a book")
    with tempfile.TemporaryDirectory() as work:
        pages = write(ROOT / "book", Path(work))
        shell(Path(work), out)
    return Outcome({"out": str(out), "pages": pages}, str(out / "index.html"))


def _usage(message):
    raise UsageError(message)


def shell(work, out):
    """Let Zensical make HTML of work/docs. Raises Failure with what it says went wrong."""
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    said = (done.stdout + done.stderr).strip()
    if done.returncode or not (work / "site" / "index.html").exists():
        raise Failure(f"zensical: {' '.join(said.split('Traceback')[0].split())[-800:]}")
    for page in (work / "site").rglob("*.html"):  # nothing comes from the network
        depth = len(page.relative_to(work / "site").parts) - 1
        here = page.read_text(encoding="utf-8").replace(SHIM, "../" * depth + "assets/" + WORKER)
        page.write_text(here, encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(work / "site", out)


def write(book, work):
    """Write work/docs and work/zensical.toml; return the number of chapters."""
    docs = work / "docs"
    shutil.copytree(book / "assets", docs / "assets")
    config = (book / "zensical.toml").read_text(encoding="utf-8")
    (work / "zensical.toml").write_text(config.replace("ROOT", ROOT.as_posix()), encoding="utf-8")
    sources = sorted(book.rglob("*.md"))
    for source in sources:
        to = docs / source.relative_to(book)
        to.parent.mkdir(exist_ok=True)
        to.write_text(Chapter(source, book, docs).markdown(), encoding="utf-8")
    return len(sources)


class Chapter:
    """One Markdown file with its directives."""

    def __init__(self, path, book, docs):
        self.path, self.book, self.docs = path, book, docs
        self.files = docs.parent / "files" / path.stem
        self.files.mkdir(parents=True)
        self.text = path.read_text(encoding="utf-8")
        self.file = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
        self.namespace = {"__name__": "chapter"}
        self.tape_parts = [m["rest"] for m in BLOCK.finditer(self.text) if m["line"] == "tape"]
        self.line, self.shown = 1, 0

    def fail(self, why):
        raise Failure(f"{self.file}:{self.line}: {why}")

    def markdown(self) -> str:
        """Return the chapter with HTML in place of every directive."""
        parts, end = [], 0
        for match in BLOCK.finditer(self.text):
            parts.append(self.prose(end, match.start()))
            self.line = 1 + self.text.count("\n", 0, match.start())
            if match["kind"] == "beside":  # belongs to the {{page}} before it
                parts.append("")
            elif match["kind"] == "file":
                (self.files / match["name"]).write_text(match["body"], encoding="utf-8")
                parts.append(f'```python title="{match["name"]}"\n{match["body"]}```')
            elif match["kind"]:
                parts.append(getattr(self, match["kind"])(match["body"]))
            else:
                method = getattr(self, match["line"], None)
                if match["line"] not in __doc__ or method is None:
                    self.fail(f"there is no directive {match['line']}")
                parts.append(method(match["rest"].strip()))
            end = match.end()
        return "\n".join([*parts, self.prose(end, len(self.text))])

    def prose(self, start, end):
        def replaced(match):
            self.line = 1 + self.text.count("\n", 0, start + match.start())
            if match["formula"]:
                return f"<span>{inline(match['formula'], self.file, self.line)}</span>"
            return self.read_number(match["number"]) if match["number"] else match[0]

        return INLINE.sub(replaced, self.text[start:end])

    def equations(self, body):
        return raw(grid(display(body.rstrip("\n"), self.file, self.line + 1)))

    def run(self, body):
        """The code, and what it prints, run in the chapter's namespace."""
        printed = io.StringIO()
        code = "\n" * self.line + body
        sys.path.insert(0, str(ROOT / "book"))  # for the chapter's own tape
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(code, self.file, "exec"), self.namespace)
        except Exception as error:
            at = [f.lineno for f in inspect.trace() if f.filename == self.file][-1:]
            self.line = at[0] if at else self.line
            self.fail(f"{type(error).__name__}: {error}")
        finally:
            sys.path.remove(str(ROOT / "book"))
        out = f"\n\n```text\n{printed.getvalue().rstrip()}\n```\n" if printed.getvalue() else "\n"
        return f"```python\n{body.rstrip()}\n```{out}"

    def shell(self, body):
        """npgrad commands, and what they print, run in the folder of the chapter's files."""
        text = ""
        for command in body.strip().split("\n"):
            name, *words = command.split()
            if name != "npgrad":
                self.fail(f"{name}: must be npgrad")
            done = subprocess.run(
                [sys.executable, "-m", "npgrad_command", *words],
                cwd=self.files, env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True, text=True, encoding="utf-8",
            )  # fmt: skip
            if "npgrad: " in done.stderr or not done.stdout:
                self.fail(f"{command}: {done.stderr.strip()[-400:]}")
            text += f"$ {command}\n{done.stdout.rstrip()}\n"
        return f"```text\n{text}```\n"

    def page(self, name):
        """The docstring of a page, its equations beside the code that computes them."""
        page = Source(self, name)
        beside = self._beside(page)
        html = []
        for kind, text, line in blocks(page.docstring, page.line):
            if kind == "prose":
                html.append(f"<p>{inline(text, name, line)}</p>")
                continue
            rows = display(text, name, line)
            codes = [beside.pop(line + k, "") for k in range(len(rows))]
            html.append(pairs(rows, codes) if any(codes) else grid(rows))
        return raw("".join(html[1:]))

    def _beside(self, page):
        """Return {line of the docstring: HTML of the code that computes it}."""
        after = self.text.find("```beside\n", self._offset())
        if after < 0:
            return {}
        start = self.line
        self.line = 2 + self.text.count("\n", 0, after)
        found, at = {}, None
        for text in self.text[after:].split("\n```")[0].split("\n")[1:]:
            if text.startswith("    "):
                found[at] = found.get(at, "") + page.quote(text.strip())
            elif text:
                at = page.equation(text)
                found.setdefault(at, "")
            self.line += 1
        self.line = start
        return found

    def _offset(self):
        return sum(map(len, self.text.splitlines(keepends=True)[: self.line - 1]))

    def gradients(self, rest):
        """Docstrings of functions and methods, typeset, beside their code."""
        file, *names = rest.split()
        source = Source(self, file)
        html = []
        for name in names:
            documented, _, name = name.rpartition("=")
            node = source.function(documented or name)
            left = "".join(
                f"<p>{inline(text, file, line)}</p>"
                if kind == "prose"
                else lines(display(text, file, line))
                for kind, text, line in blocks(ast.get_docstring(node) or "", node.body[0].lineno)
            )
            html.append(f'<div class="pair"><div>{left}</div><div>{source.quote(name)}</div></div>')
        return raw("".join(html))

    def tests(self, rest):
        """The tests of a file whose names begin with one of the prefixes, as unit and law."""
        file, *prefixes = rest.split()
        laws = {}
        for node in Source(self, file).tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                unit, _, law = node.name.removeprefix("test_").partition("__")
                if not prefixes or unit in prefixes:
                    laws.setdefault(unit, []).append((law.replace("_", " "), node.lineno))
        if not laws:
            self.fail(f"{file} has no such tests")
        rows = [
            [f"<code>{unit}</code>", "<br>".join(f"{law} <small>:{n}</small>" for law, n in those)]
            for unit, those in laws.items()
        ]
        return raw(table([f"<code>{file}</code>", "the law that holds, and its line"], rows))

    def tape(self, first):
        """The next part of book/tape.py. Every part is shown, in the order of the file."""
        self.shown += 1
        last = [*self.tape_parts, ""][self.shown]
        source = Source(self, "book/tape.py")
        starts = [n.lineno - 1 for n in source.tree.body]
        begin, end = (source.place(q) if q else len(source.lines) for q in (first, last))
        if begin not in starts or end <= begin:
            self.fail(f"{first} is not a statement of book/tape.py that comes next")
        if self.shown == 1 and begin != starts[0]:
            self.fail("book/tape.py begins before that")
        code = "\n".join(source.lines[begin:end]).strip("\n")
        return f"```python\n{code}\n```"

    def laboratory(self, rest):
        """Rows of the laboratory's record, over its worlds."""
        worlds = self._json("laboratory.json")["worlds"]
        rows = []
        for name in rest.split(";"):
            found = [
                (row, world["gradient_norm"])
                for world in worlds.values()
                for row in world["table"]
                if row["estimator"] == name.strip()
            ]
            if len(found) != len(worlds):
                self.fail(f"the laboratory has no estimator {name.strip()}")
            bias = max(row["bias"] / norm for row, norm in found)
            cosines = [row["cosine"] for row, _ in found if row["cosine"] is not None]
            cells = [f"{row['variance']:.3g}" for row, _ in found]
            shown = f"{bias:.0e}" if bias < 1e-9 else f"{bias:.3f}"
            rows.append([escape(name.strip()), shown, f"{min(cosines):.3f}", *cells])
        names = [f"variance, {name[7:-3]}" for name in worlds]
        return raw(table(["estimator", "largest |bias| / |∇J|", "least cosine", *names], rows))

    def record(self, name):
        """A recorded table, FILE.md of benchmarks/results, with the pictures that it links to."""
        path = self._result(name)
        lines = [t for t in path.read_text(encoding="utf-8").split("\n") if t[:1] == "|"]
        rows = [re.split(r"(?<!\\) *\| *", line)[1:-1] for line in lines]

        def picture(match):
            return f'<a href="{self._copied(match[2])}">{match[1]}</a>'

        def cell(text):
            text = re.sub(r"\\(.)", r"\1", text)
            text = re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text, quote=False))
            text = re.sub(r"\*\*(.*?)\*\*", r"<b>\1</b>", text)
            return re.sub(r"\[([^]]*)\]\((\w+\.png)\)", picture, text)

        head, _, *rest = [[cell(text) for text in row] for row in rows]
        return raw(f"<p>{len(rest)} rows of {RESULTS}/{name}:</p>{table(head, rest)}")

    def picture(self, rest):
        name, _, caption = rest.partition("|")
        text, source = escape(caption.strip()), self._copied(name.strip())
        image = f'<img src="{source}" alt="{text}" loading="lazy">'
        return raw(f"<figure>{image}<figcaption>{text}</figcaption></figure>")

    def _copied(self, name):
        """Copy a picture of benchmarks/results into the book; return its address from here."""
        (self.docs / "pictures").mkdir(parents=True, exist_ok=True)
        shutil.copy(self._result(name), self.docs / "pictures")
        up = "../" * (len(self.path.relative_to(self.book).parts) - 1)
        return f"{up}pictures/{name}"

    def read_number(self, rest):
        path, _, form = rest.partition("|")
        file, _, keys = path.strip().partition(" ")
        value = self._json(file)
        for key in keys.split(" > "):
            try:
                value = value[int(key) if isinstance(value, list) else key.strip()]
            except (KeyError, IndexError, ValueError, TypeError):
                self.fail(f"{RESULTS}/{file} has no {keys}")
        return format(value, form.strip())

    def _json(self, name):
        return json.loads(self._result(name).read_text(encoding="utf-8"))

    def _result(self, name):
        path = ROOT / RESULTS / name
        if not path.is_file():
            self.fail(f"{RESULTS}/{name} does not exist")
        return path


class Source:
    """A Python file that a chapter quotes."""

    def __init__(self, chapter, name):
        self.chapter, self.name = chapter, name
        if not (ROOT / name).is_file():
            chapter.fail(f"{name} does not exist")
        text = (ROOT / name).read_text(encoding="utf-8")
        self.lines, self.tree = text.split("\n"), ast.parse(text)
        self.docstring, self.line = ast.get_docstring(self.tree) or "", 1
        self.functions = dict(named(self.tree))

    def function(self, name):
        if name not in self.functions:
            self.chapter.fail(f"{self.name} has no function {name}")
        return self.functions[name]

    def place(self, quoted, node=None):
        """The index of the only line, of a function or of the file, that has the quoted text."""
        first, last = (node.lineno - 1, node.end_lineno) if node else (0, len(self.lines))
        found = [k for k in range(first, last) if quoted in self.lines[k]]
        if len(found) != 1:
            place = f"{self.name}:{first + 1}" + (f" ({node.name})" if node else "")
            self.chapter.fail(f"{quoted!r} is in {len(found)} lines of {place}, must be in one")
        return found[0]

    def equation(self, quoted):
        """The line of the docstring's only equation that has the quoted text."""
        lines = range(2, self.docstring.count("\n") + 2)
        found = [n for n in lines if "   " in self.lines[n - 1] and quoted in self.lines[n - 1]]
        found = [n for n in found if self.lines[n - 1].strip() == quoted] or found
        if len(found) != 1:
            self.chapter.fail(
                f"{quoted!r} is in {len(found)} lines of {self.name}:1, must be in one"
            )
        return found[0]

    def quote(self, text):
        """HTML of "function", without its docstring, or of "function: part of a statement"."""
        if text.split(" ")[0].endswith(".py"):
            file, _, text = text.partition(" ")
            return Source(self.chapter, file).quote(text)
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
    """HTML of displayed lines, whose columns stay columns."""
    starts = sorted({column for row in rows for column, _ in row})
    html = ""
    for k, row in enumerate(rows, 1):
        ends = [starts.index(column) + 1 for column, _ in row[1:]] + [-1]
        for (column, cell), end in zip(row, ends):
            where = f"grid-row:{k};grid-column:{starts.index(column) + 1}/{end}"
            html += f'<div style="{where}">{cell}</div>'
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
            words = "=" not in re.sub("<[^>]*>", "", cell) and re.search(r"\w", outside)
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
        cells = (f'<td data-of="{name}">{cell}</td>' for name, cell in zip(names, row))
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
