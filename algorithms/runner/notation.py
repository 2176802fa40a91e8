"""The house notation, as the docstrings have it, as MathML: θ ← θ + α^θ γ^t (G_t − b(S_t)) ∇ln π.

`inline` converts a sentence, `display` an indented block whose columns stay columns. What is no
notation is refused, with its file and line: an unknown character, a bracket that is not closed, a
Greek letter spelled out, a hyphen for a minus. The grammar:

    words      two letters or more are text; ln, exp, max, ... are functions; `code`, "text"
    names      one letter, Latin or Greek, with accents (v̂), digits (q2), primes (s'), * (q*)
    scripts    _t  _{t+1}  _target  ^t  ^{t−1}  ^(−x)  and the raised digits ², ᵀ, ⁻
    calls      a bracket that follows without a space belongs to what stands before it: π(a|s)
    fractions  a/b takes what is written without spaces, a b / c d the products beside it
    prefixes   ∇ ∂ √ ln log exp go with what follows: ∂ln π(a)/∂h is one fraction
"""

import re
import unicodedata
from html import escape
from typing import NamedTuple

from algorithms.runner.errors import Failure

FUNCTIONS = set("ln log exp max min mean lim tanh tr Cov Var Pr argmax mod".split())
BINDING = {"∇", "∂", "√", "ln", "log", "exp"}
GREEK = (
    "alpha beta gamma delta epsilon theta lambda mu pi rho sigma tau phi psi omega nabla".split()
)
RELATIONS = set("=←→↦≠≤≥<>∝~∈≈")
BINARY = set("+−·±×")
OPERATORS = RELATIONS | BINARY | set("/|‖∞,;:.!…@") - {"@"}
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀᵗᵏⁿ", "0123456789+−Ttkn"))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789"))
ACCENTS = {"\u0302": "^", "\u0304": "¯", "\u0303": "~"}
OPEN, CLOSE = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}

TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<code>`[^`]+`|[a-z]{2,}\w*(?:\.[a-z]\w+)+)
      | (?P<quoted>"[^"]+")
      | (?P<text>§+|%|&|–|(?:[A-Za-z]\.){2,}|p\.(?=\s\d)|[\w]-[A-Za-z]{2,}[\w-]*|\d+-[a-z]+)
      | (?P<raised>[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀᵗᵏⁿ]+)
      | (?P<lowered>[₀₁₂₃₄₅₆₇₈₉]+)
      | (?P<differential>d(?:[NWt]|w(?!\w))(?![A-Za-z]))
      | (?P<name_in_code>[A-Za-z]{2,}(?:_[A-Za-z0-9]{2,})+)
      | (?P<word>(?:[A-Za-z]{2}[A-Za-z0-9]*|[A-Z]\d[A-Z])(?:[-–'][A-Za-z]+|(?<=s)'(?=\s))*)
      | (?P<number>\d+(?:\.\d+)*(?:e-?\d+)?|\.\d+|[½¼⅓])
      | (?P<name>[A-Za-zΑ-Ωα-ωϕϵ]\d*)
      | (?P<accent>[\u0302\u0303\u0304])
      | (?P<star>(?<=\w)\*)
      | (?P<prime>['′])
      | (?P<dots>\.\.\.)
      | (?P<arrow>->)
      | (?P<script>[_^])
      | (?P<prefix>[∇∂√])
      | (?P<open>[(\[{])
      | (?P<close>[)\]}])
      | (?P<op>[=←→↦≠≤≥<>∝~∈≈+−·±×/|‖∞,;:.!…])""",
    re.VERBOSE,
)


class Token(NamedTuple):
    kind: str
    text: str
    place: int


class Item(NamedTuple):
    """A piece of output: `kind` is math, op, punct, text or group; html is MathML, or HTML of text.
    inner are the items of a bracket; gap: a space stands before it."""

    kind: str
    html: str
    gap: bool
    inner: tuple = ()


class Place(NamedTuple):
    """Where a text stands, for errors."""

    file: str
    line: int

    def error(self, text, place, why):
        line = self.line + text.count("\n", 0, place)
        shown = text[place:].split("\n")[0][:40]
        return Failure(f"{self.file}:{line}: {why} at: {shown}")


def tokens(text, where):
    """Return the tokens of a text in NFC but for its accents. Raises Failure for anything else."""
    text = "".join(
        unicodedata.normalize("NFD", c) if c.isalpha() and unicodedata.decomposition(c)[:1] == "0"
        else c for c in text
    )  # fmt: skip
    found, place = [], 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if not match:
            why = "write − for a minus" if text[place] == "-" else "unknown notation"
            raise where.error(text, place, why)
        if match["word"] in GREEK:
            raise where.error(text, place, "write the Greek letter")
        found.append(Token(match.lastgroup, match[0], place))
        place = match.end()
    return text, found


class Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text, where, loose=None):
        self.text, self.tokens = tokens(text, where)
        self.where, self.k, self.loose = where, 0, loose
        self.alone = self._unmatched()

    def _unmatched(self):
        """Return the places of brackets without a partner in this text. Raises Failure if there
        are any, unless loose, a list of the brackets still open in earlier columns, takes them."""
        stack, alone = [], set()
        for token in self.tokens:
            if token.kind == "open":
                stack.append(token)
            elif token.kind == "close":
                if stack:
                    opened = OPEN[stack.pop().text]
                    if opened != token.text and "}" in (opened, token.text):
                        raise self.where.error(self.text, token.place, "unbalanced bracket")
                elif self.loose and self.loose.pop() == token.text:
                    alone.add(token.place)
                else:
                    raise self.where.error(self.text, token.place, "unbalanced bracket")
        if stack and self.loose is None:
            raise self.where.error(self.text, stack[0].place, "unbalanced bracket")
        if stack:
            self.loose += [OPEN[token.text] for token in stack]
        return alone | {token.place for token in stack}

    def peek(self, ahead=0):
        k = self.k + ahead
        return self.tokens[k] if k < len(self.tokens) else Token("end", "", len(self.text))

    def take(self):
        self.k += 1
        return self.tokens[self.k - 1]

    def fail(self, why="unknown notation"):
        raise self.where.error(self.text, self.peek().place, why)

    def sequence(self):
        """Return the items up to the end or a closing bracket, fractions made."""
        items, gap = [], False
        while self.peek().kind != "end":
            token = self.peek()
            if token.kind == "close" and token.place not in self.alone:
                break
            if token.kind == "space":
                self.take()
                gap = True
                continue
            items.append(self.item(gap))
            gap = False
        return fractions(items)

    def item(self, gap):
        token = self.peek()
        if token.place in self.alone:
            return Item("op", mo(self.take().text), gap)
        if token.kind in ("code", "quoted", "text", "word") and not self._notation(token):
            return Item("text", self._words(), gap)
        if token.kind == "name" and token.text in "aAI" and self._article():
            return Item("text", self.take().text, gap)
        if token.kind in ("op", "dots", "arrow"):
            return self._operator(gap)
        return self.factor(gap)

    def _notation(self, token):
        """A function, or a word that carries a script or belongs to a fraction or call."""
        after = self.peek(1)
        if token.kind != "word":
            return False
        slash = after.text == "/" or (self.k and self.tokens[self.k - 1].text == "/")
        called = after.text in ("(", "[") and self.peek(1).place not in self.alone
        function = token.text in FUNCTIONS - {"mean"}
        return function or after.kind == "script" or slash or called

    def _article(self):
        after, before = self.peek(2), self.tokens[self.k - 2] if self.k > 1 else None
        word = after.kind in ("word", "text") and after.text not in FUNCTIONS
        between = before and before.kind == "word" and after.kind == "name"
        return self.peek(1).kind == "space" and (word or between)

    def _words(self):
        token = self.take()
        if token.kind == "code":
            return f"<code>{escape(token.text.strip(chr(96)))}</code>"
        if token.kind == "quoted":
            return f"“{escape(token.text[1:-1])}”"
        return escape(token.text)

    def _operator(self, gap):
        token = self.take()
        text = {"...": "…", "->": "↦", "~": "∼"}.get(token.text, token.text)
        if text in ",;:.":
            return Item("punct", text, gap)
        sub, sup = self.scripts() if text == "|" else ("", "")
        return Item("op", scripted(mo(text), sub, sup), gap)

    def factor(self, gap):
        """A prefix with what it belongs to, or an atom with its scripts and calls."""
        token = self.peek()
        if token.text in BINDING:
            self.take()
            if token.text == "√":
                return Item("math", f"<msqrt>{bare(self._operand())}</msqrt>", gap)
            name = mo(token.text) if token.kind == "prefix" else mi(token.text)
            head = scripted(name, *self.scripts())
            space = "" if token.kind == "prefix" else mspace(self.peek().kind == "space")
            operand = self._operand(required=False)
            return Item("math", head + (space + operand.html if operand else ""), gap)
        item = self.atom(gap)
        html, inner = item.html, item.inner
        sub, sup = self.scripts()
        if sub or sup:
            limits = token.text in ("Σ", "Π", "max", "min", "argmax", "lim", "mean")
            grouped = f"<mrow>{html}</mrow>" if inner else html
            html, inner = scripted(grouped, sub, sup, limits), ()
        while self.peek().text in ("(", "[") and self.peek().place not in self.alone:
            html, inner = html + self.atom(False).html, ()  # a call
            sub, sup = self.scripts()
            html = scripted(f"<mrow>{html}</mrow>", sub, sup) if sub or sup else html
        return Item("group" if inner else "math", html, gap, inner)

    def _operand(self, required=True):
        k = self.k
        if self.peek().kind == "space":
            self.take()
        after, gap = self.peek(), self.k > k
        if gap and after.kind == "word" and not self._notation(after):
            self.k = k
            return self.fail("nothing follows") if required else None
        kinds = ("name", "word", "number", "differential", "name_in_code", "prefix", "open", "code")
        if after.kind in kinds and after.place not in self.alone:
            return self.factor(False)
        self.k = k
        return self.fail("nothing follows") if required else None

    def atom(self, gap):
        token = self.take() if self.peek().kind != "end" else self.fail()
        if token.kind == "open":
            if token.text == "{":
                self.k -= 1
                self.fail()
            inner = self.sequence()
            closing = self.take().text
            html = mo(token.text) + row(inner) + mo(closing)
            return Item("group", html, gap, (token.text, closing, *inner))
        if token.kind == "number":
            return Item("math", f"<mn>{token.text.replace('-', '−')}</mn>", gap)
        if token.kind == "differential":
            return Item("math", mi("d") + mi(token.text[1:]), gap)
        if token.kind in ("name_in_code", "code"):
            return Item("math", f"<mtext><code>{escape(token.text.strip('`'))}</code></mtext>", gap)
        if token.kind == "word":
            return Item("math", mi(token.text), gap)
        if token.kind == "name":
            return Item("math", self._name(token), gap)
        self.k -= 1
        return self.fail()

    def _name(self, token):
        big = {"Σ": "∑", "Π": "∏"}.get(token.text)
        name = mo(big) if big else mi(token.text)
        while self.peek().kind == "accent":
            name = f'<mover accent="true">{name}{mo(ACCENTS[self.take().text])}</mover>'
        return name

    def scripts(self):
        """Return (sub, sup): the MathML of all scripts, primes and raised digits that follow."""
        sub, sup = [], []
        while True:
            kind = self.peek().kind
            if kind == "prime":
                self.take()
                sup.append(mo("′"))
            elif kind == "star":
                self.take()
                sup.append(mo("∗"))
            elif kind in ("raised", "lowered"):
                table, into = (SUPERSCRIPTS, sup) if kind == "raised" else (SUBSCRIPTS, sub)
                into += [letter(table[c]) for c in self.take().text]
            elif kind == "script":
                into = sub if self.take().text == "_" else sup
                into.append((mo(",") if into is sub and sub else "") + self._script())
            else:
                return "".join(sub), "".join(sup)

    def _script(self):
        token = self.peek()
        if token.text in ("{", "("):
            self.take()
            inner = self.sequence()
            self.take()
            return row(inner)
        if token.kind in ("name", "word", "number"):
            html = self.atom(False).html
            while self.peek().kind == "prime":
                self.take()
                html += mo("′")
            return html
        return self.fail("no script follows")


