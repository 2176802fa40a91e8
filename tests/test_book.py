"""The book: house notation becomes MathML or is refused, and every quotation is true."""

import ast
import html
import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms.runner import beside, book, equations
from algorithms.runner.cli import main
from algorithms.runner.errors import Failure
from algorithms.runner.notation import display, inline
from npgrad import grad

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted((ROOT / "book").rglob("*.md"), key=str)
QUICK = [path for path in CHAPTERS if path.stem != "settle"]  # which runs commands
PAGES = sorted({m for path in CHAPTERS for m in re.findall(r"{{page (\S+)}}", path.read_text())})


def tree(made):
    return ElementTree.fromstring(f"<p>{made}</p>")


def text_of(made):
    return "".join(tree(made).itertext())


# notation


def blocks_of(page):
    """(kind, text, line) of the docstrings of a page and its public functions."""
    module = ast.parse((ROOT / page).read_text(encoding="utf-8"))
    yield from beside.blocks(ast.get_docstring(module), 1)
    for name, node in beside.named(module):
        if name in ("objective", "gradient", "returns", "targets", "target", "value_gradient"):
            yield from beside.blocks(ast.get_docstring(node), node.body[0].lineno)


@pytest.mark.parametrize("page", PAGES)
def test_notation__every_sentence_and_equation_of_a_page_is_known(page):
    for kind, text, line in blocks_of(page):
        found = [inline(text, page, line)] if kind == "prose" else []
        found += [h for row in display(text, page, line) for _, h in row] if not found else []
        for made in found:
            assert tree(made) is not None


NAMES = st.sampled_from(
    [*"abehqrsvwRSTAGθαβγδλπμσφψ", "v̂", "R̄", "ĝ", "q2", "s'", "θ⁻", "q*", "Σ_K"]
)
SCRIPTS = st.sampled_from(
    ["", "_t", "_{t+1}", "^t", "^{T−t−1}", "^λ_t", "²", "ᵀ", "_target", "^(−x)", "_a'"]
)


def larger(inner):
    """Formulas made of smaller ones."""
    return st.one_of(
        st.tuples(inner, st.sampled_from([" ", " + ", " − ", " ← ", ", "]), inner).map("".join),
        st.tuples(st.sampled_from("πvqEH"), inner).map(lambda x: f"{x[0]}({x[1]})"),
        st.tuples(inner, inner).map(lambda x: f"({x[0]})/({x[1]})"),
        inner.map(lambda x: f"√({x})"),
        inner.map(lambda x: f"∇ln π({x})"),
        inner.map(lambda x: f"Σ_t [ {x} ]"),
        inner.map(lambda x: f"E[{x}]"),
        inner.map(lambda x: f"⌊{x}⌋"),
        inner.map(lambda x: f"∫ {x} ds"),
    )  # fmt: skip


FORMULAS = st.recursive(st.tuples(NAMES, SCRIPTS).map("".join), larger, max_leaves=12)


def letters(text):
    """The letters and digits of a text, in no order: what typesetting must not lose."""
    plain = unicodedata.normalize("NFKD", text).translate(str.maketrans("∑∏", "ΣΠ"))
    return sorted(c for c in plain if c.isalnum() or c in "∇∫")


@given(FORMULAS)
def test_notation__loses_nothing_and_is_well_formed(formula):
    assert letters(text_of(inline(formula, "f", 1))) == letters(formula)


@given(FORMULAS, st.integers(0, 5), st.sampled_from("\\$#@&é漢∮🙂"), st.data())
def test_notation__refuses_other_characters_by_file_and_line(formula, above, wrong, data):
    at = data.draw(st.integers(0, len(formula)))
    text = "b = 0\n" * above + formula[:at] + wrong + formula[at:]
    if wrong == "&":
        text = text.replace("&", "&\\")
    with pytest.raises(Failure, match=rf"^page\.py:{7 + above}: "):
        inline(text, "page.py", 7)


@pytest.mark.parametrize(
    "text",
    [
        "(a",
        "a)",
        "π(a|s",
        "a_",
        "x^",
        "gamma^t",
        "a - b",
        "\\frac",
        "$a$",
        "{a",
        "√",
        "[a}",
        "Σ_",
        "⌊a",
        "⌊a)",
        "|a",
        "|a)",
    ],
)
def test_notation__refuses_what_it_does_not_know(text):
    for convert in (inline, display):
        with pytest.raises(Failure, match=r"^page\.py:3: "):
            convert(text, "page.py", 3)


