"""What the studies share: their command line, their records, tables and numbers.

    Study, Whole, main   rows that learn (benchmarks.measure), or other arithmetic, and the command
    publish              results/NAME.json, .md and .png
    table, interval      words and intervals

Settings are presets (algorithms/runner/presets.py), tuned on seeds from 100 up; results are of
seeds 0, 1, ....
"""

import argparse
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import reduce
from operator import getitem
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from algorithms.runner import plot
from benchmarks import record
from benchmarks.record import load

HELP = dict(
    draw="draw what is recorded, run nothing",
    jobs="processes",
    minutes="in all, at least",
    quick="run a little of everything, record nothing",
    seeds="number of seeds: 0, 1, ...",
    steps="of every run, to try a study out",
    strangers="number of damaged run folders",
    times="number of times that every other fault is made",
)


def options(doc, parts=(), **flags):
    """Read the command line. `parts` are the words that it may give, by default all of them. A flag
    with default False is a switch; the others take a value of their default's type."""

    def part(word):
        if word not in parts:
            raise argparse.ArgumentTypeError(f"{word}: must be of {', '.join(parts)}")
        return word

    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    if parts:
        text = f"of {', '.join(parts)}; by default all of them"
        parser.add_argument("parts", nargs="*", metavar="PART", type=part, help=text)
    for name, default in flags.items():
        kind = dict(action="store_true") if default is False else dict(type=type(default))
        parser.add_argument(f"--{name}", default=default, help=HELP.get(name), **kind)
    given = parser.parse_args()
    if parts:
        given.parts = given.parts or list(parts)
    return given


class Study(NamedTuple):
    """Rows that learn: one record, results/NAME.json, with its table and its picture."""

    rows: Mapping  # {label: Row}
    run: Callable  # (row, seed) -> dict: what is measured
    text: Callable | None = None  # [Recorded] -> Markdown
    picture: Callable | None = None  # [Recorded] -> figure
    seeds: int = 10


class Whole(NamedTuple):
    """A study that is measured as a whole, by arithmetic of its own."""

    measure: Callable  # (seeds, jobs) -> dict: the record
    text: Callable | None = None  # record -> Markdown
    picture: Callable | None = None  # record -> figure, or {suffix of its name: figure}
    seeds: int = 10


class Recorded:
    """A row as it is recorded: label, who, method, env, goal, steps, config and runs."""

    def __init__(self, label, record):
        self.label, self.runs = label, []
        vars(self).update(record)

    def of(self, *path):
        """Return what all runs have under a name, or under names within names."""
        return [reduce(getitem, path, run) for run in self.runs]

    def solved(self):
        """Return how many runs evaluate at the goal."""
        return sum(x >= self.goal for x in self.of("evaluation"))


def recorded(name):
    """Return [Recorded] of results/NAME.json."""
    return [Recorded(*item) for item in load(name)["rows"].items()]


def main(doc, studies, prefix=""):
    """Run the studies {word: Study} that the command line names, or the rows of the only one, and
    show what is recorded."""
    first = lambda label: label.partition(",")[0]
    only, *more = studies.items()
    rows = getattr(only[1], "rows", {}) if not more else {}
    given = options(doc, dict.fromkeys(map(first, rows)) or (studies if more else ()),
                    seeds=0, jobs=1, steps=0, draw=False)  # fmt: skip
    for word, study in studies.items():
        name, seeds = prefix + word, given.seeds or study.seeds
        if more and word not in given.parts:
            continue
        if isinstance(study, Whole):
            results = None if given.draw else study.measure(seeds, given.jobs)
            publish(name, results)
        elif not given.draw:
            rows = {k: x for k, x in study.rows.items() if more or first(k) in given.parts}
            perform(name, study, shortened(rows, given.steps), seeds, given.jobs)
        present(name, study)


def shortened(rows, steps):
    """Return rows that end after so many steps, if that is not 0, and are watched as often."""
    cut = lambda row: dict(steps=steps, every=row.every * steps / row.length)
    return {label: replace(row, **cut(row)) if steps else row for label, row in rows.items()}


def perform(name, study, rows, seeds, jobs):
    """Run rows on seeds 0, 1, ..., those of a seed in turn, and record them as they end."""
    found = (load(name) or {}).get("rows", {})
    found |= {label: row.described() | dict(runs=[]) for label, row in rows.items()}
    found = {label: found[label] for label in study.rows if label in found}
    alone = {label for label, row in rows.items() if row.parallel}
    for labels, n in ((alone, 1), (set(rows) - alone, jobs)):
        todo = [(label, seed) for seed in range(seeds) for label in rows if label in labels]
        runs = mapped(study.run, [(rows[label], seed) for label, seed in todo], n)
        for (label, seed), run in zip(todo, runs):
            found[label]["runs"].append(show(label, dict(seed=seed) | run))
            publish(name, dict(rows=found))


