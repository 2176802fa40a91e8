"""The founding notes' measurable statements, each against a small experiment: one table.

    python -m benchmarks.claims [CLAIM ...] [--seeds 10] [--jobs 2] [--quick] [--draw]

A claim is one function: what it finds is a verdict, the one number that carries it, and the rest.
Its docstring says what would make the statement right; the verdict follows from the number wherever
a number can decide. Some numbers are what other benchmarks recorded; the rows on traces and entropy
are those of benchmarks.traces and .entropy. Seeds are 0, 1, ...; step sizes were chosen on seeds
from 100 up.

Writes results/claims.json, .md and .png; of claims not named, what is recorded stays. --quick runs
a little of everything.
"""

import re

from benchmarks import entropy, study, traces
from benchmarks.claims import (  # noqa: F401 (they claim)
    cartpole,
    exact,
    formulas,
    picture,
    recorded,
    sampled,
    workers,
)
from benchmarks.claims.claim import CLAIMED

ORDER = """ascent every_sample errors_of_v stochastic coarse dimensions total_return to_go lucky
bad_action collapse fire advantages baseline_cartpole baseline_corridor rare_action continuing
parallel correlation update_times everybody_stops who_checks objective inside explores
critic_variance waiting overwrite versions staleness simpler scenarios every_worker sum_or_mean
many_dimensions sinus noise noise_car inertia no_noise annealing sudden independent soft jitter
tau low_pass"""
CLAIMS = {name: CLAIMED[name] for name in ORDER.split()}
HEAD = "statement", "verdict", "number", "more", "§"
INTRODUCTION = """# What the founding notes say, checked

Statements of the notes on policy gradients that this library began with, in our words.

- **right**, **wrong**: the number decides it.
- **partly**: some of it holds, or it holds in some cases.
- **unsupported**: what was measured does not bear it out, and does not refute it.
- **unmeasured**: nothing here decides it.

§ is the section of the notes. J is the expected return and ∇J its gradient, ĝ the estimate of ∇J
from one episode, tr Cov ĝ its variance; q and v are exact values, v̂ a learned or a wrong one. The
five worlds are small Markov decision processes in which every episode is enumerated
([laboratory](laboratory.md)).
"""


def examine(options):
    """Yield (name, row) of claims, printed as they come."""
    for name in options.parts:
        claim = CLAIMS[name]
        found = claim.run(options)
        print(f"{name}: {found.verdict}. {study.minus(found.number)}", flush=True)
        how = claim.how or f"python -m benchmarks.claims {name}"
        yield name, found._asdict() | dict(how=how)


def in_order(found):
    """Return all rows, those of traces and entropy among them, by section."""
    rows = {
        name: dict(notes=CLAIMS[name].notes, says=CLAIMS[name].says, asks=CLAIMS[name].asks)
        | dict(row, more=f"#{name}", pictures=pictures(name))
        for name, row in found.items()
    }
    rows |= recorded.tabled(traces, "2.1.1") | recorded.tabled(entropy, "3.2.3")
    section = lambda row: [int(k) for k in row["notes"].split(".")]
    return {name: row for name, row in sorted(rows.items(), key=lambda item: section(item[1]))}


def pictures(name):
    """Return the pictures in results/ that show a claim."""
    return [*CLAIMS[name].pictures, *["claims"] * (name in picture.PANELS)]


def markdown(rows):
    """Return the table of all claims, how many have which verdict, and what is left out."""
    lines, details = [], []
    for name, row in rows.items():
        more = row["more"]
        link = f"[more]({more})" if more.startswith("#") else f"[{more}]({more}.md)"
        cells = row["says"], f"**{row['verdict']}**", row["number"], link, row["notes"]
        lines.append([study.minus(cell).replace("|", "∣") for cell in cells])
        details += [detail(name, row)] if more.startswith("#") else []
    verdicts = [row["verdict"] for row in rows.values()]
    kinds = dict.fromkeys(("right", "partly", "wrong", "unsupported", *verdicts))
    count = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in kinds)
    table = f"{study.table(HEAD, lines)}\n{len(rows)} statements: {count}."
    return "\n".join([INTRODUCTION, table, "\n## More\n", *details])


def detail(name, row):
    """Return the section of one claim: the rest of what was found, what was asked, the command."""
    links = "".join(f", [{picture}]({picture}.png)" for picture in row["pictures"])
    text = [f"### {name}\n", f"{row['says']} **{row['verdict']}**: {row['number']}.\n"]
    text += [f"{sentence(row['rest'])}.\n".replace("*", r"\*")] if row["rest"] else []
    text += [f"{row['asks']}\n".replace("*", r"\*")] if row["asks"] else []
    return study.minus("\n".join([*text, f"`{row['how']}`{links}\n"]))


def sentence(text):
    """Return text with a capital, if it begins with a word."""
    return text[0].upper() + text[1:] if re.match("[a-z]{2}|a ", text) else text


def main():
    given = study.options(__doc__, CLAIMS, seeds=10, jobs=2, quick=False, draw=False)
    given.seeds = 2 if given.quick else given.seeds
    found = study.kept("claims", "claims", CLAIMS, () if given.draw else examine(given))
    rows = in_order(found)
    study.publish("claims", None, markdown(rows), picture.draw(rows))


if __name__ == "__main__":
    main()
