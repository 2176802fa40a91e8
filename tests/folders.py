"""Working directories that last as long as a test."""

import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def scratch():
    """A new working directory, also inside a Hypothesis test."""
    before = Path.cwd()
    with TemporaryDirectory() as path:
        os.chdir(path)
        try:
            yield Path(path)
        finally:
            os.chdir(before)
