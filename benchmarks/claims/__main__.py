"""The founding notes' measurable statements, each against a small experiment: one table.

    python -m benchmarks.claims [CLAIM ...] [--seeds 10] [--jobs 2] [--quick] [--draw]

A claim is one function: (verdict, number, data for the picture). Its docstring says what would make
the statement right; the verdict follows from the number wherever a number can decide. Verdicts:
right, wrong, partly, unsupported (what was measured does not bear it out), unmeasured. Some numbers
are what other benchmarks recorded (a column says which command makes them); traces and entropy are
tables of their own, repeated here; the last column links the pictures that show it. Seeds are 0, 1,
...; step sizes were chosen on seeds from 100 up.

Writes results/claims.json, .md and .png; of claims not named, what is recorded stays. --quick runs
a little of everything.
"""

from benchmarks import entropy, study, traces
from benchmarks.claims import exact, picture, recorded, sampled  # noqa: F401 (they claim)
from benchmarks.claims.claim import CLAIMED

ORDER = """coarse dimensions errors_of_v ascent stochastic total_return to_go lucky collapse fire
advantages baseline_cartpole baseline_corridor rare_action parallel correlation everybody_stops
inside objective explores critic_variance overwrite staleness waiting scenarios every_worker
sum_or_mean sinus sudden independent inertia noise noise_car no_noise annealing soft tau low_pass"""
CLAIMS = {name: CLAIMED[name] for name in ORDER.split()}
HEAD = "the notes", "say", "verdict", "measured", "by", "picture"


def examine(options):
    """Yield (name, row) of claims, printed as they come."""
    for name in options.parts:
        claim = CLAIMS[name]
        verdict, number, data = claim.run(options)
        print(f"{name}: {verdict}. {study.minus(number)}", flush=True)
        how = claim.how or f"python -m benchmarks.claims {name}"
        row = dict(notes=claim.notes, says=claim.says, verdict=verdict, number=number)
        yield name, row | dict(how=how, data=data)


def in_order(found):
    """Return all rows, those of traces and entropy among them, by section."""
    rows = {name: row | dict(pictures=pictures(name)) for name, row in found.items()}
    rows |= recorded.tabled(traces, "2.1.1", (1, 2, 4, 6, 7))
    rows |= recorded.tabled(entropy, "3.2.3", (1, 2, 4, 5, 6))
    section = lambda row: [int(k) for k in row["notes"].split(".")]
    return {name: row for name, row in sorted(rows.items(), key=lambda item: section(item[1]))}


def pictures(name):
    """Return the pictures in results/ that show a claim."""
    return [*CLAIMS[name].pictures, *["claims"] * (name in picture.PANELS)]


def markdown(rows):
    """Return the table of all claims, and how many have which verdict."""
    lines = []
    for row in rows.values():
        links = ", ".join(f"[{name}]({name}.png)" for name in row["pictures"])
        number, verdict = study.minus(row["number"]), f"**{row['verdict']}**"
        cells = row["notes"], row["says"], verdict, number, f"`{row['how']}`", links
        lines.append([cell.replace("|", "∣") for cell in cells])
    verdicts = [row["verdict"] for row in rows.values()]
    kinds = dict.fromkeys(("right", "partly", "wrong", "unsupported", *verdicts))
    count = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in kinds)
    return f"{study.table(HEAD, lines)}\n{len(rows)} statements: {count}.\n"


def main():
    given = study.options(__doc__, CLAIMS, seeds=10, jobs=2, quick=False, draw=False)
    given.seeds = 2 if given.quick else given.seeds
    found = study.kept("claims", "claims", CLAIMS, () if given.draw else examine(given))
    study.publish("claims", None, markdown(in_order(found)), picture.draw(found))


if __name__ == "__main__":
    main()
