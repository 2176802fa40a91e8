"""The referee's verdicts on all functions of a file, for pytest --npgrad-referee."""

import functools
import inspect

from algorithms.referee import estimator, gradients, returns
from algorithms.referee.guard import Asked, Unusable
from algorithms.runner import theirs
from algorithms.runner.referee_estimator import told


def verdicts_in(file, seconds=10.0):
    """Yield (name, judge) of the functions in a file that the referee knows by their parameters;
    judge() returns (whether it is right, the verdict as text). Parameters with defaults settle what
    is judged: `method` of a gradient, `what` of returns, `expects` of an estimator that is meant to
    expect something else than ∇J, in the words of its verdict.

    Raises UsageError, and judge() Unusable.
    """
    module = theirs.load(file, seconds)
    for name, f in vars(module).items():
        if inspect.isfunction(f) and f.__module__ == module.__name__:
            parameters = inspect.signature(f).parameters.values()
            settled = {p.name: p.default for p in parameters if p.default is not p.empty}
            needed = tuple(p.name for p in parameters if p.default is p.empty)
            judge = _judge_of(needed, settled)
            if judge:
                ask = Asked(theirs.timed(seconds, f, name), name)
                yield name, functools.partial(judge, ask, settled)


def _judge_of(needed, settled):
    if needed in estimator.KINDS:
        return _estimator
    if needed == ("theta", "batch") and "method" in settled:
        return _gradient
    return _returns if "rewards" in needed else None


def _estimator(ask, settled):
    verdict = estimator.judge(ask)
    expected = settled.get("expects", "∇J")
    return str(verdict.unbiased_for).startswith(expected), told(ask.name, verdict, 0.1)


def _returns(ask, settled):
    try:
        verdict = returns.judge(ask, settled.get("what", "advantages"))
    except ValueError as error:
        raise Unusable(str(error)) from error
    return verdict.agrees, f"{ask.name} {verdict}"


def _gradient(ask, settled):
    batch = gradients.batch(settled["method"])
    verdict = gradients.judge(ask(batch.theta, batch, shape=batch.theta.shape), batch)
    return verdict.agrees, f"{ask.name} {verdict}"
