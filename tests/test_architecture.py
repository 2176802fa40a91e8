"""Who may import whom, what a page may not do, and what it cites."""

import ast
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from algorithms.runner.lookup import METHODS

ROOT = Path(__file__).parent.parent
OURS = ("npgrad", "algorithms", "benchmarks")
FOREIGN = {"cloudpickle"}  # which Gymnasium itself requires
# optional, and only the runner's
EXTRAS = {"tyro", "tqdm", "matplotlib", "rich", "tensorboardX", "moviepy", "ray", "optuna",
          "pygments"}  # fmt: skip
PAGES = {page.module for page in METHODS.values()}


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for top in OURS for path in sorted((ROOT / top).rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
LIBRARY = [name for name in MODULES if not name.startswith("benchmarks")]
HELPERS = sorted(p.stem for p in (ROOT / "tests").glob("*.py") if not p.stem.startswith("test_"))


def imports(tree):
    """(line, name) of all that is imported, also within functions; a name is a module of ours, if
    there is one, else the module that it is taken from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield node.lineno, whole if whole in MODULES else node.module


def place(module):
    """npgrad < common, exact < methods < referee < runner < benchmarks, as a number. The root of
    the package is the user's side, as the runner is."""
    top, *rest = module.split(".")
    if top == "algorithms" and rest:
        return {"common": 1, "exact": 1, "referee": 3, "runner": 4}.get(rest[0], 2)
    return {"npgrad": 0, "algorithms": 4, "benchmarks": 5}.get(top)


JUDGES = "algorithms.referee", "algorithms.runner.check", "algorithms.runner.theirs"
METHOD_FILES = [name for name in MODULES if place(name) == 2]


def beside(module):
    """The page that a method's other file stands beside: algorithms.ddpg of algorithms.ddpg_noise;
    the page itself, of a page."""
    found = [page for page in PAGES if module == page or module.startswith(f"{page}_")]
    assert len(found) == 1, f"{module} belongs to no page"
    return found[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports__run_one_way(module):
    own = place(module)
    for line, name in imports(TREES[module]):
        top = name.split(".")[0]
        if top in OURS:
            assert place(name) <= own, f"line {line}: {module} imports {name}"
        else:
            assert top != "tests" and top not in HELPERS, f"line {line}: {module} imports {name}"


@pytest.mark.parametrize("module", LIBRARY)
def test_imports__need_numpy_and_gymnasium_only(module):
    """npgrad NumPy only; the runner's extras are optional."""
    allowed = {0: {"numpy"}, 4: {"numpy", "gymnasium", *FOREIGN, *EXTRAS}}
    allowed = allowed.get(place(module), {"numpy", "gymnasium", *FOREIGN})
    allowed |= {"npgrad.testing": {"hypothesis"}, "algorithms.common.cluster": {"ray"}}.get(
        module, set()
    )
    for line, name in imports(TREES[module]):
        top = name.split(".")[0]
        ours = top in OURS or top in sys.stdlib_module_names
        assert ours or top in allowed, f"line {line}: {module} imports {name}"


@pytest.mark.parametrize("module", METHOD_FILES)
def test_methods__import_none_but_what_stands_beside_them(module):
    """A page imports no other page, and a file beside a page is that page's alone."""
    for line, name in imports(TREES[module]):
        if place(name) == 2:
            assert beside(name) == beside(module), f"line {line}: {module} imports {name}"


@pytest.mark.parametrize("module", [m for m in LIBRARY if place(m) > 2])
def test_files_beside_a_page__are_imported_by_it_alone(module):
    for line, name in imports(TREES[module]):
        if place(name) == 2:
            assert name in PAGES, f"line {line}: {module} imports {name}"


def test_imports__have_no_circle():
    """Nowhere, inside folders too, and not by an import within a function either."""
    graph = {module: {name for _, name in imports(tree) if name in MODULES}
             for module, tree in TREES.items()}  # fmt: skip
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("*.py")), ids=lambda p: p.stem)
def test_tests__share_what_is_no_test(path):
    """By tests/worlds.py and the like: no test imports another's file."""
    for line, name in imports(ast.parse(path.read_text(encoding="utf-8"))):
        assert not name.startswith("test_"), f"line {line}: {path.stem} imports {name}"


# what a method may not do


def names_in(node):
    """All identifiers in a tree: variables, attributes, words imported, texts."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.lineno, part.id
        elif isinstance(part, ast.Attribute):
            yield part.lineno, part.attr
        elif isinstance(part, ast.alias):
            yield part.lineno, part.name.split(".")[-1]
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.lineno, part.value


def called(node):
    """(line, name, call) of all that is called by a name, or as an attribute."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call):
            function = part.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            yield part.lineno, name, part


@pytest.mark.parametrize(
    "module",
    [m for m in MODULES if m.startswith("algorithms") and not m.startswith(JUDGES)],
)
def test_gradients__never_call_the_tape(module):
    """Nor complex steps or differences: what runs is what is written. (`npgrad check` and the
    referee only judge the gradients of others.)"""
    tape = {"grad", "value_and_grad", "vjp", "jacobian", "complex_step", "central_differences"}
    for line, name in names_in(TREES[module]):
        assert name not in tape | {"autodiff"}, f"line {line}: {name}"


@pytest.mark.parametrize("module", METHOD_FILES)
def test_methods__neither_print_nor_save(module):
    saves = {"print", "open", "save", "savez", "savez_compressed", "savetxt", "dump", "tofile",
             "write", "write_text", "write_bytes", "getLogger", "savefig"}  # fmt: skip
    for line, name, _ in called(TREES[module]):
        assert name not in saves, f"line {line}: {name}"


@pytest.mark.parametrize("module", METHOD_FILES)
def test_methods__leave_resets_to_the_boundary(module):
    """They neither reset an environment, nor step what is no World, nor know autoreset modes."""
    for line, name in names_in(TREES[module]):
        assert name not in ("AutoresetMode", "autoreset_mode", "final_obs"), f"line {line}: {name}"
    for line, name, call in called(TREES[module]):
        assert name != "reset", f"line {line}: {name}"
        owner = getattr(call.func, "value", None)
        env = {"env", "envs"} & {found for _, found in names_in(owner)} if owner else set()
        assert name != "step" or not env, f"line {line}: {ast.unparse(call)}"


OBSERVED = {"observation", "o", "s", "s2", "S", "S2", "r", "R", "reward"}


@pytest.mark.parametrize("module", sorted(PAGES))
def test_pages__leave_what_is_observed_to_the_boundary(module):
    """They ask only their own numbers whether they are finite."""
    for line, name, call in called(TREES[module]):
        if name in ("isfinite", "isnan", "isinf", "check_finite"):
            arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
            asked = {found for x in arguments for _, found in names_in(x)}
            assert not asked & OBSERVED, f"line {line}: {ast.unparse(call)}"


NAME = r"[A-Z][a-zé]+"
CITED = re.compile(rf"({NAME})(?:,? (?:et al\.|& {NAME}|{NAME}))* ((?:19|20)\d\d)\b")


def test_sources__list_every_citation():
    rows = (ROOT / "algorithms" / "SOURCES.md").read_text(encoding="utf-8").splitlines()
    found = set()
    for name in LIBRARY:
        text = " ".join(MODULES[name].read_text(encoding="utf-8").split())
        found |= {cited.groups() for cited in CITED.finditer(text)}
    assert len(found) > 20
    for author, year in found:
        assert any(author in row and year in row for row in rows), f"{author} {year}"
