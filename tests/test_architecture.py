"""Imports go down only, from floor to floor, and what is long is split."""

import ast
from pathlib import Path

import pytest

import skgnh

ROOT = Path(skgnh.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
FLOORS = {
    "arrays": 0,
    "memory": 0,
    "threads": 0,
    "messages": 0,
    "progress": 0,
    "linalg": 1,
    "network": 1,
    "blocks": 1,
    "lazy_rows": 1,
    "linearization": 1,
    "losses": 1,
    "scaling": 1,
    "operators": 2,
    "hmatrix": 2,
    "solvers": 3,
    "objective": 3,
    "block_objective": 3,
    "posterior": 4,
    "training": 4,
    "optimize": 4,
    "estimators": 5,
    "inspection": 6,
    "onnx": 6,
}
# Most lines of code, without docstrings, comments and blank lines.
LIMITS = {ast.Module: 250, ast.ClassDef: 200, ast.FunctionDef: 40}


def part_of(module):
    """Name the part of the package that a dotted name belongs to: its second word."""
    return module.split(".")[1] if "." in module else ""


def imported(path):
    """Yield the dotted name of all that a module imports from the package."""
    package = ("skgnh", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*up, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "skgnh")


def may_import(part, other):
    """Say whether a part may import another: from its own floor or a lower one."""
    if part == "hmatrix":  # it knows entries and products, and no network
        return other in (part, "linalg") or FLOORS[other] == 0
    return FLOORS[other] <= FLOORS[part]


def code_lines(text):
    """Return the numbers of the lines that are not blank, comments or docstrings."""
    code = {
        number
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.strip().startswith("#")
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            code.difference_update(range(node.lineno, node.end_lineno + 1))
    return code


def too_long(text):
    """Yield what has more lines of code than its kind may have, and how many."""
    code = code_lines(text)
    for node in ast.walk(ast.parse(text)):
        if type(node) in LIMITS:
            own = code
            if not isinstance(node, ast.Module):
                own = code.intersection(range(node.lineno, node.end_lineno + 1))
            if len(own) > LIMITS[type(node)]:
                yield getattr(node, "name", "module"), len(own)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_go_down_only(path):
    if path == ROOT / "__init__.py":
        return
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert part in FLOORS, f"give {part!r} its floor in this test"
    wrong = [
        name
        for name in imported(path)
        if part_of(name) not in FLOORS or not may_import(part, part_of(name))
    ]
    assert not wrong, f"{part} (floor {FLOORS[part]}) imports {wrong}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_long_is_split(path):
    assert not list(too_long(path.read_text(encoding="utf-8")))


def test_lines_are_counted_without_docstrings_comments_and_blanks():
    body = '    """Say."""\n\n    # why\n' + "    x = 1\n" * 39
    assert not list(too_long("def f():\n" + body))
    assert list(too_long("def f():\n" + body + "    x = 2\n")) == [("f", 41)]
    nested = "class C:\n" + "    x = 1\n" * 200
    assert list(too_long(nested)) == [("C", 201)]
    assert list(too_long("x = 1\n" * 251)) == [("module", 251)]


def test_names_of_imports_are_resolved(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "solvers").mkdir()
    module = tmp_path / "solvers" / "new.py"
    module.write_text(
        "import numpy\nimport skgnh.losses\nfrom skgnh import network\n"
        "from . import base\nfrom ..operators.gauss_newton import GaussNewtonHessian\n"
        "def late():\n    from ..estimators import base\n"
    )
    assert list(imported(module)) == [
        "skgnh.losses",
        "skgnh.network",
        "skgnh.solvers.base",
        "skgnh.operators.gauss_newton.GaussNewtonHessian",
        "skgnh.estimators.base",
    ]
