"""The founding notes' measurable statements, each against a small experiment: one table.

    python -m benchmarks.claims [CLAIM ...] [--seeds 10] [--jobs 2] [--quick] [--draw]

A claim is one function: (verdict, number, data for the picture). Its docstring says what would make
the statement right; the verdict follows from the number wherever a number can decide. Verdicts:
right, wrong, partly, unsupported (what was measured does not bear it out), unmeasured. Some numbers
are what other benchmarks recorded (a column says which command makes them); traces and entropy are
tables of their own, repeated here; the last column links the pictures that show it. Seeds are 0, 1,
...; step sizes were chosen on seeds from 100 up.

Writes results/claims.json, .md and .png; of claims not named, what is recorded stays. --quick runs
everything, a little of it, and records nothing.
"""

from typing import NamedTuple

from benchmarks import entropy, study, traces
from benchmarks.claims import exact, picture, recorded, sampled
from benchmarks.claims.recorded import compared
from benchmarks.record import RESULTS, save


class Options(NamedTuple):
    seeds: int
    jobs: int
    quick: bool


class Claim(NamedTuple):
    notes: str  # section
    says: str
    run: object  # (options) -> (verdict, number, data or None)
    how: str = ""  # the command, if it is not this one
    pictures: tuple = ()  # in results/, beside claims.png


DDPG = "python -m benchmarks.ddpg {}"
CLAIMS = {
    "coarse": Claim("1.1", "discretising continuous actions is often too coarse", exact.coarse),
    "dimensions": Claim(
        "1.1",
        "many dimensions cost value methods efficiency and precision, policy gradients less",
        exact.unmeasured("no task here is learned by both in few and in many dimensions"),
    ),
    "errors_of_v": Claim(
        "1.1",
        "a policy learned directly is spared the errors of value functions",
        exact.errors_of_v,
    ),
    "ascent": Claim("1.1", "the policy is adjusted by gradient descent", exact.ascent),
    "stochastic": Claim("1.1", "the best policy may have to be stochastic", exact.stochastic),
    "total_return": Claim(
        "1.2.1",
        "∇J = E[Σ_t ∇ln π_t · Σ_t γ^t r_t]: product to T − 1, sums to T",
        exact.total_return,
    ),
    "to_go": Claim(
        "1.2.1", "R(τ) weighs every action of an episode", exact.to_go, pictures=("claims",)
    ),
    "lucky": Claim("1.2.2.1", "on CartPole, by luck R(τ) = 1000 where most have 10", sampled.lucky),
    "collapse": Claim(
        "1.2.2.1",
        "a large R(τ) drives π to 1 for one action; the policy collapses",
        recorded.collapse,
        "python -m benchmarks.corridor",
        ("corridor_13_1",),
    ),
    "fire": Claim(
        "1.2.2.1",
        "on Atari, one lucky shot makes π fire everywhere",
        exact.unmeasured("there is no Atari here; rare_action and collapse are as near as it gets"),
    ),
    "advantages": Claim(
        "1.2.2.1",
        "A = Q − V: the range shrinks, say from [0, 1000] to [−50, 50], and with it the variance",
        sampled.advantages,
    ),
    "baseline_cartpole": Claim(
        "1.2.2.1",
        "without baseline REINFORCE needs 10 times the episodes on CartPole",
        sampled.baseline_cartpole,
    ),
    "baseline_corridor": Claim(
        "1.2.2.1",
        "the same, on the short corridor",
        recorded.baseline_corridor,
        "python -m benchmarks.corridor",
        ("corridor_13_2",),
    ),
    "rare_action": Claim(
        "1.2.2.1", "a baseline helps rarely sampled actions to be learned", sampled.rare_action
    ),
    "parallel": Claim(
        "3",
        "parallel workers shorten training",
        recorded.parallel,
        "python -m benchmarks.speed a3c; … .asynchrony; … .asynchronous",
        ("asynchrony", "asynchronous"),
    ),
    "correlation": Claim(
        "3", "parallel workers decorrelate successive samples", sampled.correlation
    ),
    "everybody_stops": Claim(
        "3.1.1",
        "an update when t mod I_AsyncUpdate = 0; all threads stop to copy θ⁻",
        sampled.everybody_stops,
    ),
    "inside": Claim("3.2.2", "RMSProp: ε inside the root, against division by zero", exact.inside),
    "objective": Claim("3.2.2", "A3C maximises J = E[R] + βH(π)", exact.objective),
    "explores": Claim("3.2.3", "the entropy term makes the policy explore", sampled.explores),
    "critic_variance": Claim(
        "3.3", "A2C lessens the high variance of REINFORCE", exact.critic_variance
    ),
    "overwrite": Claim(
        "3.3.1", "workers overwrite the shared θ; locks are needed", sampled.overwrite
    ),
    "staleness": Claim(
        "3.3.1",
        "inconsistent policies cost A3C sample efficiency",
        recorded.staleness,
        "python -m benchmarks.asynchrony",
        ("asynchrony",),
    ),
    "waiting": Claim(
        "3.3.1",
        "A3C uses resources well, A2C waits for the slowest",
        recorded.waiting,
        "python -m benchmarks.asynchronous a3c-1 a3c-2; … .learning a2c",
    ),
    "scenarios": Claim(
        "3.3.1",
        "A3C suits fast exploration (Atari), A2C continuous control",
        recorded.scenarios,
        "python -m benchmarks.asynchronous acrobot pendulum; … .a2c acrobot pendulum",
        ("asynchronous", "a2c_acrobot", "a2c_pendulum"),
    ),
    "every_worker": Claim(
        "3.3.2",
        "Δθ_A3C = Σ_i over the workers",
        recorded.every_worker,
        "python -m benchmarks.asynchrony",
        ("asynchrony",),
    ),
    "sum_or_mean": Claim("3.3.2", "A2C has 1/N where A3C has Σ", sampled.sum_or_mean),
    "sinus": Claim("4.2", "OU noise, e.g. N_t = 0.05 sin(0.1 t); changes of ± 0.02", exact.sinus),
    "sudden": Claim(
        "4.2.2", "OU changes actions little by little, ε-greedy suddenly", exact.sudden
    ),
    "independent": Claim(
        "4.2.2", "OU noise is Markov, ε-greedy noise independent", exact.independent
    ),
    "inertia": Claim("4.2.1", "correlated noise suits systems with inertia", sampled.inertia),
    "noise": Claim(
        "4.2",
        "OU noise explores better than the others",
        compared("noise", ("OU",), ("white", "ε-greedy")),
        DDPG.format("noise"),
        ("ddpg_noise",),
    ),
    "noise_car": Claim(
        "4.2",
        "the same, in MountainCarContinuous-v0",
        compared("noise_car", ("OU",), ("white", "ε-greedy"), by_goal=True),
        DDPG.format("noise_car"),
        ("ddpg_noise_car",),
    ),
    "no_noise": Claim(
        "4.2.1",
        "without noise a better action nearby is missed",
        compared("noise", ("OU",), ("none",)),
        DDPG.format("noise"),
        ("ddpg_noise",),
    ),
    "annealing": Claim(
        "4.2.1",
        "large noise first (σ = 0.3), small later (0.01)",
        compared("annealing", ("σ = 0.3 →",), ("σ = 0.3", "σ = 0.01")),
        DDPG.format("annealing"),
        ("ddpg_annealing",),
    ),
    "soft": Claim(
        "4.3",
        "soft target updates are more stable than hard copies",
        compared("targets", ("soft",), ("hard", "none")),
        DDPG.format("targets"),
        ("ddpg_targets",),
    ),
    "tau": Claim(
        "4.3",
        "τ between 0.001 and 0.01",
        compared("tau", ("τ = 0.001", "τ = 0.01"), ("τ = 0.05", "τ = 0.2")),
        DDPG.format("tau"),
        ("ddpg_tau",),
    ),
    "low_pass": Claim(
        "4.3", "θ⁻ is an exponential moving average, a low-pass filter", exact.low_pass
    ),
}


