"""`npgrad referee returns`: somebody's advantages or returns, judged by their definition."""

from algorithms.referee import advantages, returns, segments
from algorithms.runner import referee
from algorithms.runner.errors import Outcome, UsageError
from algorithms.runner.theirs import STATUS

ABOUT = """\
Judge advantages (GAE, λ, n-step) or returns of somebody's, by their definition, on drawn segments:

    δ_t = r_t + γ v(s'_t) − v(s_t)      v(s'_t) = 0 if the episode terminated in step t
    A_t = δ_t + γλ A_{t+1}              A_t = δ_t where it ended, or the segment does
    returns: A_t + v(s_t)

f returns an array (n, N), time first, N environments; or (advantages, returns). If it fails on
these, it is given one environment at a time: (n,) for (n, N), a number for (N,). It is given what
the names of its parameters mean:

"""
SHIFTS = """
With next_done, dones are CleanRL's: dones[t] says that the episode ended in step t-1. With
episode_starts, dones are Stable-Baselines3's: (N,), it ended in the last step.

mistakes that are recognised:

"""


def returns_verdict(argv) -> Outcome:
    """Judge the function that argv names."""
    parser = referee.parser("returns", _about())
    parser.add_argument("--what", choices=("advantages", "returns"), default="advantages",
                        help="what f returns (default: advantages)")  # fmt: skip
    options = parser.parse_args(argv)
    ask = referee.asked(options)
    try:
        verdict = returns.judge(ask, options.what)
    except ValueError as error:
        raise UsageError(str(error)) from error
    status = STATUS["agrees" if verdict.agrees else "wrong"]
    return Outcome(_result(verdict), str(verdict), status)


def _result(verdict):
    """Return the Verdict as what JSON can hold."""
    found, known = verdict.counterexample, verdict.mistake in advantages.KNOWN
    return verdict._asdict() | {
        "mistake": verdict.mistake if known else None,
        "other": None if known else verdict.mistake,
        "counterexample": found
        and {
            "inputs": found.inputs,
            "theirs": found.theirs,
            "right": found.right,
            "entry": found.entry,
            "autoreset": found.segment.autoreset,
        },
    }


def _about():
    lines = []
    for name, (meaning, _) in segments.ARGUMENTS.items():
        also = [alias for alias, of in segments.ALIASES.items() if of == name]
        lines.append(f"    {name:<15} {meaning}")
        if also:
            lines.append(f"    {'':<15} or named {', '.join(also)}")
    mistakes = [
        f"    {name}\n        {mistake.__doc__.splitlines()[0]}"
        for name, mistake in advantages.CATALOGUE.items()
    ]
    return ABOUT + "\n".join(lines) + "\n" + SHIFTS + "\n".join(mistakes)
