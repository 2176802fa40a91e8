"""The house notation, as the docstrings have it, as MathML: θ ← θ + α^θ γ^t (G_t − b(S_t)) ∇ln π.

`inline` converts a sentence, `display` an indented block whose columns stay columns. What is no
notation is refused, with its file and line: an unknown character, a bracket that is not closed, a
Greek letter spelled out, a hyphen for a minus. The grammar:

    words      two letters or more are text; ln, exp, max, ... are functions; `code`, "text"
    names      one letter, Latin or Greek, with accents (v̂), digits (q2), primes (s'), * (q*); Σ is
               one where its index is a capital, or nothing follows to be summed
    scripts    _t  _{t+1}  _target  ^t  ^{t−1}  ^(−x)  and the raised digits ², ᵀ, ⁻
    calls      a bracket that follows without a space belongs to what stands before it: π(a|s),
               1{S_t = s}; |x| and ‖x‖ are brackets with a space, (, [ or / on the left
    fractions  a/b takes what is written without spaces, a b / c d the products beside it
    prefixes   ∇ ∂ √ ln log exp go with what follows: ∂ln π(a)/∂h is one fraction
"""

import re
import unicodedata
from html import escape
from itertools import pairwise
from typing import NamedTuple

from algorithms.runner.errors import Failure

FUNCTIONS = set("ln log exp max min lim tanh tr Cov Var Pr argmax mod".split())
BINDING = set("∇ ∂ √ ln log exp".split())
LIMITS = set("Σ Π max min argmax lim mean".split())
GREEK = set("alpha beta gamma delta epsilon theta lambda mu pi rho sigma tau phi psi omega".split())
RELATIONS, BINARY = set("=←→↦≠≤≥<>≪∝∼∈≈"), set("+−±·×")
RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀᵗᵏⁿ°", "0123456789+−Ttkn∘"))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789"))
MARKS = {"\u0302": "^", "\u0304": "¯", "\u0303": "∼"}
PRIME = '<mo lspace="0" rspace="0">′</mo>'
SHOWN = {"...": "…", "->": "↦", "~": "∼", "Σ": "∑", "Π": "∏", "∫": "∫"}
OPEN = {"(": ")", "[": "]", "{": "}", "⌊": "⌋", "|": "|", "‖": "‖"}

TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<code>`[^`]+`|[a-z]{2,}\w*(?:\.[a-z]\w+)+)
      | (?P<quoted>"[^"]+")
      | (?P<text>§+|%|&|–|(?:[A-Za-z]\.){2,}|p\.(?=\s\d)|\w-[A-Za-z]{2,}[\w-]*
              |\d+-(?:[a-z]+|(?=\s)))
      | (?P<raised>[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀᵗᵏⁿ°]+)
      | (?P<lowered>[₀₁₂₃₄₅₆₇₈₉]+)
      | (?P<differential>d(?:[NWtsτ]|w(?!\w))(?![A-Za-z]))
      | (?P<factor>[A-Z](?=[A-Z][ᵀ⁻]))
      | (?P<matrix>Σ(?=_[A-Z]|[₀₁]|(?:_\w)?\s*(?:[−+=.,;:)\]]|$)))
      | (?P<name_in_code>[A-Za-z]{2,}(?:_[A-Za-z0-9]{2,})+|d_theta)
      | (?P<word>(?:[A-Za-z]{2}[A-Za-z0-9]*|[A-Z]\d[A-Z])(?:[-–'][A-Za-z]+|(?<=s)'(?=\s))*)
      | (?P<number>\d+(?:\.\d+)*(?:e-?\d+)?|\.\d+|[½¼⅓])
      | (?P<name>[A-Za-zΑ-Ωα-ωϑϕϵ∫]\d*)
      | (?P<accent>[\u0302\u0303\u0304])
      | (?P<prime>['′]|(?<=\w)\*)
      | (?P<script>[_^])
      | (?P<prefix>[∇∂√])
      | (?P<open>[(\[{⌊]|(?<![^\s(\[{/])[|‖](?=[^\s_]))
      | (?P<close>[)\]}⌋]|(?<=\S)[|‖](?=[\s)\]}/²₂.,;:]|$))
      | (?P<point>[,;:]|\.(?!\.))
      | (?P<op>\.\.\.|->|[=←→↦≠≤≥<>≪∝~∈≈+−·±×/|‖∞!…])""",
    re.VERBOSE,
)
OPERANDS = set("name word number differential matrix name_in_code prefix open code".split())


class Token(NamedTuple):
    kind: str
    text: str
    place: int


class Item(NamedTuple):
    """A piece of a formula. kind: math, group (in brackets; inner has them and what is between),
    op, point, or text; html: MathML, of text HTML, of op and point the character; gap: after a
    space."""

    kind: str
    html: str
    gap: bool
    inner: tuple = ()


class Parser:
    """Recursive descent over one text. loose: the closing brackets that earlier columns of a
    display still wait for; None: all brackets close here."""

    def __init__(self, text, file, line, loose=None):
        parts = (unicodedata.normalize("NFD", c) if c.isalpha() else c for c in text)
        self.text, self.file, self.line, self.k = "".join(parts), file, line, 0
        self.tokens, place = [], 0
        while place < len(self.text):
            match = TOKEN.match(self.text, place)
            if not match:
                self.fail(place, "write − for a minus" if self.text[place] == "-" else None)
            if match["word"] in GREEK:
                self.fail(place, "write the Greek letter")
            kind = "name" if match["factor"] else match.lastgroup  # M of MMᵀ
            self.tokens.append(Token(kind, match[0], place))
            place = match.end()
        self.alone = self._alone(loose)

    def fail(self, place=None, why=None):
        place = self.peek().place if place is None else place
        line = self.line + self.text.count("\n", 0, place)
        shown = self.text[place:].split("\n")[0][:40]
        raise Failure(f"{self.file}:{line}: {why or 'unknown notation'} at: {shown}")

    def _alone(self, loose):
        """Return the places of brackets whose partners are in other columns. Raises Failure for
        one that has none."""
        stack, alone = [], set()
        for kind, text, place in self.tokens:
            if kind == "open":
                stack.append((text, place))
            elif kind == "close" and stack:
                if {text, want := OPEN[stack[-1][0]]} & set("}⌋|‖") and text != want:
                    self.fail(place, "unbalanced bracket")
                stack.pop()
            elif kind == "close":
                if not loose or loose.pop() != text:
                    self.fail(place, "unbalanced bracket")
                alone.add(place)
        if stack and loose is None:
            self.fail(stack[0][1], "unbalanced bracket")
        for text, place in stack:
            loose.append(OPEN[text])
            alone.add(place)
        return alone

    def peek(self, ahead=0):
        k = self.k + ahead
        return self.tokens[k] if k < len(self.tokens) else Token("end", "", len(self.text))

    def take(self):
        self.k += 1
        return self.tokens[self.k - 1]

    def at(self, kind):
        """The next token is a bracket of that kind, and has its partner."""
        return self.peek().kind == kind and self.peek().place not in self.alone

    def sequence(self):
        """Return the items up to the end or a closing bracket, fractions made."""
        items, gap = [], False
        while self.peek().kind != "end" and not self.at("close"):
            if self.peek().kind == "space":
                self.take()
                gap = True
            else:
                items.append(self.item(gap))
                gap = False
        return fractions(items)

    def item(self, gap):
        kind, text, place = self.peek()
        if place in self.alone:
            return Item("op", self.take().text, gap)
        if kind in ("quoted", "text") or (kind == "code" and not self._fraction()) or self._prose():
            self.take()
            shown = f"“{text[1:-1]}”" if kind == "quoted" else text.strip("`")
            return Item("text", code(shown) if kind == "code" else escape(shown), gap)
        if kind == "point":
            return Item("point", self.take().text, gap)
        if kind == "op":
            shown = SHOWN.get(self.take().text, text)
            if text == "|" and self.peek().text == "_":
                bar = '<mo lspace="0" rspace="0">|</mo>'
                return Item("math", self.scripted(bar), gap)
            return Item("math", mi(shown), gap) if shown in "…∞" else Item("op", shown, gap)
        return self.factor(gap)

    def _fraction(self):
        return "/" in (self.peek(1).text, self.tokens[self.k - 1].text if self.k else "")

    def _prose(self):
        """The next token is a word of a sentence: no function, script, call or part of a fraction;
        or an article."""
        kind, text, _ = self.peek()
        after = self.peek(1)
        if kind == "word":
            called = after.text in ("(", "[") and after.place not in self.alone
            carries = after.kind in ("script", "raised", "lowered")
            return not (text in FUNCTIONS or carries or called or self._fraction())
        if kind != "name" or text not in "aA" or after.kind != "space":
            return False
        before, after = self.tokens[self.k - 2] if self.k > 1 else None, self.peek(2)
        if after.kind in ("word", "text", "quoted"):
            return after.text not in FUNCTIONS
        return bool(before) and before.kind == "word" and after.kind in ("name", "number")

    def factor(self, gap):
        """A prefix with what it belongs to, or an atom with its scripts and calls."""
        kind, text, _ = self.peek()
        if text in BINDING:
            self.take()
            if text == "√":
                return Item("math", f"<msqrt>{bare(self._operand() or self.fail())}</msqrt>", gap)
            html = self.scripted(mo(text) if kind == "prefix" else mi(text))
            space = "" if kind == "prefix" or self.peek().kind != "space" else mspace(".17em")
            operand = self._operand()
            return Item("math", html + (space + operand.html if operand else ""), gap)
        item = self.atom(gap)
        html = self.scripted(item.html, text in LIMITS and kind != "matrix")
        inner = item.inner if html == item.html else ()
        while self.at("open"):
            html, inner = self.scripted(html + self.atom(False).html), ()  # a call
        return Item("group" if inner else "math", html, gap, inner)

    def _operand(self):
        """Take what a prefix belongs to, or None: a word after a space is text."""
        k = self.k
        if self.peek().kind == "space":
            self.take()
            if self._prose():
                self.k = k
        if self.peek().kind in OPERANDS and self.peek().place not in self.alone:
            return self.factor(False)
        self.k = k
        return None

    def atom(self, gap):
        if self.peek().kind not in OPERANDS:
            self.fail()
        kind, text, _ = self.take()
        if kind == "open":
            inner, closing = self.sequence(), self.take().text
            html = row(inner)
            fence = "<mo>{}</mo>".format if "<mfrac" in html else mo
            html = fence(text) + html + fence(closing)
            if text in "([{":
                return Item("group", html, gap, (text, *inner, closing))
            return Item("math", f"<mrow>{html}</mrow>", gap)
        if kind == "number":
            return Item("math", f"<mn>{text.replace('-', '−')}</mn>", gap)
        if kind == "differential":
            return Item("math", mi("d") + mi(text[1:]), gap)
        if kind in ("name_in_code", "code"):
            return Item("math", f"<mtext>{code(text.strip('`'))}</mtext>", gap)
        if kind == "word" and self.k > 1 and self.tokens[self.k - 2].text == "/":
            while self.peek().kind == "space" and self.peek(1).kind == "word":
                text += " " + (self.take(), self.take())[1].text  # 1/number of steps
        html = mo(SHOWN[text]) if text in "ΣΠ∫" and kind != "matrix" else mi(text)
        while self.peek().kind == "accent":
            html = f'<mover accent="true">{html}{mo(MARKS[self.take().text])}</mover>'
        return Item("math", html, gap)

    def scripted(self, base, limits=False):
        """Return base with all primes and scripts that follow; below it, if limits."""
        sub, sup = "", ""
        while (kind := self.peek().kind) in ("prime", "raised", "lowered", "script"):
            text = self.take().text
            if text in "'′":
                base += PRIME
            elif kind == "prime":
                sup += mo("∗")
            elif kind == "raised":
                sup += "".join(letter(RAISED[c]) for c in text)
            elif kind == "lowered":
                sub += "".join(letter(LOWERED[c]) for c in text)
            elif text == "_":
                sub += (mo(",") if sub else "") + self._script()
            else:
                sup += self._script()
        if not (sub or sup):
            return base
        parts = "".join(f"<mrow>{part}</mrow>" for part in (base, sub, sup) if part)
        below, above = ("under", "over") if limits and sub else ("sub", "sup")
        tag = "m" + below * bool(sub) + above * bool(sup)
        return f"<{tag}>{parts}</{tag}>"

    def _script(self):
        if self.peek().text in ("{", "("):
            self.take()
            inner = self.sequence()
            self.take()
            return row(inner)
        if self.peek().kind not in ("name", "word", "number"):
            self.fail(why="no script")
        kind, text, _ = self.peek()
        html = self.atom(False).html
        if kind == "word" and re.fullmatch("[a-z]{2}", text):  # x_ij
            html = mi(text[0]) + mi(text[1])
        while self.peek().kind == "prime":
            self.take()
            html += PRIME
        return html


