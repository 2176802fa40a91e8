"""Trials on a Ray cluster: the extra `cluster`. Ray is imported here only."""

import math
import os
import socket
from contextlib import ExitStack, redirect_stdout
from pathlib import Path

from algorithms.common.processes import TRIES
from algorithms.runner.errors import UsageError, one_line, require
from algorithms.runner.training import _stop_signals
from algorithms.runner.trials import Trial, run

ANSWER = 10.0  # seconds that a cluster has to accept a connection
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"  # HTTP/2, which Ray speaks
SETTINGS = 4  # the type of the frame that is the answer


def connect(address: str, cpus: int):
    """Connect to Ray at `auto`, `local` (a new one, of so many CPUs) or host:port; return `ray`.

    Raises UsageError if there is no cluster, Failure if Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = require("ray", "npgrad[cluster]")
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    own = {"num_cpus": cpus, "include_dashboard": False} if address == "local" else {}
    try:
        if address not in ("auto", "local"):
            _reach(address)
        with _stop_signals() as signals:  # an exception within ray.init crashes the process later
            ray.init(address, log_to_driver=False, logging_level="ERROR", **own)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        what = "must be auto, local, or host:port of a Ray cluster that runs"
        raise UsageError(f"--cluster = {address}: {what} ({one_line(error)})") from error
    if signals:
        ray.shutdown()
        raise KeyboardInterrupt
    return ray


def _reach(address):
    """Raise OSError unless something there speaks as Ray does; ray.init would try for minutes."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), ANSWER) as connection:
        connection.settimeout(ANSWER)
        connection.sendall(PREFACE)
        answer = connection.recv(9)
    if answer[3:4] != bytes([SETTINGS]):
        raise OSError("something else than Ray answers there")


class Cluster:
    """The machines of a Ray cluster. Ray runs a trial elsewhere if its machine is lost.

    Where the run folders are on storage that the machines share, it goes on from its folder there;
    else it starts again, and the files come back with its result. `token` is a file beside the run
    folders: a machine that has it shares the storage.
    """

    jobs = math.inf  # Ray keeps the queue

    def __init__(self, address: str, jobs: int, token: Path):
        self.ray, self.token, self.refs = connect(address, jobs), token, {}
        self.stack = ExitStack()

    def submit(self, trial: Trial):
        """Return the Future of run(trial). A trial whose workers are processes needs their CPUs."""
        if not self.refs:  # what Ray prints of machines that it lost, beside the results
            log = self.stack.enter_context(open(self.token.with_name("ray.log"), "a"))
            self.stack.enter_context(redirect_stdout(log))
        driver = getattr(trial.config, "driver", None)
        cpus = trial.config.workers if driver == "processes" else 1
        task = self.ray.remote(num_cpus=cpus, max_retries=TRIES)(run_away)
        ref = task.remote(trial, str(self.token))
        self.refs[ref.future()] = ref
        return next(reversed(self.refs))

    def stop(self):
        """Let every running trial save and end, and start no other."""
        for future, ref in self.refs.items():
            if not future.done():
                self.ray.cancel(ref)
        self.refs = {}

    def close(self):
        self.stop()
        self.ray.shutdown()
        self.stack.close()


def run_away(trial: Trial, token: str) -> dict:
    """Run a trial on whatever machine this is; see Cluster. ray.cancel is a SIGINT here."""
    result = run(trial)
    if not Path(token).exists():
        result["files"] = {p.name: p.read_bytes() for p in Path(trial.path).glob("*")}
    return result
