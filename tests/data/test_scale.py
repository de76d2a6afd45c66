"""The scaler's numbers."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from timellm_cli.data.scale import FARTHEST, Scaler, require_computable
from timellm_cli.errors import DataError

VALUES = arrays(np.float64, st.tuples(st.integers(2, 40), st.integers(1, 4)), elements=st.floats(-1e6, 1e6))


def test_the_deviation_is_that_of_the_population() -> None:
    scaler = Scaler.fit(pl.DataFrame({"a": [1.0, 3.0, None], "b": [10.0, None, 10.0]}))
    assert scaler.mean_C.tolist() == [2.0, 10.0]
    assert scaler.std_C.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-300, 123456.789, -1e200])
def test_a_constant_channel_becomes_zeros(value: float) -> None:
    values_NC = np.full((1001, 1), value)
    scaler = Scaler.fit(pl.DataFrame(values_NC))
    assert scaler.std_C.tolist() == [1.0]
    assert not scaler.standardise(values_NC).any()


@given(VALUES)
def test_restoring_undoes_standardising(values_NC: np.ndarray) -> None:
    scaler = Scaler.fit(pl.DataFrame(values_NC))
    standardised_NC = scaler.standardise(values_NC)
    np.testing.assert_allclose(
        scaler.restore(standardised_NC), values_NC, rtol=1e-9, atol=1e-9 * (1 + np.abs(values_NC).max())
    )


def test_standardised_training_rows_have_mean_0_and_deviation_1() -> None:
    values_NC = np.random.default_rng(0).normal([5, -300], [0.01, 40], size=(5000, 2))
    standardised_NC = Scaler.fit(pl.DataFrame(values_NC)).standardise(values_NC)
    np.testing.assert_allclose(standardised_NC.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(standardised_NC.std(axis=0), 1, rtol=1e-12)


def test_restore_uses_each_columns_own_scale() -> None:
    scaler = Scaler(mean_C=np.array([0.0, 100.0]), std_C=np.array([1.0, 10.0]))
    restored_HC = scaler.restore(np.array([[1.0, 1.0], [2.0, 0.0], [-1.0, -3.0]]))
    assert restored_HC.tolist() == [[1, 110], [2, 100], [-1, 70]]
    assert restored_HC.dtype == np.float64


def test_a_channel_that_float32_cannot_compute_with_is_named() -> None:
    within_N = np.array([np.nan, -FARTHEST, FARTHEST])
    require_computable(within_N, "b", "x.csv")
    with pytest.raises(DataError, match=r"x\.csv, column 'b': a value 2e\+15 deviations from the mean"):
        require_computable(within_N * -2, "b", "x.csv")


def test_a_channel_whose_deviation_overflows_is_named() -> None:
    values_N1 = np.array([[1e200], [3e200]])
    scaler = Scaler.fit(pl.DataFrame(values_N1))
    standardised_N = scaler.standardise(values_N1)[:, 0]
    require_computable(standardised_N, "a", "x.csv")
    with pytest.raises(DataError, match=r"column 'b': values too many deviations"):
        require_computable(np.full(2, np.inf), "b", "x.csv")
