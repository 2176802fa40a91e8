"""`npgrad check`: statuses, one line of JSON, and one clear line for every bad input."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from algorithms.runner import check, theirs
from algorithms.runner.cli import main
from npgrad import testing

CODE = """
import sys
import numpy as np
from hypothesis import strategies as st
from npgrad.testing import Float, Int, gradient_of

inputs = {"given": st.floats(1, 2), "zero": 0.0}

def loss(h: Float["N A"], a: Int["N"]):
    z = np.exp(h)
    return -np.sum(h[np.arange(len(a)), a] - np.log(np.sum(z, 1)))

def gradient(h, a):
    p = np.exp(h) / np.sum(np.exp(h), 1, keepdims=True)
    return p - np.eye(h.shape[1])[a]

def mean(h, a): return gradient(h, a) / len(a)
def square(x: float): return x * x
def slope(x): return 2 * x
def nearly(x): return 2.002 * x
def two(x): return 2 * x, 2 * x
alias = square
def nothing(x): return None
def column(x): return np.array([2 * x])
def fails(x): raise KeyError("here")
def changes(x: Float["N"]):
    x *= 2
    return np.sum(x * x)
def changed(x): return 8 * x
def prints(x: float):
    print("noise")
    return x * x
def some(x: float):
    if x > 0: raise ValueError("only x <= 0")
    return x * x
def raises(x: float): raise ValueError("never")
def exits(x: float): sys.exit(0)
def interrupted(x: float): raise KeyboardInterrupt
def kinked(zero): return abs(zero)
def endless(x: float):
    while True:
        try: [].sort()
        except Exception: pass
def stubborn(x: float):
    while True:
        try:
            while True: abs(x)
        except: pass
def endless_slope(x):
    while True: pass
def several(x: float, y: float): return x * y
def both(x, y): return y, x
def by_y(x, y): return x
def pair(given, y: float = 3.0): return given * y
def unknown(x): return x
def nested(x: float): return [[x]]
number = 3
double = lambda x: x * x
class Thing:
    def method(self, x: float): return x * x
method = Thing().method

@gradient_of(square)
def decorated(x: float): return 2 * x

