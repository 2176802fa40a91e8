"""Live progress on stderr: a bar on a terminal, otherwise a plain line every few seconds."""

import shutil
import sys
import time
import warnings
from math import inf

from algorithms.runner.errors import Failure, one_line, require, tell


class Progress:
    """Display of done/total `unit`s, their rate, the mean of recent returns and the time left.

    A display that fails is given up, with a warning: it ends no work.
    """

    def __init__(self, total: int, done: int, unit: str):
        self.total, self.done, self.unit = total, done, unit
        self.start = time.monotonic()
        self.bar = _bar(total, done, unit) if sys.stderr.isatty() else None
        self.interval = 5.0 if self.bar is None else 0.1
        self.due = self.start + self.interval

    def update(self, done: int, mean_return):
        """Redraw if it is due. `mean_return()` is the mean, or None before the first episode."""
        now = time.monotonic()
        if now >= self.due:
            self.due = now + self.interval
            self._show(done, mean_return, now)

    def finish(self, done: int, mean_return):
        """Draw the bar for the last time. Without a bar, the caller's summary is the last line."""
        if self.bar is not None and self.due < inf:
            self._show(done, mean_return, time.monotonic(), close=True)

    def _show(self, done, mean_return, now, close=False):
        try:
            self._draw(min(done, self.total), mean_return(), now)
            if close:
                self.bar.close()
        except Exception as error:
            self.due = inf
            if self.bar is not None:
                self.bar.disable = True  # else it draws once more as it is deleted
            text = f"the progress cannot be shown any more: {one_line(error)}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def _draw(self, done, mean, now):
        text = "-" if mean is None else f"{mean:.4g}"
        if self.bar is not None:
            self.bar.n = done
            self.bar.set_postfix_str(f"last-100 return {text}", refresh=False)
            self.bar.refresh()
            return
        rate = (done - self.done) / (now - self.start)
        left = f"{(self.total - done) / rate:.0f} s left" if rate else "time left unknown"
        tell(
            f"{done}/{self.total} {self.unit}, {rate:.0f} {self.unit}/s, "
            f"last-100 return {text}, {left}"
        )


def _bar(total, done, unit):
    """Return tqdm's bar, or None if it is not installed or fails."""
    try:
        # tqdm draws nothing on a terminal that reports no size; this falls back to 80 by 24.
        size = dict(zip(("ncols", "nrows"), shutil.get_terminal_size()))
        return require("tqdm").tqdm(total=total, initial=done, unit=f" {unit}", **size)
    except (Failure, OSError, ValueError):
        return None
