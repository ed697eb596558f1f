"""The API reference: complete, and with an example at every name."""

import re
from importlib import import_module
from pathlib import Path

import pytest

API = Path(__file__).parents[1] / "docs" / "api.rst"
PACKAGES = (
    "skgnh",
    "skgnh.hmatrix",
    "skgnh.inspection",
    "skgnh.operators",
    "skgnh.solvers",
    "skgnh.training",
)


def listed():
    """Return the (module, name) of all entries of the reference."""
    module, found = None, []
    for line in API.read_text().splitlines():
        if line.startswith(".. currentmodule::"):
            module = line.split()[-1]
        elif re.fullmatch(r"   \w+", line):
            found.append((module, line.strip()))
    return found


@pytest.mark.parametrize(("module", "name"), listed())
def test_every_name_of_the_reference_has_an_example(module, name):
    assert ">>> " in getattr(import_module(module), name).__doc__


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_lists_what_a_package_exports(package):
    names = {name for _, name in listed()}
    public = [n for n in import_module(package).__all__ if not n.startswith("_")]
    assert set(public) <= names
