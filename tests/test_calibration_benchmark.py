"""The benchmark of probabilities: its error by hand, and a run."""

from importlib import import_module

import numpy as np
import pytest
from scripts import BENCHMARKS


@pytest.fixture
def calibration(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("calibration")


def test_calibration_error_by_hand(calibration):
    # Two rows of the bin from .9 on, one right; one of that from .6 on, right.
    shares = np.array([[0.95, 0.05], [0.05, 0.95], [0.35, 0.65]])
    found = calibration.calibration_error(np.array([0, 0, 1]), shares)
    assert found == pytest.approx((abs(1 - 1.9) + (1 - 0.65)) / 3)
    certain = np.eye(2)
    assert calibration.calibration_error(np.array([0, 1]), certain) == 0
    assert calibration.calibration_error(np.array([1, 0]), certain) == 1


def test_a_run_prints_a_table(calibration, capsys):
    calibration.main(["--tables", "iris", "--splits", "1"])
    printed = capsys.readouterr().out
    assert "| iris" in printed
    assert "more classes: log-loss times" in printed
    assert "two classes" not in printed
