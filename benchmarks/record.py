"""What every result in benchmarks/results/ says about how it came about.

NPGRAD_RESULTS in the environment names another folder for results.
"""

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(os.environ.get("NPGRAD_RESULTS") or Path(__file__).parent / "results")


def processor():
    """Return the processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def module():
    """Return the name of the module that was given to `python -m`."""
    return sys.modules["__main__"].__spec__.name.removesuffix(".__main__")


def save(name, module, results, packages=("numpy", "gymnasium")):
    """Write results/NAME.json: the command, the machine, versions and `results`, a dict."""
    record = dict(
        command=" ".join(["python -m", module, *sys.argv[1:]]),
        machine=f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        versions={"python": platform.python_version()} | {p: version(p) for p in packages},
        threads=os.environ.get("OMP_NUM_THREADS", "not set"),
        **results,
    )
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return path


def load(name):
    """Return what results/NAME.json holds, or None."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None
