"""Who may import whom, and what the gradient functions of a method may not call."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(p for top in ("npgrad", "algorithms") for p in (ROOT / top).rglob("*.py"))
EXTRAS = {"tyro", "tqdm", "matplotlib", "rich"}  # optional, and only the runner's
EDGES = {("a2c", "a3c")}  # the one import between methods: a2c is the synchronous case


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node, node.module
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def place(module):
    """numpy < npgrad < common, exact < method < referee < runner, as a number."""
    parts = module.split(".")
    if parts[0] != "algorithms":
        return ["npgrad"].index(parts[0]) if parts[0] == "npgrad" else None
    if len(parts) == 1:
        return 1
    return {"common": 1, "exact": 1, "referee": 3, "runner": 4}.get(parts[1], 2)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports__run_one_way(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    own = place(module)
    for _, name in imports(ast.parse(path.read_text())):
        top = name.split(".")[0]
        if top in ("npgrad", "algorithms"):
            assert place(name) <= own, f"{module} imports {name}"
            if own == 2 and place(name) == 2:
                edge = module.split(".")[1], name.split(".")[1]
                assert edge in EDGES, f"method {module} imports method {name}"
        elif top not in sys.stdlib_module_names:
            allowed = [{"numpy"}, {"numpy", "gymnasium"}][own > 0] | (EXTRAS if own == 4 else set())
            assert top in allowed, f"{module} imports {name}"


METHODS = [p for p in FILES if place(".".join(p.relative_to(ROOT).with_suffix("").parts)) == 2]


@pytest.mark.parametrize("path", METHODS, ids=lambda p: p.stem)
def test_methods__never_call_the_tape(path):
    tape = {"grad", "value_and_grad", "vjp", "jacobian"}
    for node, name in imports(ast.parse(path.read_text())):
        assert name.split(".")[-1] not in tape | {"autodiff"}, f"line {node.lineno}: {name}"


@pytest.mark.parametrize("path", METHODS, ids=lambda p: p.stem)
def test_methods__neither_print_nor_save(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "open"), f"line {node.lineno}"
