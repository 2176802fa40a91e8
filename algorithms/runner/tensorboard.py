"""Event files for TensorBoard, written while a run learns (`npgrad train --tensorboard`)."""

import time
from pathlib import Path

from algorithms.runner.errors import require

FLUSH = 5.0  # seconds after which what is written can be read


def require_tensorboard():
    """Import tensorboardX. Raises Failure that says what to install."""
    return require("tensorboardX", "npgrad[tensorboard]")


class Events:
    """An event file in a run folder: what metrics.csv has, from environment step `done` on.

    Its tags are return, length, episodes and the method's scalars. TensorBoard forgets what earlier
    files have of later steps, which a resumed run takes again. Everything is written in the
    caller's thread: when the thread of tensorboardX's SummaryWriter fails, its caller waits for it
    without end.
    """

    def __init__(self, path: Path, done: int):
        require_tensorboard()
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        self.Event, self.Summary = Event, Summary
        # The names have whole seconds; two sessions within one must not share a file.
        self.file = EventsWriter(str(path / "events"), f".{time.time_ns()}")
        self._write(done + 1, session_log=SessionLog(status=SessionLog.START))
        self.due = time.monotonic() + FLUSH

    def __call__(self, metrics):
        """Write the episodes that `train` reported; one event each."""
        first = metrics.episodes - len(metrics.returns) + 1
        for episode, (G, length) in enumerate(zip(metrics.returns, metrics.lengths), first):
            tags = {"return": G, "length": length, "episodes": episode, **metrics.scalars}
            values = [self.Summary.Value(tag=tag, simple_value=x) for tag, x in tags.items()]
            self._write(metrics.steps, summary=self.Summary(value=values))
        if time.monotonic() >= self.due:
            self.file.flush()
            self.due = time.monotonic() + FLUSH

    def _write(self, step, **event):
        self.file.write_event(self.Event(wall_time=time.time(), step=step, **event))

    def close(self):
        self.file.close()
