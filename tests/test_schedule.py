"""Schedules: which rows serve what, and when an epoch ends."""

from itertools import islice

import numpy as np
import pytest

from skgnh.schedule import Batch, full_batch, mini_batches


def take(schedule, n):
    return list(islice(schedule, n))


@pytest.mark.parametrize("curvature_size", [10, 11])
def test_full_batch_takes_all_rows_for_everything(curvature_size):
    for batch in take(full_batch(10, curvature_size, np.random.default_rng(0)), 3):
        assert batch == Batch(None, None, None, ends_epoch=True)
        assert batch.max_trials > 10**6


def test_full_batch_draws_rows_for_the_curvature_anew_for_each_step():
    batches = take(full_batch(100, 30, np.random.default_rng(0)), 200)
    for batch in batches:
        assert batch.gradient is None
        assert batch.judge is None
        assert batch.ends_epoch
        rows = batch.curvature
        assert len(rows) == len(set(rows.tolist())) == 30
        np.testing.assert_array_equal(rows, np.sort(rows))
    counts = np.bincount(np.concatenate([b.curvature for b in batches]), minlength=100)
    # Each count is binomial, 200 x 0.3: within five standard deviations.
    assert np.all(np.abs(counts - 60) < 5 * np.sqrt(200 * 0.3 * 0.7))


@pytest.mark.parametrize(
    ("n_rows", "size", "n_batches"),
    [(12, 4, 3), (13, 4, 3), (15, 4, 3), (10, 3, 3), (5, 5, 1), (5, 9, 1), (4, 1, 4)],
)
def test_an_epoch_visits_each_row_once(n_rows, size, n_batches):
    schedule = mini_batches(n_rows, size, size, np.random.default_rng(0))
    for _ in range(3):
        epoch = take(schedule, n_batches)
        assert [batch.ends_epoch for batch in epoch] == [False] * (n_batches - 1) + [
            True
        ]
        rows = np.concatenate([batch.gradient for batch in epoch])
        np.testing.assert_array_equal(np.sort(rows), np.arange(n_rows))
        lengths = [len(batch.gradient) for batch in epoch]
        assert min(lengths) >= min(size, n_rows)
        assert max(lengths) < 2 * size


def test_a_step_is_judged_on_the_batch_that_comes_next():
    batches = take(mini_batches(10, 3, 10, np.random.default_rng(0)), 30)
    for batch, following in zip(batches[:-1], batches[1:], strict=True):
        np.testing.assert_array_equal(batch.judge, following.gradient)
        assert batch.curvature is batch.gradient
        assert batch.max_trials == 1


def test_epochs_are_shuffled():
    schedule = mini_batches(20, 5, 5, np.random.default_rng(0))
    first, second = (
        [batch.gradient.tolist() for batch in take(schedule, 4)] for _ in range(2)
    )
    assert first != second
    assert first[0] != list(range(5))


def test_curvature_takes_some_rows_of_its_batch():
    for batch in take(mini_batches(20, 6, 4, np.random.default_rng(0)), 9):
        assert len(set(batch.curvature.tolist())) == 4
        assert np.isin(batch.curvature, batch.gradient).all()
        np.testing.assert_array_equal(batch.curvature, np.sort(batch.curvature))


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: full_batch(20, 6, rng),
        lambda rng: mini_batches(20, 6, 6, rng),
        lambda rng: mini_batches(20, 6, 3, rng),
    ],
)
def test_schedules_repeat_for_the_same_seed_and_differ_for_another(make):
    def rows(seed):
        batches = take(make(np.random.default_rng(seed)), 7)
        return np.concatenate([batch.curvature for batch in batches])

    np.testing.assert_array_equal(rows(1), rows(1))
    assert np.any(rows(1) != rows(2))


def test_schedules_may_be_told_of_a_step():
    schedule = mini_batches(10, 5, 5, np.random.default_rng(0))
    first = next(schedule)
    second = schedule.send("a step")
    np.testing.assert_array_equal(first.judge, second.gradient)