@gradient_of(square, x=st.floats(1, 2))
def decorated_wrong(x: float): return 3 * x
"""


@pytest.fixture
def run(tmp_path, capfd, monkeypatch):
    """(exit status, stdout's lines, stderr's lines) of a command line, beside the file code.py."""
    (tmp_path / "code_.py").write_text(CODE)
    (tmp_path / "other.py").write_text("def only_here(x): return 2 * x")
    monkeypatch.chdir(tmp_path)
    before = sys.path.copy()

    def run(line):
        status = main(["check", *line.split()])
        out, err = capfd.readouterr()
        return status, out.splitlines(), err.splitlines()

    yield run
    assert sys.path == before
    sys.modules.pop("checked_code_", None)
    sys.modules.pop("code_", None)


ANSWERS = {
    "loss": (0, "agrees: npgrad agrees with the derivative of loss by h at "),
    "loss --gradient code_.py:gradient": (0, "agrees: gradient agrees"),
    "loss --gradient mean": (1, "wrong: loss, differentiated with respect to argument 0 (h) at"),
    "square --gradient other.py:only_here": (0, "agrees: only_here"),
    "alias": (0, "agrees: npgrad agrees with the derivative of alias by x"),
    "square --gradient nearly --rtol 0.01": (0, "agrees: nearly"),
    "square --gradient nearly --rtol 0.0001": (1, "wrong: square"),
    "square --gradient two": (1, "wrong: two gives 2 arrays: must be 1, for x"),
    "square --gradient nothing": (1, "wrong: nothing gives NoneType for x"),
    "square --gradient column": (1, "wrong: column gives shape (1,) for x: must be ()"),
    "square --gradient fails": (1, "wrong: fails raises KeyError: 'here' where square does not"),
    "changes --gradient changed": (0, "agrees: changed"),
    "some --gradient slope": (0, "agrees: slope"),
    "several --gradient both": (0, "agrees: both agrees with the derivative of several by x, y"),
    "several --gradient by_y --argnums y": (0, "agrees: by_y"),
    "several --gradient by_y --argnums 1": (0, "agrees: by_y"),
    "several --gradient by_y --argnums -1": (0, "agrees: by_y"),
    "several --gradient by_y": (1, "wrong: several"),
    "pair": (0, "agrees: npgrad agrees with the derivative of pair by given"),
    "method": (0, "agrees"),
    "decorated": (0, "agrees: decorated agrees with the derivative of square by x"),
    "decorated_wrong": (1, "wrong: square"),
    "kinked --gradient slope": (3, "cannot be told: "),
}


@pytest.mark.parametrize("line", ANSWERS)
def test_check__answers_by_text_and_status(run, line):
    status, out, err = run(f"code_.py:{line} --examples 40")
    assert (status, err) == (ANSWERS[line][0], []) and out[0].startswith(ANSWERS[line][1])


def test_check__json_is_one_line_that_says_the_same(run):
    status, out, _ = run("code_.py:loss --gradient mean --json")
    result = json.loads(out[0])
    assert (status, len(out), result["answer"]) == (1, 1, "wrong")
    assert result["entry"] == [0, 0] and result["argument"] == "argument 0 (h)"
    assert abs(result["given"] - result["number"] / 2) <= result["error"] + 1e-12
    values = {"np": np}
    exec(result["input"], values)
    assert values["h"].shape == (2, 2) and not values["h"].any() and values["a"].shape == (2,)
    status, out, _ = run("code_.py:loss --json --examples 20")
    result = json.loads(out[0])
    assert (status, len(out), result["answer"], result["input"]) == (0, 1, "agrees", None)
    assert result["examples"] == 20


def test_check__says_what_the_function_does_beside_its_value(run):
    status, out, err = run("code_.py:prints --json --examples 5")
    assert (status, len(out)) == (0, 1) and set(err) == {"noise"}
    assert json.loads(out[0])["answer"] == "agrees"
    _, out, _ = run("code_.py:some --examples 9")
    assert any(line.startswith("discarded ") and "only x <= 0" in line for line in out)
    _, out, _ = run("code_.py:changes --gradient changed --examples 5")
    assert out[-1] == "changes changes x in place; it was given copies"


def test_check__same_seed_same_answer_and_files_are_read_again(run):
    lines = [run(f"code_.py:several --gradient by_y --seed {seed}")[1] for seed in (5, 5)]
    assert lines[0] == lines[1]
    path = Path("code_.py")
    code = path.read_text().replace("def slope(x): return 2", "def slope(x): return 3")
    path.write_text(code)
    assert run("code_.py:square --gradient slope")[0] == 1
    assert run("code_:square --gradient code_:slope")[0] == 1  # a module, by its name
    made = {path.name for path in Path().iterdir()} - {"__pycache__", "code_.py", "other.py"}
    assert not made


BAD = {
    "code_.py:nothing_here": (2, "code_.py has no nothing_here"),
    "code_.py:squar": (2, "code_.py has no squar; did you mean square?"),
    "code_.py:Thing.method": (2, "argument self: a method needs its object"),
    "code_.py:number": (2, "code_.py:number is of type int: must be a function"),
    "code_.py:unknown": (2, "argument x: cannot be drawn; annotate it, as in x: float"),
    "code_.py:double": (2, "argument x: cannot be drawn"),
    "code_.py:nested": (2, "nested gives list: must be a float"),
    "code_.py:square --gradient both": (2, "both and square: must take the same arguments"),
    "code_.py:square --gradient none": (2, "code_.py has no none"),
    "code_.py:square --gradient code_.py:": (2, "--gradient = code_.py:: must be like losses.py"),
    "code_.py:square --gradient": (2, "--gradient: expected one argument"),
    "code_.py:several --argnums z": (2, "argnums = ['z']: must be among 0 (x), 1 (y)"),
    "code_.py": (2, "FILE:f = code_.py: must be like losses.py:loss"),
    "no.py:f": (2, "FILE = no.py: cannot be imported: FileNotFoundError"),
    "no.module:f": (2, "FILE = no.module: cannot be imported: ModuleNotFoundError"),
    "syntax.py:f": (2, "FILE = syntax.py: cannot be imported: SyntaxError"),
    "exits.py:f": (2, "FILE = exits.py: cannot be imported: SystemExit: 7"),
    "endless.py:f --timeout 0.05": (2, "FILE = endless.py: its import does not end within 0.05 s"),
    "": (2, "missing: FILE:f"),
    "code_.py:loss --examples 0": (2, "--examples = 0: must be at least 1"),
    "code_.py:loss --examples few": (2, "--examples = few: must be of type int"),
    "code_.py:loss --rtol 2": (2, "--rtol = 2.0: must be in (0, 1)"),
    "code_.py:loss --seed -1": (2, "--seed = -1: must be at least 0"),
    "code_.py:loss --timeout 0": (2, "--timeout = 0.0: must be in (0, 1e6)"),
    "code_.py:loss --framework mxnet": (2, "--framework = mxnet: must be one of "),
    "code_.py:loss --fast": (2, "--fast: no such flag or argument"),
    "code_.py:raises --examples 9": (3, "cannot be told: no input gives an answer; discarded "),
    "code_.py:exits --examples 9": (3, "cannot be told: no input gives an answer; discarded "),
    "code_.py:endless --timeout 0.05": (3, "endless does not end within 0.05 s at x = 0.0"),
    "code_.py:square --gradient endless_slope --timeout 0.05": (3, "endless_slope does not end"),
    "code_.py:interrupted": (130, "interrupted"),
}


@pytest.mark.parametrize("line", BAD)
def test_check__bad_input_is_one_line(run, line):
    Path("syntax.py").write_text("def f(:")
    Path("exits.py").write_text("import sys; print('bye'); sys.exit(7)")
    Path("endless.py").write_text("while True: pass")
    status, out, err = run(line)
    message = [text for text in err if text != "bye"]
    assert (status, out, len(message)) == (BAD[line][0], [], 1)
    assert message[0].startswith("npgrad: " + BAD[line][1])
    status, out, _ = run(line + " --json")
    assert status == BAD[line][0] and len(out) == 1 and json.loads(out[0])["error"]


def as_a_process(*line):
    code = "import sys; from algorithms.runner.cli import main; sys.exit(main())"
    env = {"PYTHONPATH": str(Path(check.__file__).parents[2])}
    command = [sys.executable, "-c", code, "check", *line]
    return subprocess.run(command, capture_output=True, text=True, env=env)


def test_check__ends_code_that_catches_everything(run):
    done = as_a_process("code_.py:stubborn", "--timeout", "0.05")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("npgrad: stubborn does not end within 0.05 s")


def test_check__leaves_nothing_behind(run):
    assert as_a_process("code_.py:square", "--examples", "5").returncode == 0
    assert {path.name for path in Path().iterdir()} == {"code_.py", "other.py"}


@pytest.mark.parametrize("module, line", [("hypothesis", ""), ("torch", " --framework torch")])
def test_check__says_what_to_install(run, monkeypatch, module, line):
    monkeypatch.setitem(sys.modules, module, None)
    package = "npgrad[testing]" if module == "hypothesis" else module
    status, out, err = run("code_.py:square" + line)
    assert (status, out) == (2, [])
    assert err == [f"npgrad: {module} is not installed: pip install '{package}'"]


def test_check__needs_no_tyro(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert run("code_.py:square")[0] == 0
    status, out, _ = run("--help")
    assert status == 0 and "exit status: 0 agrees, 1 wrong, 2 usage, 3 cannot be told" in out


def test_check__debug_shows_the_traceback(run):
    status, _, err = run("no.py:f --debug")
    assert status == 2 and err[0].startswith("Traceback") and err[-1].startswith("npgrad: FILE")


class Numbers(np.ndarray):
    """The arrays of a library that does not accept NumPy's."""


def test_framework__judges_the_derivative_of_another_library():
    def square(x):
        assert isinstance(x, Numbers)
        return x * x

    for factor, answer in ((2.0, "agrees"), (2.01, "wrong")):

        def J(f, positions, values, factor=factor):
            assert positions == (0,) and isinstance(f(*values), Numbers)
            return (np.diag(factor * values[0]),)

        library = theirs.Framework(Numbers, lambda x: x.view(Numbers), np.asarray, J)
        f = library.adapted(square)
        x = {"x": testing.reals(2)}
        trial = testing.examine(f, jacobian=library.jacobian, who="it", examples=20, inputs=x)
        assert trial.answer == answer and "it " in trial.line