def fractions(items):
    """Return the items, with a fraction in place of a/b and of a b / c d."""
    factor = lambda item: item.kind in ("math", "group")
    k = 0
    while k < len(items):
        first, last = k, k + 1
        if items[k].html == "/" and items[k].kind == "op":
            spaced = items[k].gap
            while first and factor(items[first - 1]) and (
                first == k or spaced or not items[first].gap
            ):  # fmt: skip
                first -= 1
            while last < len(items) and factor(items[last]) and (
                last == k + 1 or not items[last].gap or (spaced and items[last].kind == "math")
            ):  # fmt: skip
                last += 1
        if first < k and last > k + 1:
            parts = (row(part, bare) for part in (items[first:k], items[k + 1 : last]))
            html = "".join(f"<mrow>{part}</mrow>" for part in parts)
            items[first:last] = [Item("math", f"<mfrac>{html}</mfrac>", items[first].gap)]
            k = first
        k += 1
    return items


def bare(item):
    """The MathML of an item, without the brackets of a group."""
    return row(item.inner[1:-1]) if item.inner else item.html


def row(items, alone=None, goes_on=False):
    """Return items side by side within a formula, where words are text. A single one is made by
    `alone`, if given. goes_on: something stands before the first."""
    if alone and len(items) == 1:
        return alone(items[0])
    html = ""
    for k, item in enumerate(items):
        before = items[k - 1].kind if k else "math" if goes_on else "op"
        before = "op" if k and items[k - 1].html == mo("[") else before
        if k and item.gap and "op" not in (item.kind, before):
            html += mspace(".3em" if "text" in (item.kind, before) else ".17em")
        after = items[k + 1].kind if k + 1 < len(items) else "op"
        if item.html == "·" and {before, after} & {"op", "point"}:
            html += mi(item.html)
        elif item.kind == "op":
            sign = item.html in "+−±" and before in ("op", "point")
            html += mo(item.html, "prefix" if sign else "infix")
        elif item.kind == "point":
            space = ".2em" if k + 1 < len(items) else "0"
            html += f'<mo lspace="0" rspace="{space}">{item.html}</mo>'
        else:
            html += f"<mtext>{item.html}</mtext>" if item.kind == "text" else item.html
    return html