def parts(made, tag):
    """The texts of the children of the first element of that name."""
    return ["".join(child.itertext()) for child in next(tree(made).iter(tag))]


def test_notation__fractions_take_what_is_written_without_spaces():
    assert parts(inline("η dθ/√(g + ε)", "f", 1), "mfrac") == ["dθ", "g+ε"]
    assert parts(inline("∂ln π(a|s)/∂h_t", "f", 1), "mfrac") == ["∂lnπ(a|s)", "∂ht"]
    assert parts(inline("∂(y − Q(s, a; θ))²/∂θ", "f", 1), "mfrac") == ["∂(y−Q(s,a;θ))2", "∂θ"]
    assert parts(inline("exp h_a / Σ_b exp h_b (S, A)", "f", 1), "mfrac") == ["expha", "∑bexphb"]
    assert parts(inline("1/(1 − γ)", "f", 1), "mfrac") == ["1", "1−γ"]
    assert parts(inline("a + b c / d e = f", "f", 1), "mfrac") == ["bc", "de"]
    assert parts(inline("a b/c d", "f", 1), "mfrac") == ["b", "c"]
    assert parts(inline("w = 1/number of steps, say", "f", 1), "mfrac") == ["1", "number of steps"]


def test_notation__scripts_primes_and_accents_stand_where_they_should():
    assert parts(inline("s'_i", "f", 1), "msub") == ["s′", "i"]
    assert parts(inline("b*(s)", "f", 1), "msup") == ["b", "∗"]
    assert parts(inline("along MMᵀg", "f", 1), "msup") == ["M", "T"]
    assert parts(inline("G^λ_t", "f", 1), "msubsup") == ["G", "t", "λ"]
    assert parts(inline("v̂", "f", 1), "mover") == ["v", "^"]
    assert parts(inline("max_a' Q", "f", 1), "munder") == ["max", "a′"]
    assert parts(inline("Σ_{t=0}^{T} r", "f", 1), "munderover") == ["∑", "t=0", "T"]
    assert parts(inline("o_ij", "f", 1), "msub") == ["o", "ij"]
    assert parts(inline("e^(−ou_theta dt)", "f", 1), "msup") == ["e", "−ou_thetadt"]


def test_notation__bars_are_brackets_or_a_condition():
    assert parts(inline("|s|² [d u]", "f", 1), "msup") == ["|s|", "2"]
    assert parts(inline("limit/‖d‖₂", "f", 1), "mfrac") == ["limit", "‖d‖2"]
    assert parts(inline("η d/(|d| + ε)", "f", 1), "mfrac") == ["d", "|d|+ε"]
    assert parts(inline("|π(a|s)|²", "f", 1), "msup") == ["|π(a|s)|", "2"]
    assert parts(inline("∇Q(s, a)|_{a = μ}", "f", 1), "msub") == ["|", "a=μ"]


@pytest.mark.parametrize("matrix", ["Σ_K Mᵀ", "P Σ₀", "H Σ_b", "H (Σ_b − Σ_K)", "Σ = ∫ ρ(s) ds"])
def test_notation__a_sigma_that_sums_nothing_is_a_matrix(matrix):
    assert "∑" not in inline(matrix, "f", 1) and "Σ" not in inline("Σ_b π_b + Σ W²", "f", 1)


def test_display__keeps_columns_and_lets_a_bracket_go_on():
    rows = display("    a = Σ_i [ b      (1)\n              + c ]", "f", 1)
    assert [[column for column, _ in row] for row in rows] == [[4, 21], [14]]
    rows = display("    R = r      else\n        r + 1  then", "f", 1)
    assert [column for column, _ in rows[0]] == [4, 8, 15]  # cut where the next line starts
    with pytest.raises(Failure, match=r"^f:1: unbalanced"):
        display("    a = [ b\n    c", "f", 1)


def test_display__joins_a_sentence_of_long_lines_and_still_knows_their_numbers():
    long = "    " + " ".join(["so"] * 30) + "\n    "
    assert [len(row) for row in display(f"{long}a = b\n    c = d", "f", 1)] == [1, 0, 1]
    assert len(display(f"{long}  a = b", "f", 1)[1]) == 1  # not at the same indentation
    with pytest.raises(Failure, match=r"^f:2: unknown"):
        display(f"{long}a = \\", "f", 1)


def test_notation__long_products_can_be_broken_and_nothing_is_lost():
    text = "Σ_s d(s) Σ_a π(a|s) (q(s, a) − f(s, a)) ∇f(s, a)"
    made = inline(text, "f", 1)
    assert made.count("<math") == 2 and letters(text_of(made)) == letters(text)
    assert inline("Σ_a π(a|s)", "f", 1).count("<math") == 1


