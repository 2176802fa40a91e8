"""`npgrad referee gradient` and `dump`: a gradient, or an optimiser's step, term by term."""

import numpy as np

from algorithms.referee import gradient_batches, gradients
from algorithms.referee.guard import Unusable
from algorithms.runner.errors import Outcome, UsageError, near, one_line
from algorithms.runner.referee import asked, parser

FIELDS = gradient_batches.__doc__.partition("\n\n")[2]
ABOUT = """\
Judge d = f(theta, batch) (d,), the gradient of a method or the step of an optimiser, against the
page's own: which terms it has, with which coefficients, and in which variant.

f takes θ as one vector, and a batch with the fields below, in NumPy's, torch's or JAX's arrays.
Or d is in a file D.npy, computed from the batch that `npgrad referee dump` wrote to a file B.npz:
the same fields as arrays, and the others in `meta`, a JSON text.

d of each METHOD (ascent: the direction that θ is moved in; descent: the gradient of a loss):

"""
DUMP = """\
Write a batch from which to compute a gradient, in any language. `npgrad referee gradient D.npy
--batch B.npz` judges it. `npgrad referee gradient --help` lists what is in it.
"""
STATUS = {True: 0, False: 1}


def gradient_verdict(argv) -> Outcome:
    """Judge the d that a function gives, or that is in a file."""
    reader = parser("gradient", f"{ABOUT}{_methods()}\n\n{FIELDS}", "FILE:f|D.npy")
    add = reader.add_argument
    _add_batch_flags(add)
    add("--batch", metavar="B.npz", help="what `npgrad referee dump` wrote (for D.npy: required)")
    add("--descent", action="store_true",
        help="d is the gradient of a loss, or the step is to be subtracted")  # fmt: skip
    options = reader.parse_args(argv)
    batch = _loaded(options) if options.batch is not None else _drawn(options)
    if options.f.endswith(".npy"):
        verdict = _judged_file(options, batch)
    else:
        d = asked(options)(batch.theta, batch, shape=batch.theta.shape)
        verdict = gradients.judge(d, batch, options.descent)
    result = verdict._asdict() | {"line": verdict.line}
    return Outcome(result, str(verdict), STATUS[verdict.agrees])


def dump_verdict(argv) -> Outcome:
    """Write a batch to a file."""
    reader = parser("dump", DUMP, None)
    _add_batch_flags(reader.add_argument)
    reader.add_argument("--out", metavar="B.npz", required=True, help="the file to write")
    options = reader.parse_args(argv)
    batch = _drawn(options)
    try:
        with open(options.out, "wb") as file:
            gradient_batches.save(batch, file)
    except OSError as error:
        raise UsageError(f"--out = {options.out}: {error.strerror}") from error
    text = f"{options.out}: a batch of {batch.method}, θ of {len(batch.theta)} numbers"
    return Outcome({"out": options.out, "method": batch.method, "size": len(batch.theta)}, text)


def _methods():
    """A line for each METHOD: sense, and what d is the gradient of."""
    lines = [f"  {name:15} {m.sense:8} {m.reduced}" for name, m in gradients.METHODS.items()]
    return "\n".join(lines)


def _add_batch_flags(add):
    add("--method", metavar="METHOD", help=", ".join(gradients.NAMES))
    add("--seed", metavar="INT", type=int, help="seed of the batch (default: 0)")
    add("--continuous", action="store_true", help="a Gaussian policy (the first four methods)")
    add("--shared", action="store_true", help="one network for policy and value (a3c, a2c)")


def _drawn(options):
    """The batch that the flags name."""
    if options.method is None:
        raise UsageError("missing: --method, or --batch")
    if options.method not in gradients.NAMES:
        hint = near(options.method, gradients.NAMES) or f": one of {', '.join(gradients.NAMES)}"
        raise UsageError(f"--method = {options.method}: no such METHOD{hint}")
    trunk = "shared" if options.shared else "separate"
    try:
        return gradients.batch(options.method, options.seed or 0, options.continuous, trunk)
    except Unusable as error:
        raise UsageError(str(error)) from error


def _loaded(options):
    """The batch in the file, which is of the METHOD that the flags name, if they name one."""
    if options.seed is not None or options.continuous or options.shared:
        raise UsageError("--batch: has its own --seed, --continuous and --shared")
    try:
        batch = gradients.load(options.batch)
    except OSError as error:
        raise UsageError(f"--batch = {options.batch}: {error.strerror or error}") from error
    except Unusable as error:
        raise UsageError(f"--batch = {error}") from error
    if options.method not in (None, batch.method):
        hint = f"the batch in {options.batch} is of {batch.method}"
        raise UsageError(f"--method = {options.method}: {hint}")
    return batch


def _judged_file(options, batch):
    if options.batch is None:
        raise UsageError(f"D.npy = {options.f}: needs --batch, from which it was computed")
    try:
        with open(options.f, "rb") as file:
            d = np.load(file, allow_pickle=False)
        return gradients.judge(d, batch, options.descent)
    except OSError as error:
        raise UsageError(f"D.npy = {options.f}: {error.strerror or one_line(error)}") from error
    except Unusable as error:
        raise UsageError(f"D.npy = {options.f}: {error}") from error
    except (ValueError, EOFError) as error:
        raise UsageError(f"D.npy = {options.f}: is no array that numpy.save wrote") from error