def mo(text, form=""):
    form = f' form="{form}"' if form and text in RELATIONS | BINARY else ""
    flat = ' stretchy="false"' if text in "()[]{}⌊⌋|‖^¯" else ""
    return f"<mo{form}{flat}>{escape(text)}</mo>"


def mi(text):
    return f"<mi>{escape(text)}</mi>"


def code(text):
    return f"<code>{escape(text)}</code>"


def mspace(width):
    return f'<mspace width="{width}"/>'


def letter(c):
    """A raised or lowered character; T is upright, the transpose."""
    if c == "T":
        return '<mi mathvariant="normal">T</mi>'
    return f"<mn>{c}</mn>" if c.isdigit() else mi(c) if c.isalpha() else mo(c)


def flattened(items):
    """Return items with brackets of prose, and [ ] around a sum, opened, so that what is in them
    can be broken into lines."""
    for item in items:
        if item.inner and item.inner[0] == "[" and any(i.html in BINARY for i in item.inner[1:-1]):
            yield from (Item("math", mo("["), item.gap), *item.inner[1:-1])
            yield Item("math", mo("]"), False)
            continue
        if item.inner and item.inner[0] == "(" and any(i.kind == "text" for i in item.inner[1:-1]):
            first, *rest = flattened(item.inner[1:-1])
            yield parenthesis("(", first, item.gap)
            yield from (first._replace(gap=False), *rest)
            yield parenthesis(")", [first, *rest][-1], False)
        else:
            yield item