# quotations


def chapter(tmp_path, text):
    """A chapter of its own, in a folder of its own."""
    folder = tmp_path / "book"
    folder.mkdir(exist_ok=True)
    path = folder / "mine.md"
    path.write_text(text, encoding="utf-8")
    shutil.rmtree(tmp_path / "work", ignore_errors=True)
    return book.Chapter(path, folder, tmp_path / "work" / "docs")


@pytest.mark.parametrize("path", QUICK, ids=lambda p: p.stem)
def test_chapter__every_quotation_number_and_picture_is_there(path, tmp_path):
    (tmp_path / "docs").mkdir()
    text = book.Chapter(path, ROOT / "book", tmp_path / "docs").markdown()
    assert "{{" not in re.sub(r"`[^`]*`", "", text)
    assert len(text) > 400


BESIDE = "\n\n{{{{page algorithms/reinforce.py}}}}\n\n```beside\n{}\n    {}\n```\n"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (BESIDE.format("θ ← θ + α^θ", "weights: gamma**(t + 1)"), 7, "in 0 lines"),
        (BESIDE.format("θ ← θ + α^θ", "weights: return"), 7, "in 3 lines"),
        (BESIDE.format("θ ← θ + α^θ", "no_such"), 7, "no function no_such"),
        (BESIDE.format("θ ← θ − α^θ", "weights"), 6, "in 0 lines"),
        (BESIDE.format("θ ← θ + α^θ", "npgrad/gone.py f"), 7, "gone.py does not exist"),
        ("\n{{picture none.png | none}}", 2, "none.png does not exist"),
        ("\n\n{{laboratory no such}}", 3, "no estimator no such"),
        ("\n{{tests tests/test_reinforce.py nothing}}", 2, "no such tests"),
        ("\n{{nonsense}}", 2, "no directive nonsense"),
        ("\n{{prose}}", 2, "no directive prose"),
        ("\na sentence with $\\theta$", 2, "unknown notation"),
        ("```equations\na = b\n\na = \\frac\n```\n", 4, "unknown notation"),
        ("\n```run\nx = 1\nx / 0\n```\n", 4, "ZeroDivisionError"),
        ("\n```run\nx = \n```\n", 2, "SyntaxError"),
        ("\n```shell\nls\n```\n", 2, "must be npgrad"),
        ("\n{{tape def grad(f)}}", 2, "begins before"),
        ('{{tape """Reverse-mode}}\n\n{{tape def grad(f)}}\n\n{{tape def number(x)}}', 3, "next"),
    ],
)
def test_chapter__names_file_and_line_of_what_is_not_there(text, line, says, tmp_path):
    with pytest.raises(Failure, match=rf"mine\.md:{line}: .*{re.escape(says)}"):
        chapter(tmp_path, text).markdown()


def test_chapter__names_file_and_line_of_a_docstring_it_cannot_read(tmp_path, monkeypatch):
    monkeypatch.setattr(book, "ROOT", tmp_path)
    page = '"""Page.\n\nWords, and then\n\n    θ ← θ + \\\\alpha    (1)\n"""\n'
    (tmp_path / "page.py").write_text(page, encoding="utf-8")
    with pytest.raises(Failure, match=r"^page\.py:5: unknown notation at: \\alpha"):
        chapter(tmp_path, "{{page page.py}}").markdown()


def test_index__has_every_row_with_the_lines_of_its_code_and_tests(tmp_path):
    """In order: the letters of each equation and source, and the places of what it points to."""
    shown = book.Chapter(ROOT / "book/equations.md", ROOT / "book", tmp_path / "docs").markdown()
    for path in CHAPTERS:
        for page in re.findall(r"{{page (\S+)}}", path.read_text(encoding="utf-8")):
            assert f"({path.relative_to(ROOT / 'book')}) {{#{Path(page).stem}}}" in shown
    shown = re.findall(r'<div class="row">(.*?)</div>\n', shown)
    rows = equations.read()
    assert len(shown) == len(rows)
    for row, made in zip(rows, shown):
        equation, where = made.split('<div class="where">')
        assert letters(text_of(equation)) == letters(row.block), row.line
        pointers = [(f, equations.line_of(f, n)[1], n) for f, n in (*row.code, *row.tests)]
        assert re.findall("<li>(.*?)</li>", where.replace("<wbr>", "")) == [
            f"{f}:{k}: {n}" for f, k, n in pointers
        ]


