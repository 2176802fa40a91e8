"""Live progress on stderr: a bar on a terminal, otherwise a plain line every few seconds."""

import shutil
import sys
import time

from algorithms.runner.errors import require


class Progress:
    """Display of done/total `unit`s, their rate, the mean of recent returns and the time left."""

    def __init__(self, total: int, done: int, unit: str):
        self.total, self.done, self.unit = total, done, unit
        self.start = time.monotonic()
        self.bar = None
        if sys.stderr.isatty():
            tqdm = require("tqdm").tqdm
            # tqdm draws nothing on a terminal that reports no size; this falls back to 80 by 24.
            size = dict(zip(("ncols", "nrows"), shutil.get_terminal_size()))
            self.bar = tqdm(total=total, initial=done, unit=f" {unit}", **size)
        self.interval = 5.0 if self.bar is None else 0.1
        self.due = self.start + self.interval

    def update(self, done: int, mean_return):
        """Redraw if it is due. `mean_return()` is the mean, or None before the first episode."""
        now = time.monotonic()
        if now >= self.due:
            self.due = now + self.interval
            self._show(done, mean_return(), now)

    def finish(self, done: int, mean_return):
        """Draw the bar for the last time. Without a bar, the caller's summary is the last line."""
        if self.bar is not None:
            self._show(done, mean_return(), time.monotonic())
            self.bar.close()

    def _show(self, done, mean_return, now):
        text = "-" if mean_return is None else f"{mean_return:.4g}"
        done = min(done, self.total)
        if self.bar is not None:
            self.bar.n = done
            self.bar.set_postfix_str(f"last-100 return {text}", refresh=False)
            self.bar.refresh()
            return
        rate = (done - self.done) / (now - self.start)
        left = f"{(self.total - done) / rate:.0f} s left" if rate else "time left unknown"
        print(
            f"{done}/{self.total} {self.unit}, {rate:.0f} {self.unit}/s, "
            f"last-100 return {text}, {left}",
            file=sys.stderr,
            flush=True,
        )
