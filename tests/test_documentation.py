"""The API reference is complete, the examples of both reference and guide run."""

import re
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest

DOCS = Path(__file__).parents[1] / "docs"
API = DOCS / "api.rst"
GUIDE = ["fit", "uncertainty", "calibration", "inspect", "compress", "scale", "extend"]
BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", re.MULTILINE)
# What needs more than the extras of the tests: a cluster's files, a GPU, a converter.
ELSEWHERE = ("import dask", "cuda", "skl2onnx")
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


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", GUIDE)
def test_a_page_of_the_guide_runs_as_it_is_copied(page, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib").use("agg")
    blocks = BLOCK.findall((DOCS / f"{page}.rst").read_text())
    assert blocks
    if any("sklearn.callback" in block for block in blocks):
        pytest.importorskip("sklearn.callback")
        pytest.importorskip("rich")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "guide"}
    for block in blocks:
        if not any(word in block for word in ELSEWHERE):
            exec(dedent(block), names)
