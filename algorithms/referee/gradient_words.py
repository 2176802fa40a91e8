"""A verdict on a gradient in words: one line, and a table."""

from collections.abc import Iterator
from typing import Any

NEGATIVE = {
    "ascent": "a descent direction of the loss; the page ascends",
    "descent": "an ascent direction; the page descends",
    "step": "a step to be subtracted; the page's is added",
}


def line_of(verdict: Any, sense: str) -> str:
    """Return the verdict in one line."""
    residual = f"residual {verdict.residual:.1g}"
    if verdict.agrees:
        return f"agrees: yours is the page's d of {verdict.method}; {residual}"
    others = "".join(f", {choice}" for choice in _choices(verdict))
    if verdict.but:
        made, where = f"{_sum(verdict)}{others}", f"{verdict.but}, most of all at {_where(verdict)}"
        return f"departs: yours = {made}; but not in {where}"
    if not verdict.fits and not verdict.departing:
        left = f"{verdict.residual:.1g} of it, most of all at {_where(verdict)}"
        return f"departs: yours is the page's but for {left}: is a part in single precision?"
    if not verdict.fits:
        left = f"{verdict.residual:.2g} of it, most of all at {_where(verdict)}"
        return f"departs: no sum of the page's terms gives yours; the closest leaves {left}"
    if not any(verdict.coefficients.values()):
        return "departs: yours is 0 everywhere"
    if not set(verdict.departing) & set(verdict.coefficients):
        return f"departs: yours is the page's but for{others[1:]}; {residual}"
    k, negative = verdict.multiple, abs(verdict.multiple + 1.0) < 1e-3
    if negative and verdict.apart:
        what = f"the negative of {_sum(verdict, -1.0, verdict.apart)}"
    elif negative:
        what = f"the negative: {NEGATIVE[sense]}"
        others = f"; besides{others[1:]}" if others else ""
    elif verdict.apart:
        return f"departs: yours = {_sum(verdict)}{others}; {residual}"
    else:
        what = f"{f'{k:.10g}' if number(k) == '1' else number(k)} times the page's"
    return f"departs: yours is {what}{others}; {residual}"


def table_of(verdict: Any) -> list[str]:
    """Return aligned lines: terms, variants that are not the page's, the worst parameter."""
    rows = [("term", "yours" if verdict.fits else "closest", "page")]
    for name, c in verdict.coefficients.items():
        if c or verdict.page[name]:
            rows.append((spoken(name), number(c), number(verdict.page[name])))
    for axis in _changed(verdict):
        rows.append((axis, verdict.variants[axis], verdict.page_variants[axis]))
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    lines = [f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows]
    if verdict.worst:
        yours, page, fit = (number(verdict.worst[x]) for x in ("yours", "page", "fit"))
        lines.append(f"{_where(verdict)}: yours {yours}, the page {page}, the closest fit {fit}")
    return lines


def number(c: float) -> str:
    """Return c in four digits."""
    return f"{c:.4g}".replace("-", "−")


def spoken(name: str) -> str:
    return name.replace("_", " ")


def _where(verdict: Any) -> str:
    return f"{verdict.worst['parameter']}{verdict.worst['index']}"


def _changed(verdict: Any) -> list[str]:
    return [axis for axis in verdict.variants if axis in verdict.departing]


def _choices(verdict: Any) -> Iterator[str]:
    """The variants that are not the page's, said with what they are of."""
    for axis in _changed(verdict):
        value = verdict.variants[axis]
        yield value if axis in ("reduction", "ends", "discount") else f"{axis}: {value}"


def _sum(verdict: Any, factor: float = 1.0, departing: list[str] | None = None) -> str:
    """1 policy − 0.01 entropy (the page has +0.01) ..."""
    parts: list[str] = []
    departing = verdict.departing if departing is None else departing
    for name, c in verdict.coefficients.items():
        departs, page, c = name in departing, verdict.page[name], factor * c
        if c or departs:
            sign = "−" if c < 0 else "+" if parts else ""
            plus = "+" if c < 0 < page else ""
            note = f" (the page has {plus}{number(page)})" if departs else ""
            space = " " if parts else ""
            parts.append(f"{sign}{space}{number(abs(c))} {spoken(name)}{note}")
    return " ".join(parts)