ROW = "# E\n\n## A: `algorithms/a3c.py`\n\n    {}\n\n{}\n· `a3c.py: {}`\n· `test_a3c.py: {}`"
LAW = "test_worker__whatever_the_schedule_nothing_is_lost"


@pytest.mark.parametrize(
    ("row", "line", "says"),
    [
        (("θ ← \\theta", "S3", "worker", LAW), 5, "unknown notation"),
        (("θ ← θ", "\\S3", "worker", LAW), 7, "unknown notation"),
        (("θ ← θ\n    a - b", "S3", "worker", LAW), 6, "write − for a minus"),
        (("θ ← θ", "S3", "gone", LAW), 5, "a3c.py: gone: must be a function"),
        (("θ ← θ", "S3", "worker", "test_gone"), 5, "test_a3c.py: test_gone: must be a function"),
    ],
)
def test_index__names_file_and_line_of_what_it_cannot_show(row, line, says, tmp_path, monkeypatch):
    monkeypatch.setattr(book, "ROOT", tmp_path)
    (tmp_path / "algorithms").mkdir()
    (tmp_path / equations.INDEX).write_text(ROW.format(*row), encoding="utf-8")
    with pytest.raises(Failure, match=rf"^{equations.INDEX}:{line}: {re.escape(says)}"):
        chapter(tmp_path, "{{index}}").markdown()


def test_record__has_every_row_of_the_file_and_every_number(tmp_path):
    text = chapter(tmp_path, "{{record claims.md}}").markdown()
    lines = (ROOT / "benchmarks/results/claims.md").read_text(encoding="utf-8").split("\n")
    rows = [line for line in lines if line.startswith("|")][2:]
    assert text.count("<tr>") == 1 + len(rows)
    words = html.unescape(re.sub("<[^>]+>", "", text))
    for number in re.findall(r"[−\d][\d.,e−]*\d", "".join(rows)):
        assert number in words
    for name in re.findall(r"\((\w+\.png)\)", "".join(rows)):
        assert (tmp_path / "work/docs/pictures" / name).is_file()
    linked = re.findall(r"\]\(#(\w+)\)", "".join(rows))
    assert len(linked) > 40
    for name in linked:
        assert f'<a href="#{name}">' in text and f"\n### {name}\n" in text


def test_chapter__shows_the_code_that_runs(tmp_path):
    """Word for word: the quoted lines are those of the file, and their numbers are true."""
    text = chapter(tmp_path, BESIDE.format("θ ← θ + α^θ", "weights: gamma**t")).markdown()
    assert "(equations.md#reinforce)" in text
    line = int(re.search(r"reinforce\.py:(\d+), weights", text)[1])
    lines = (ROOT / "algorithms/reinforce.py").read_text(encoding="utf-8").split("\n")
    assert "gamma**t" in lines[line - 1]
    shown = re.sub("<[^>]+>", "", re.search(r"<pre>.*?</pre>", text, re.S)[0])
    assert shown.strip() == lines[line - 1].strip()


# the tape in 100 lines


@pytest.fixture(scope="module")
def tape():
    sys.path.insert(0, str(ROOT / "book"))
    try:
        import tape
    finally:
        sys.path.remove(str(ROOT / "book"))
    return tape


def test_tape__has_100_lines_and_uses_nothing_before_it_is_there(tape):
    source = inspect.getsource(tape)
    assert source.count("\n") <= 100
    known = set(dir(__builtins__) if not isinstance(__builtins__, dict) else __builtins__)
    for node in ast.parse(source).body:
        own = {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
        own |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and not load(n)}
        own |= {getattr(n, "name", None) for n in ast.walk(node)}
        own |= {a.asname or a.name for n in ast.walk(node) for a in getattr(n, "names", ())}
        used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and load(n)}
        assert used <= known | own, f"line {node.lineno}: {used - known - own}"
        known |= own


def load(name):
    return isinstance(name.ctx, ast.Load)


@given(st.tuples(*[st.integers(1, 4)] * 3), st.integers(0, 2**32 - 1))
def test_tape__is_npgrads(tape, shape, seed):
    """The same chain rule in the same order: what differs is rounding in sums of at most a few
    hundred products of numbers near 1, so 1e-12 is far above it."""
    k, n, m = shape
    rng = np.random.default_rng(seed)
    theta, x, y = rng.normal(size=n * m + m), rng.normal(size=(k, n)), rng.normal(size=(k, m))

    def loss(theta, x):
        W, b = theta[: n * m].reshape(n, m), theta[n * m :]
        h = np.tanh(x @ W + b) / (1.0 + np.exp(-b)) - y
        log_pi = h - np.log(np.sum(np.exp(h), axis=1, keepdims=True))
        return np.sum(np.square(log_pi[:, 0] * 2.0) + log_pi[np.zeros(k, int), 0].reshape(k))

    np.testing.assert_allclose(tape.grad(loss)(theta, x), grad(loss)(theta, x), 1e-12, 1e-12)