def present(name, study):
    """Write the table and the pictures of what is recorded."""
    found = load(name) if isinstance(study, Whole) else recorded(name)
    figures = study.picture(found) if study.picture else {}
    if not isinstance(figures, dict):
        figures = {"": figures}
    publish(name, None, study.text(found) if study.text else "")
    for suffix, figure in figures.items():
        publish(name + suffix, figure=figure)


def columns(cells, rows):
    """Return a table with a column for each of cells, {head: Recorded -> words}."""
    return table(list(cells), [[str(cell(row)) for cell in cells.values()] for row in rows])


def mapped(run, jobs, n):
    """Yield run(*job) of all jobs, in order, from n processes."""
    if n == 1:
        yield from (run(*job) for job in jobs)
        return
    with ProcessPoolExecutor(n) as pool:
        yield from pool.map(run, *zip(*jobs))


def gather(jobs, run):
    """Return {words of a job: run(*job)} for all jobs, printed as they end."""
    words = lambda job: " ".join(map(str, job))
    return {words(job): show(words(job), run(*job)) for job in jobs}


def kept(name, key, order, made, **more):
    """Return what results/NAME.json has under `key`, with the (part, results) of `made`; each is
    recorded as it comes, in order, and what is not made anew stays."""
    found = (load(name) or {key: {}})[key]
    for part, results in made:
        found[part] = results
        found = {part: found[part] for part in order if part in found}
        publish(name, {key: found}, **more)
    return found


def publish(name, results=None, text="", figure=None, packages=("numpy", "gymnasium")):
    """Write results/NAME.json, .md and .png, those that are given. Print the text."""
    if results is not None:
        record.save(name, record.module(), results, packages)
    if text:
        print(text, flush=True)
        (record.RESULTS / f"{name}.md").write_text(text)
    if figure is not None:
        plot.save(figure, record.RESULTS / f"{name}.png")
        plt.close(figure)


def show(key, found):
    """Print the numbers and words of a run, without its lists and curves; return the run."""
    short = {name: x for name, x in found.items() if not isinstance(x, (list, dict))}
    print(f"{key}: {short}", flush=True)
    return found


def table(head, rows):
    """Return a table in Markdown, one line for each row of words."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def minus(text):
    """Replace hyphens before numbers by minus signs."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def maybe(x, form=",.0f"):
    """Return x in words, a dash for None."""
    return "–" if x is None else f"{x:{form}}"


def spread(x, form):
    """Return mean ± s.d. in words."""
    return f"{np.mean(x):{form}} ± {np.std(x, ddof=1):{form}}"


def median(values):
    """Return the median, where None counts as infinite; None if it is that."""
    middle = float(np.median([np.inf if x is None else x for x in values]))
    return middle if np.isfinite(middle) else None


def largest_error(runs, name="evaluation_error"):
    """Return the largest standard error of the runs' scores, in words; older records have none."""
    errors = [run[name] for run in runs if name in run]
    return f"≤ {max(errors):.1f}" if errors else "–"


def by_seed(rows):
    """Return a table of the measures of a row's runs, one for each seed, and how many reach the
    goal."""
    (row,) = rows
    names = [name for name, x in row.runs[0].items() if not isinstance(x, (dict, list))]
    cell = lambda x: maybe(x, ",.1f" if isinstance(x, float) else ",")
    lines = [[cell(run[name]) for name in names] for run in row.runs]
    lines.append(["median", *(cell(median(row.of(name))) for name in names[1:])])
    text = table([name.replace("_", " ") for name in names], lines)
    if row.goal is None:
        return text
    solved = f"{row.solved()} of {len(row.runs)} seeds evaluate"
    return f"{text}\n{solved} at {row.goal:g} or more.\n"


def bootstrap_band(curves, rng: np.random.Generator, resamples: int = 2000, level: float = 0.95):
    """Return the percentile confidence band (low, high) of the mean over runs, each (n,).

    curves is (runs, n). Whole runs are drawn with replacement (Efron 1979), because the points of
    one curve are dependent.
    """
    drawn = rng.integers(len(curves), size=(resamples, len(curves)))
    weights = np.stack([np.bincount(d, minlength=len(curves)) for d in drawn]) / len(curves)
    return np.quantile(weights @ curves, [(1 - level) / 2, (1 + level) / 2], axis=0)


def interval(x):
    """Return (low, high), the 95 % bootstrap interval of the mean of x (n,)."""
    return bootstrap_band(np.reshape(x, (-1, 1)), np.random.default_rng(0))[:, 0]
