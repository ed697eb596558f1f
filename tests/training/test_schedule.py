"""Schedules: which rows serve what, and when an epoch ends."""

import pickle
from itertools import islice

import numpy as np
import pytest

from skgnh.training import Batch, FullBatch, GrowingBatches, MiniBatches, State


def state(seed=0):
    return State(theta=np.zeros(1), rng=np.random.default_rng(seed))


def take(schedule, n, seed=0):
    return list(islice(schedule.batches(state(seed)), n))


@pytest.mark.parametrize("curvature_size", [10, 11])
def test_full_batch_takes_all_rows_for_everything(curvature_size):
    for batch in take(FullBatch(10, curvature_size), 3):
        assert batch == Batch(None, None, None, ends_epoch=True)
        assert batch.max_trials > 10**6


def test_full_batch_draws_rows_for_the_curvature_anew_for_each_step():
    batches = take(FullBatch(100, 30), 200)
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
    batches = MiniBatches(n_rows, size, size).batches(state())
    for _ in range(3):
        epoch = list(islice(batches, n_batches))
        assert [batch.ends_epoch for batch in epoch] == [False] * (n_batches - 1) + [
            True
        ]
        rows = np.concatenate([batch.gradient for batch in epoch])
        np.testing.assert_array_equal(np.sort(rows), np.arange(n_rows))
        lengths = [len(batch.gradient) for batch in epoch]
        assert min(lengths) >= min(size, n_rows)
        assert max(lengths) < 2 * size


def test_a_step_is_judged_on_the_batch_that_comes_next():
    batches = take(MiniBatches(10, 3, 10), 30)
    for batch, following in zip(batches[:-1], batches[1:], strict=True):
        np.testing.assert_array_equal(batch.judge, following.gradient)
        assert batch.curvature is batch.gradient
        assert batch.max_trials == 1


def test_epochs_are_shuffled():
    batches = MiniBatches(20, 5, 5).batches(state())
    first, second = (
        [batch.gradient.tolist() for batch in islice(batches, 4)] for _ in range(2)
    )
    assert first != second
    assert first[0] != list(range(5))


def test_curvature_takes_some_rows_of_its_batch():
    for batch in take(MiniBatches(20, 6, 4), 9):
        assert len(set(batch.curvature.tolist())) == 4
        assert np.isin(batch.curvature, batch.gradient).all()
        np.testing.assert_array_equal(batch.curvature, np.sort(batch.curvature))


@pytest.mark.parametrize(
    "schedule",
    [
        FullBatch(20, 6),
        MiniBatches(20, 6, 6),
        MiniBatches(20, 6, 3),
    ],
)
def test_schedules_repeat_for_the_same_seed_and_differ_for_another(schedule):
    def rows(seed):
        batches = take(schedule, 7, seed)
        return np.concatenate([batch.curvature for batch in batches])

    np.testing.assert_array_equal(rows(1), rows(1))
    assert np.any(rows(1) != rows(2))


def test_schedules_may_be_told_of_a_step():
    batches = MiniBatches(10, 5, 5).batches(state())
    first = next(batches)
    second = batches.send("a step")
    np.testing.assert_array_equal(first.judge, second.gradient)


def test_epochs_go_on_where_they_stopped():
    whole = [batch.gradient for batch in take(MiniBatches(20, 5, 5), 12)]
    kept = state()
    first = [b.gradient for b in islice(MiniBatches(20, 5, 5).batches(kept), 4)]
    kept = pickle.loads(pickle.dumps(kept))
    second = [b.gradient for b in islice(MiniBatches(20, 5, 5).batches(kept), 8)]
    np.testing.assert_array_equal(np.stack(first + second), np.stack(whole))


def grown(n_rows, successes, size=10, curvature_size=1000):
    """Batches of points whose success is given, and the state after them."""
    at = state()
    batches, taken = GrowingBatches(n_rows, size, curvature_size).batches(at), []
    for success in successes:
        taken.append(next(batches))
        at.recent = (*at.recent, success)[-8:]
    return taken, at


def test_batches_double_where_fewer_than_half_of_eight_steps_succeed():
    half = [True, False] * 4
    lengths = [len(batch.gradient) for batch in grown(10_000, 5 * half)[0]]
    assert set(lengths) == {10}
    lengths = [len(batch.gradient) for batch in grown(10_000, 40 * [False])[0]]
    assert lengths == [10] * 8 + [20] * 8 + [40] * 8 + [80] * 8 + [160] * 8


def test_all_rows_serve_once_batches_would_be_half_of_them():
    batches, _ = grown(100, 40 * [False])
    # Of 40 two batches fit, of 80 not.
    sizes = [None if b.gradient is None else len(b.gradient) for b in batches]
    assert sizes == [10] * 8 + [20] * 8 + [40] * 8 + [None] * 16
    assert not batches[-1].is_judged_unseen
    assert batches[-1].max_trials > 10**6


def test_growing_batches_go_through_all_rows_and_are_judged_on_the_next():
    batches, _ = grown(95, 19 * [True])
    for batch, following in zip(batches[:-1], batches[1:], strict=True):
        np.testing.assert_array_equal(batch.judge, following.gradient)
        assert batch.is_judged_unseen
        assert batch.max_trials == 1
    rows = np.concatenate([batch.gradient for batch in batches])
    np.testing.assert_array_equal(np.bincount(rows, minlength=95), 2)
    # An epoch is complete once so many rows have been taken as there are.
    assert [k for k, batch in enumerate(batches) if batch.ends_epoch] == [9, 18]


def test_curvature_of_growing_batches_takes_some_of_their_rows():
    for batch in grown(100, 5 * [True], curvature_size=4)[0]:
        assert len(set(batch.curvature.tolist())) == 4
        assert np.isin(batch.curvature, batch.gradient).all()
