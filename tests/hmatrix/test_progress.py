"""What a long build shows: lines of levels, and a bar on a terminal."""

import re
import sys

import numpy as np
import pytest
import rich
from matrices import kernel, points

from skgnh.hmatrix import compress
from skgnh.operators import DenseMatrix

SETTINGS = {"rank": 4, "leaf_size": 10, "global_rank": 3}
LOOPS = {
    "entries": ("global part", "sampled columns", "leaves", "skeletons", "couplings"),
    "products": ("global part", "bases", "skeletons"),
}


@pytest.fixture
def terminal():
    rich.reconfigure(force_terminal=True)
    yield
    rich.reconfigure()


def built(source="entries", **settings):
    H = DenseMatrix(kernel("exponential", points(200, 1)))
    return compress(H, source=source, **SETTINGS, **settings)


def lines_of(capsys):
    return capsys.readouterr().out.splitlines()


def test_verbose_build_prints_a_line_for_each_level(capsys):
    A = built(verbose=True)
    lines = lines_of(capsys)
    assert len(lines) == len(A.levels) == 5
    assert lines[0].endswith("level 1 of 5: 32 nodes of 7 indices, rank 4")
    built()
    assert not lines_of(capsys)


@pytest.mark.parametrize("source", LOOPS)
def test_terminal_shows_a_bar_for_each_loop(source, terminal, capsys):
    A = built(source, verbose=True)
    shown = capsys.readouterr().out
    for name in LOOPS[source]:
        assert re.search(rf"{name}[^\r\n]*100%", shown), name
    assert shown.count("[compress] level") == len(A.levels)
    v = np.ones(200)
    assert np.array_equal(A @ v, built(source) @ v)
    assert not capsys.readouterr().out


def test_bars_need_rich_and_lines_do_not(terminal, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    A = built(verbose=True)
    lines = lines_of(capsys)
    assert len(lines) == len(A.levels)
    assert all(line.startswith("[compress] level") for line in lines)


def test_bar_ends_with_a_build_that_fails(terminal, capsys):
    class Failing(DenseMatrix):
        def entries(self, rows, columns):
            raise RuntimeError("no entries today")

    H = Failing(kernel("exponential", points(200, 1)))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="today"):
            compress(H, verbose=True, **SETTINGS)
    shown = capsys.readouterr().out
    # A bar hides the cursor while it lives.
    hidden, back = (shown.count(f"\x1b[?25{mode}") for mode in "lh")
    assert hidden == back > 0
