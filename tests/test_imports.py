"""What `import skgnh` loads, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import skgnh

CHECKOUT = Path(skgnh.__file__).parents[1]
OPTIONAL = {"dask", "distributed", "matplotlib", "onnx", "pandas", "rich", "torch"}


def loaded_by(name):
    code = f"import {name}, sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=CHECKOUT, check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_nothing_optional_is_loaded_beside_what_scikit_learn_loads():
    found = loaded_by("skgnh")
    assert "skgnh.estimators" in found
    beside = {m.split(".")[0] for m in found - loaded_by("sklearn.neural_network")}
    assert beside.isdisjoint(OPTIONAL)
    assert "scipy" not in beside