def test_tape__refuses_what_it_has_no_rule_for(tape):
    for f in (np.sin, np.add.reduce, lambda x: np.tanh(x, out=np.empty(2))):
        with pytest.raises((NotImplementedError, TypeError)):
            tape.grad(f)(np.ones(2))


# the command, and the site


def test_command__says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "zensical", None)
    assert main(["book", "--out", str(tmp_path / "out")]) == 1
    assert "pip install 'npgrad[docs]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_command__overwrites_nothing_but_a_book(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(book, "require", lambda *names: None)
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["book", "--out", str(tmp_path)]) == 2
    assert "neither empty nor a book" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The book as a reader has it."""
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("zensical is not installed: pip install 'npgrad[docs]'")
    out = tmp_path_factory.mktemp("site")
    assert main(["book", "--out", str(out)]) == 0
    return out


class Links(HTMLParser):
    """The addresses that a page has, those that it loads by itself, and its anchors."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors = set(), set(), {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors.add(given.get("id"))
        if tag == "a" and given.get("href"):
            self.links.add(given["href"])
        elif given.get("src") or (tag == "link" and given.get("href")):
            self.loads.add(given.get("src") or given["href"])


@pytest.mark.slow
def test_site__every_link_resolves_and_nothing_comes_from_the_network(site):
    pages = {path: Links(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) == len(CHAPTERS)
    for path, page in pages.items():
        assert not [x for x in page.loads if re.match("(https?:)?//", x)], path
        assert [x for x in page.links if re.match("https?:", x)] in ([], ["https://zensical.org/"])
        for link in (page.links | page.loads) - {"https://zensical.org/"}:
            name, _, anchor = link.partition("#")
            target = (path.parent / unquote(name)).resolve() if name else path
            assert target.is_file(), f"{path.name}: {link}"
            assert anchor == "" or unquote(anchor) in pages[target].anchors, f"{path.name}: {link}"


PROBE = """<!doctype html><html><body><script>
const pages = PAGES, found = {};
async function probe() {
  for (const page of pages) {
    const frame = document.createElement("iframe");
    frame.style = "border:0;width:WIDTHpx;height:900px";
    frame.src = page;
    document.body.append(frame);
    await new Promise(done => frame.onload = done);
    const inner = frame.contentDocument;
    await inner.fonts.ready;
    const sizes = [...inner.querySelectorAll("math")].map(m => m.getBoundingClientRect());
    const box = inner.documentElement;
    found[page] = {
      over: box.scrollWidth - box.clientWidth,
      math: sizes.length,
      empty: sizes.filter(r => r.width < 2 || r.height < 2).length,
      font: [...inner.fonts].some(f => f.family.includes("Npgrad Math") && f.status == "loaded"),
      title: inner.title,
    };
    frame.remove();
  }
  document.body.textContent = "FOUND" + JSON.stringify(found) + "END";
}
addEventListener("load", probe);
</script></body></html>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
def test_site__fits_and_has_its_equations_without_an_error(site, width):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    pages = sorted(str(p.relative_to(site)) for p in site.rglob("*.html") if p.name != "404.html")
    probe = PROBE.replace("PAGES", json.dumps(pages)).replace("WIDTH", str(width))
    (site / "probe.htm").write_text(probe, encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    flags += ["--enable-logging=stderr", "--virtual-time-budget=120000", "--window-size=1400,1000"]
    command = [chromium, *flags, "--dump-dom", (site / "probe.htm").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = json.loads(html.unescape(re.search("FOUND(.*)END", done.stdout)[1]))
    assert not re.findall(r"CONSOLE.*", done.stderr)
    assert sorted(found) == pages
    for page, seen in found.items():
        assert seen["over"] == 0, f"{page}: {seen['over']} pixels too wide at {width}"
        assert seen["empty"] == 0, f"{page}: {seen}"
        assert seen["font"] or not seen["math"], f"{page}: the mathematical font is not loaded"
        assert seen["math"] > 20 or not page.startswith("methods/"), f"{page}: {seen}"