def fractions(items):
    """Return the items, with a fraction in place of a/b and of a b / c d."""
    items = list(items)
    k = 0
    while k < len(items):
        if items[k].html != mo("/") or items[k].kind != "op":
            k += 1
            continue
        spaced = items[k].gap
        first, last = k, k + 1
        while (
            first > 0
            and products(items[first - 1])
            and (first == k or spaced or not items[first].gap)
        ):
            first -= 1
        while last < len(items) and products(items[last]) and (
            last == k + 1 or (spaced and items[last].kind != "group") or not items[last].gap
        ):  # fmt: skip
            last += 1
        if first == k or last == k + 1:
            k += 1
            continue
        parts = (f"<mrow>{over(part)}</mrow>" for part in (items[first:k], items[k + 1 : last]))
        items[first:last] = [Item("math", f"<mfrac>{''.join(parts)}</mfrac>", items[first].gap)]
        k = first + 1
    return items


def products(item):
    return item.kind in ("math", "group")


def over(part):
    return bare(part[0]) if len(part) == 1 else row(part)


def bare(item):
    """The MathML of an item, without the brackets of a group."""
    return row(item.inner[2:]) if item.inner else item.html


def row(items):
    """Return items side by side within a formula; words are text there."""
    html = ""
    for k, item in enumerate(items):
        wide = item.kind == "text" or (k and items[k - 1].kind == "text")
        if item.gap and k and item.kind != "op" and items[k - 1].kind != "op":
            html += mspace(True, ".3em" if wide else ".17em")
        if item.kind == "text":
            html += f"<mtext>{item.html}</mtext>"
        else:
            html += point(item.html, k + 1 < len(items)) if item.kind == "punct" else item.html
    return html


