"""The console command: algorithms.runner.cli, if that is what Python finds.

It is a module outside `algorithms`, so that it can say so in one line if Python finds another
distribution's package of that name.
"""

import sys
import warnings


def main() -> int:
    """Run `npgrad`; return its exit status."""
    try:
        with warnings.catch_warnings(record=True) as told:
            import algorithms
        found = algorithms.__file__ or next(iter(algorithms.__path__))
        ours = hasattr(algorithms, "load")
    except (Exception, SystemExit) as error:
        found, ours = f"{type(error).__name__}: {' '.join(str(error).split())}", False
    if not ours:
        print(
            f"npgrad: `algorithms` is not npgrad's, but another distribution's ({found}): install "
            "npgrad again, in an environment of its own",
            file=sys.stderr,
        )
        return 1
    for warning in told:
        print(f"npgrad: warning: {warning.message}", file=sys.stderr)
    from algorithms.runner.cli import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
