"""The programs in texts and docstrings run and do what is said of them; commands have the flags."""

import inspect
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from algorithms.runner.cli import main
from algorithms.runner.verdicts import verdicts_in

ROOT = Path(__file__).parent.parent
FOLDERS = [ROOT / name for name in ("npgrad", "algorithms", "benchmarks")]
CODE = [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in folder.rglob("*.py"))]
TEXTS = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in folder.rglob("*.md"))]
INDENTED = re.compile(r"(?:^ {4}.*\n|^\n(?= {4}))+", re.M)
PROGRAM = re.compile(r"^(?:@|import |from \S+ import |def |class )", re.M)
MINE = """
from types import SimpleNamespace

import numpy as np

from algorithms.common.world import returns
from algorithms.referee.gradients import batch, page_gradient


def advantages(r, v, last, done, gamma, lam):
    A, above = r + gamma * (1 - done) * np.append(v[1:], last) - v, 0.0
    for t in reversed(range(len(r))):
        A[t] = above = A[t] + gamma * lam * (1 - done[t]) * above
    return A


losses = SimpleNamespace(gradient=lambda *_: page_gradient(batch("a2c")))
"""
SHOWN = [(path, path.read_text("utf-8")) for path in sorted(TEXTS)] + [
    (path, inspect.cleandoc(text))
    for path in sorted(CODE)
    for text in re.findall('"""(.*?)"""', path.read_text("utf-8"), re.S)
]


def programs():
    """The fenced and the indented programs of each file. A page's quotation is not one."""
    for path, text in SHOWN:
        code = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
        plain = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M) + "\n"
        code += filter(PROGRAM.search, map(textwrap.dedent, INDENTED.findall(plain)))
        for program in code:
            if not program.startswith("# algorithms/"):
                yield pytest.param(program, id=str(path.relative_to(ROOT)))


@pytest.mark.parametrize("program", list(programs()))
def test_program__does_what_the_text_says(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("mine.py").write_text(MINE, "utf-8")
    Path("shown.py").write_text(program, "utf-8")
    names = {}
    exec(compile(program, "shown.py", "exec"), names)
    sys.modules.pop("mine", None)
    if "Corridor" in names:
        assert names["action"] == 1 and names["state"].T > 9000
        assert np.mean(names["scores"][:20]) < np.mean(names["scores"][-20:])
    for f in [f for f in names.values() if hasattr(f, "gradient_of")]:
        f.check()
    for _, judge in verdicts_in("shown.py", 300.0) if "weights" in names else ():
        right, text = judge()
        assert right if "from mine" in program else "it is, exactly: " in text


def test_transcripts__are_not_used():
    """A session with >>> would not be run: show a program."""
    assert not [path for path, text in SHOWN if re.search(r"^\s*>>> ", text, re.M)]


COMMANDS = sorted(
    {
        re.split(r"  |#", line)[0].strip().replace("METHOD", "a2c").replace("WHAT", "estimator")
        for _, text in SHOWN
        for line in re.findall(r"^ {4}(npgrad [a-z].*)", text, re.M)
    }
)


@pytest.mark.parametrize("line", COMMANDS)
def test_command__has_the_flags_that_are_shown(line, capsys):
    words = re.match(r"npgrad((?: [a-z][a-z0-9-]*)+(?![\w.:]))", line)[1].split()
    assert main([*words, "--help"]) == 0
    flags, known = (re.findall("--[a-z-]+", text) for text in (line, capsys.readouterr().out))
    assert {*flags} <= {*known}
