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
    {{record FILE.md}}            the first table of a record in benchmarks/results, and the
                                  sections that it links to
    {{picture FILE | caption}}    a picture of benchmarks/results
    {{index}}                     algorithms/EQUATIONS.md: every equation, its source, where its
                                  code and its tests are; what has a page in the book links to it
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

from algorithms.runner import equations
from algorithms.runner.beside import Source, blocks, grid, lines, pairs, raw, table
from algorithms.runner.errors import Failure, Outcome, UsageError, require
from algorithms.runner.notation import display, inline

ROOT = Path(__file__).parents[2]
RESULTS = "benchmarks/results"
EXTRA = "npgrad[docs]"
SHIM, WORKER = "https://unpkg.com/iframe-worker/shim", "iframe-worker.js"  # of the search
BLOCK = re.compile(
    r"^```(?P<kind>equations|run|beside|file|shell) ?(?P<name>[\w.]*)\n(?P<body>.*?)^```$"
    r"|^\{\{(?P<line>\w+) ?(?P<rest>.*?)\}\}$",
    re.MULTILINE | re.DOTALL,
)
DIRECTIVES = "page", "gradients", "tests", "tape", "laboratory", "record", "picture", "index"
PICTURE = r"\[([^]]*)\]\((\w+\.png)\)"
INLINE = re.compile(r"\$(?P<formula>[^$\n]+)\$(?P<after>[.,;:)]*)|`[^`\n]*`")


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
                if match["line"] not in DIRECTIVES:
                    self.fail(f"there is no directive {match['line']}")
                parts.append(getattr(self, match["line"])(match["rest"].strip()))
            end = match.end()
        return "\n".join([*parts, self.prose(end, len(self.text))])

    def prose(self, start, end):
        def replaced(match):
            self.line = 1 + self.text.count("\n", 0, start + match.start())
            if not match["formula"]:
                return match[0]
            formula = inline(match["formula"], self.file, self.line)
            return f'<span class="formula">{formula}{match["after"]}</span>'

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
        page = Source(ROOT, name, self.fail)
        beside = self._beside(page)
        html = []
        for kind, text, line in blocks(page.docstring, page.line):
            if kind == "prose":
                html.append(f"<p>{inline(text, name, line)}</p>")
                continue
            rows = display(text, name, line)
            codes = [beside.pop(line + k, "") for k in range(len(rows))]
            html.append(pairs(rows, codes) if any(codes) else grid(rows))
        link = f"[All its equations, with their sources and tests]({self._up()}equations.md"
        return f"{raw(''.join(html[1:]))}\n\n{link}#{Path(name).stem})\n"

    def _beside(self, page):
        """Return {line of the docstring: HTML of the code that computes it}."""
        here = sum(map(len, self.text.splitlines(keepends=True)[: self.line - 1]))
        after, other = self.text.find("```beside\n", here), self.text.find("{{page", here + 1)
        if after < 0 or 0 <= other < after:
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

    def gradients(self, rest):
        """Docstrings of functions and methods, typeset, beside their code."""
        file, *names = rest.split()
        source = Source(ROOT, file, self.fail)
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
        for node in Source(ROOT, file, self.fail).tree.body:
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
        return raw(table([f"<code>{file}</code>", "law, line"], rows))

    def tape(self, first):
        """The next part of book/tape.py. Every part is shown, in the order of the file."""
        self.shown += 1
        last = [*self.tape_parts, ""][self.shown]
        source = Source(ROOT, "book/tape.py", self.fail)
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
        worlds = json.loads(self._result("laboratory.json").read_text("utf-8"))["worlds"]
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
            least = f"{min(cosines):.3f}".replace("-", "−")
            rows.append([escape(name.strip()), shown, least, *cells])
        names = [f"variance, {name[7:-3]}" for name in worlds]
        return raw(table(["estimator", "largest |bias| / |∇J|", "least cosine", *names], rows))

    def record(self, name):
        """The first table of FILE.md of benchmarks/results, with the pictures that it links to, and
        the sections that it links to."""
        whole = self._result(name).read_text(encoding="utf-8")
        first = re.search(r"(?:^\|.*\n)+", whole, re.MULTILINE)[0]
        rows = [re.split(r"(?<!\\) *\| *", line)[1:-1] for line in first.splitlines()]

        def picture(match):
            return f'<a href="{self._copied(match[2])}">{match[1]}</a>'

        def cell(text):
            text = re.sub(r"\\(.)", r"\1", text)
            text = re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text, quote=False))
            text = re.sub(r"\*\*(.*?)\*\*", r"<b>\1</b>", text)
            text = re.sub(r"\[([^]]*)\]\((#\w+)\)", r'<a href="\2">\1</a>', text)
            text = re.sub(r"\[([^]]*)\]\(\w+\.md\)", r"\1", text)  # not in the book
            return re.sub(PICTURE, picture, text)

        head, _, *rest = [[cell(text) for text in row] for row in rows]
        shown = raw(f"<p>{len(rest)} rows of {RESULTS}/{name}:</p>{table(head, rest)}")
        sections = whole.partition(first)[2].partition("\n## ")[2] if "](#" in first else ""
        return f"{shown}\n\n## {re.sub(PICTURE, picture, sections)}" if sections else shown

    def picture(self, rest):
        name, _, caption = rest.partition("|")
        text, source = escape(caption.strip()), self._copied(name.strip())
        image = f'<a href="{source}"><img src="{source}" alt="{text}" loading="lazy"></a>'
        return raw(f"<figure>{image}<figcaption>{text}</figcaption></figure>")

    def _copied(self, name):
        """Copy a picture of benchmarks/results into the book; return its address from here."""
        (self.docs / "pictures").mkdir(parents=True, exist_ok=True)
        shutil.copy(self._result(name), self.docs / "pictures")
        return f"{self._up()}pictures/{name}"

    def _up(self):
        return "../" * (len(self.path.relative_to(self.book).parts) - 1)

    def index(self, _):
        """The index of equations, its rows typeset, with the lines of code and tests today."""
        chapters = {
            name.removesuffix(".py"): path.relative_to(self.book).as_posix()
            for path in self.book.rglob("*.md")
            for name in re.findall(r"{{page (\S+)}}", path.read_text(encoding="utf-8"))
        }
        shown = []
        for part in equations.parts((ROOT / equations.INDEX).read_text(encoding="utf-8")):
            if isinstance(part, equations.Row):
                shown.append(raw(self._row(part)))
                continue
            part = part.replace("../benchmarks/results/claims.md", "claims.md")
            part = re.sub(r"\[([^]]*)\]\((?!claims)[^)]*\)", r"\1", part)  # not in the book
            if heading := re.fullmatch(r"### (.*): `(.*)`", part):
                name, file = heading.groups()
                to = [link for page, link in chapters.items() if file.startswith(page)]
                name = f"[{name}]({to[0]})" if to else name
                part = f"### {name} {{#{Path(file).stem}}}\n\n`{file}`"
            shown.append(part)
        return "\n\n".join(shown[1:])

    def _row(self, row):
        """HTML of a row: the equation, and below it where it comes from and is computed."""
        file, line = equations.INDEX, row.line
        shown = lines(display(row.block, file, line))
        source = inline(row.source, file, line + row.block.count("\n") + 2)
        code, tests = (
            "".join(
                f"<li>{f}:{equations.line_of(f, n, line)[1]}: {n}</li>" for f, n in those
            ).replace("_", "_<wbr>")
            for those in (row.code, row.tests)
        )
        where = f"<p>{source}</p><ul>{code}</ul><ul>{tests}</ul>"
        return f'<div class="row"><div>{shown}</div><div class="where">{where}</div></div>'

    def _result(self, name):
        path = ROOT / RESULTS / name
        if not path.is_file():
            self.fail(f"{RESULTS}/{name} does not exist")
        return path
