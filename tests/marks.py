"""Marks of parameters."""

import pytest


def slow_unless(fast, values):
    """Mark as slow the values, or tuples of them, for which `fast` is false."""
    return [
        value if fast(value) else pytest.param(*as_tuple(value), marks=pytest.mark.slow)
        for value in values
    ]


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)
