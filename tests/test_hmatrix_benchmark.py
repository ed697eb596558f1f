"""The benchmark of hierarchical matrices runs, and counts what it says it counts."""

import json
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hmatrix")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        options = (
            "--quick --parts a,b,c,h --networks 64-8-64 --states start --storage 32"
        )
        more = "--rows 60 --max-iter 60 --eigenvalues 4 --dampings 0.1,0.001"
        more += " --storages 16,32 --kernel-points 200"
        path = folder / "record.json"
        plots = ["--json", str(path), "--plot", str(folder)]
        made = import_module("hmatrix").main([*options.split(), *more.split(), *plots])
    assert json.loads(path.read_text())["parts"] == made
    assert {plot.suffix for plot in folder.iterdir()} == {".json", ".svg"}
    return made


@pytest.mark.slow
def test_approximations_have_the_storage_that_is_compared(parts):
    rows = {row["method"]: row for row in parts["a"]}
    (chosen,) = [row for row in rows.values() if row["chosen"]]
    assert rows["low rank"]["numbers"] == 32
    assert chosen["numbers"] <= 1.06 * 32
    hierarchical = [row for name, row in rows.items() if name.startswith("hmatrix")]
    # Chosen by eight random products, which do not tell close errors apart.
    assert chosen["error"] <= 1.1 * min(row["error"] for row in hierarchical)
    assert 0 < chosen["error"] < rows["low rank"]["error"]


@pytest.mark.slow
def test_iterations_grow_as_the_damping_falls(parts):
    rows = {(row["method"], row["damping"]): row for row in parts["b"]}
    for method in ("none", "kfac", "nystrom", "hmatrix"):
        counts = [rows[method, damping]["to 0.001"] or 61 for damping in (0.1, 0.001)]
        assert counts[0] <= counts[1]
    assert rows["hmatrix", 0.1]["to 0.001"] < rows["none", 0.1]["to 0.001"]


def test_refined_eigenvalues_are_exact(parts):
    rows = {row["method"]: row for row in parts["c"]}
    assert rows["hmatrix, refined"]["largest error"] < 1e-2


def test_errors_by_storage_are_those_of_their_forms(parts):
    rows = {(row["matrix"], row["storage"]): row for row in parts["h"]}
    for matrix in ("64-8-64, start", "gaussian kernel"):
        little, much = rows[matrix, 16], rows[matrix, 32]
        # The best there is of that rank, but for the diagonal, which is kept besides.
        assert much["low rank and diagonal"] < 1.1 * much["eigenvectors"]
        for form in ("eigenvectors", "HODLR", "low rank and diagonal", "hodlr"):
            assert much[form] < little[form]