def parenthesis(text, beside, gap):
    """A bracket of prose: a part of the formula that it touches, if there is one."""
    return Item("text", text, gap) if beside.kind == "text" else Item("math", mo(text), gap)


def html_of(items, style=""):
    """Return HTML: words as text, the rest as formulas, which may be broken after a relation and
    before a + or −; what is still long, between two factors."""
    html, formula, goes_on = "", [], False

    def flush(mark="", on=False):
        nonlocal html, formula, goes_on
        if not formula:
            return
        inside = row(formula, goes_on=goes_on)
        words = re.sub("<[^>]+>", "", inside)
        gaps = [k for k, two in enumerate(pairwise(formula), 1) if apart(*two)]
        if len(words) > 28 and gaps:
            k = min(gaps, key=lambda k: abs(2 * k - len(formula)))
            html += f"<math{style}>{row(formula[:k], goes_on=goes_on)}</math> "
            inside = row(formula[k:], goes_on=True)
        number = re.fullmatch(r"[\d(),.;:…]*", words) and "<mf" not in inside
        plain = number and not html.endswith("<wbr/>")
        html += (words if plain else f"<math{style}>{inside}</math>") + mark
        formula, goes_on = [], on

    for item in flattened(items):
        if item.kind == "text" or (item.kind == "point" and not formula):
            flush()
            html += " " * item.gap + item.html
            continue
        if item.gap and formula and formula[-1].kind == "point":
            flush(" ")
        elif item.gap and formula and item.kind == "op" and item.html in BINARY:
            flush("<wbr/>", True)
        elif item.gap and not (formula or item.html in RELATIONS or html.endswith("<wbr/>")):
            html += " "
        formula.append(item)
        if item.kind == "op" and item.html in RELATIONS and item.gap:
            flush("<wbr/>")
    flush()
    return html.removesuffix("<wbr/>").strip()


def apart(a, b):
    """Two items are factors with a space between them, the first being no sum, max or bracket."""
    return b.gap and not re.match("<munder|<mo[ >]", a.html) and "op" not in (a.kind, b.kind)


def inline(text, file, line):
    """Return a sentence as HTML. Raises Failure, naming file and line, for unknown notation."""
    return html_of(Parser(text, file, line).sequence())


def display(block, file, line):
    """Return the lines of a block as HTML rows: each is a list of (column, HTML), where columns
    are set apart by two spaces or more. A bracket may be closed in a later column or line."""
    lines, loose, rows = block.split("\n"), [], []
    for k in range(len(lines) - 1, 0, -1):  # a sentence of long lines is broken as there is room
        above, text = lines[k - 1], lines[k].strip()
        indent = above[: len(above) - len(above.lstrip())]
        whole = len(above) > 84 and lines[k] == indent + text and text
        if whole and "  " not in above.strip() + text:
            lines[k - 1 : k + 1] = f"{above}\n{text}", ""
    starts = {len(text) - len(text.lstrip()) for text in lines if text.strip()}
    for k, text in enumerate(lines):
        rows.append([])
        for match in re.finditer(r"\S+(?:[ \n]\S+)*", text):
            for column, part in cut(match[0], match.start(), starts):
                option = re.fullmatch(r"(?!then$)[A-Za-z_]{2,}", part) and part != text.strip()
                if option and not rows[-1]:  # the name of one
                    rows[-1].append((column, code(part)))
                else:
                    items = Parser(part, file, line + k, loose).sequence()
                    rows[-1].append((column, html_of(items, ' displaystyle="true"')))
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