def examine(names, options):
    """Yields (name, row) of claims, printed as they come."""
    for name in names:
        claim = CLAIMS[name]
        verdict, number, data = claim.run(options)
        print(f"{name}: {verdict}. {study.minus(number)}", flush=True)
        how = claim.how or f"python -m benchmarks.claims {name}"
        row = dict(notes=claim.notes, says=claim.says, verdict=verdict, number=number)
        yield name, row | dict(how=how, data=data)


def in_order(found):
    """All rows, those of traces and entropy among them, by section."""
    rows = {name: row | dict(pictures=pictures(name)) for name, row in found.items()}
    rows |= recorded.tabled(traces, "2.1.1", (1, 2, 4, 6, 7))
    rows |= recorded.tabled(entropy, "3.2.3", (1, 2, 4, 5, 6))
    section = lambda row: [int(k) for k in row["notes"].split(".")]
    return {name: row for name, row in sorted(rows.items(), key=lambda item: section(item[1]))}


def pictures(name):
    """The pictures in results/ that show a claim."""
    return [*CLAIMS[name].pictures, *["claims"] * (name in picture.PANELS)]


def markdown(rows):
    lines = []
    for row in rows.values():
        links = ", ".join(f"[{name}]({name}.png)" for name in row["pictures"])
        number, verdict = study.minus(row["number"]), f"**{row['verdict']}**"
        cells = row["notes"], row["says"], verdict, number, f"`{row['how']}`", links
        lines.append([cell.replace("|", "∣") for cell in cells])
    verdicts = [row["verdict"] for row in rows.values()]
    kinds = dict.fromkeys(("right", "partly", "wrong", "unsupported", *verdicts))
    count = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in kinds)
    head = "the notes", "say", "verdict", "measured", "by", "picture"
    return f"{study.table(head, lines)}\n{len(rows)} statements: {count}.\n"


def main():
    given = study.options(__doc__, CLAIMS, seeds=10, jobs=2, quick=False, draw=False)
    options = Options(2 if given.quick else given.seeds, given.jobs, given.quick)
    rows = () if given.draw else examine(given.parts, options)
    if given.quick:
        for _ in rows:
            pass
        return
    found = (recorded.result("claims") or {"claims": {}})["claims"]
    for name, row in rows:
        found[name] = row
        found = {name: found[name] for name in CLAIMS if name in found}
        save("claims", "benchmarks.claims", dict(claims=found))
    text = markdown(in_order(found))
    (RESULTS / "claims.md").write_text(text)
    print(text)
    picture.draw(found)


if __name__ == "__main__":
    main()