def point(text, goes_on):
    space = f' lspace="0" rspace="{".2em" if goes_on else "0"}"'
    return f"<mo{space}>{text}</mo>"


def mo(text):
    flat = ' stretchy="false"' if text in "()[]|‖" else ""
    accent = ' stretchy="false"' if text in "^¯" else ""
    return f"<mo{flat or accent}>{escape(text)}</mo>"


def mi(text):
    return f"<mi>{escape(text)}</mi>"


def letter(c):
    """A raised or lowered character; T is upright, the transpose."""
    if c == "T":
        return '<mi mathvariant="normal">T</mi>'
    return f"<mn>{c}</mn>" if c.isdigit() else mi(c) if c.isalpha() else mo(c)


def mspace(yes, width=".17em"):
    return f'<mspace width="{width}"/>' if yes else ""


def scripted(base, sub, sup, limits=False):
    sub, sup = (f"<mrow>{s}</mrow>" if s else "" for s in (sub, sup))
    base = f"<mrow>{base}</mrow>" if base.count("<m") > 1 else base
    if limits and sub and not sup:
        return f"<munder>{base}{sub}</munder>"
    tag = {(True, True): "msubsup", (True, False): "msub", (False, True): "msup"}.get(
        (bool(sub), bool(sup))
    )
    return f"<{tag}>{base}{sub}{sup}</{tag}>" if tag else base


def flattened(items):
    """Return items with brackets of prose opened, so that their words can be broken into lines."""
    for item in items:
        if item.inner and item.inner[0] == "(" and any(i.kind == "text" for i in item.inner[2:]):
            yield Item("text", "(", item.gap)
            inner = list(flattened(item.inner[2:]))
            yield from [inner[0]._replace(gap=False), *inner[1:]]
            yield Item("close", ")", False)
        else:
            yield item


def html_of(items, style=""):
    """Return HTML: words as text, the rest as formulas that may be broken before a relation."""
    html, formula = "", []

    def flush():
        nonlocal html, formula
        if formula:
            inside = row(formula)
            words = re.sub("<[^>]+>", "", inside)
            plain = re.fullmatch(r"[\d(),.;:…]*", words) and "<mf" not in inside
            html += words if plain else f"<math{style}>{inside}</math>"
        formula = []

    for item in flattened(items):
        relation = item.kind == "op" and item.html[4:-5] in RELATIONS
        if item.kind in ("text", "close") or (item.kind == "punct" and not formula):
            flush()
            html += " " * item.gap + item.html
        else:
            if item.gap and not formula:
                html += " "
            elif item.gap and formula[-1].kind == "punct":
                flush()
                html += " "
            elif item.gap and relation:
                flush()
                html += "<wbr/>"
            formula.append(item)
    flush()
    return html


def inline(text, file, line):
    """Return a sentence as HTML. Raises Failure, naming file and line, for unknown notation."""
    return html_of(Parser(text, Place(file, line)).sequence())


def display(block, file, line):
    """Return the lines of a block as HTML rows: each is a list of (column, HTML), where columns
    are set apart by two spaces or more. A bracket may be closed in a later column or line."""
    lines, loose, rows = block.split("\n"), [], []
    starts = {len(text) - len(text.lstrip()) for text in lines if text.strip()}
    for k, text in enumerate(lines):
        cells = []
        for match in re.finditer(r"\S+(?: \S+)*", text):
            place, words = match.start(), match[0]
            for offset, part in cut(words, place, starts):
                if (
                    not cells
                    and part != text.strip()
                    and re.fullmatch(r"(?!then$)[A-Za-z_]{2,}", part)
                ):
                    cells.append((offset, f"<code>{part}</code>"))  # the name of an option
                    continue
                parser = Parser(part, Place(file, line + k), loose)
                cells.append((offset, html_of(parser.sequence(), ' displaystyle="true"')))
        rows.append(cells)
    if loose:
        raise Failure(f"{file}:{line}: unbalanced bracket in the equations from here on")
    return rows


def cut(words, place, starts):
    """Yield (column, part): "R_t = r_t" is cut where other lines start below its right side."""
    for start in sorted(starts):
        if words[: max(start - place, 0)].endswith("= "):
            yield place, words[: start - place]
            yield start, words[start - place :]
            return
    yield place, words
