"""The scaler's numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from timellm_cli.data.scale import Scaler

VALUES = arrays(np.float64, st.tuples(st.integers(2, 40), st.integers(1, 4)), elements=st.floats(-1e6, 1e6))


def test_the_deviation_is_that_of_the_population() -> None:
    scaler = Scaler.fit(np.array([[1.0, 10.0], [3.0, 10.0]]))
    assert scaler.mean_C.tolist() == [2.0, 10.0]
    assert scaler.std_C.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-300, 123456.789])
def test_a_constant_channel_becomes_zeros(value: float) -> None:
    values_NC = np.full((1001, 1), value)
    scaler = Scaler.fit(values_NC)
    assert scaler.std_C.tolist() == [1.0]
    np.testing.assert_allclose(scaler.standardise(values_NC), 0, atol=1e-9)


@given(VALUES)
def test_restoring_undoes_standardising(values_NC: np.ndarray) -> None:
    scaler = Scaler.fit(values_NC)
    standardised_NC = scaler.standardise(values_NC)
    np.testing.assert_allclose(
        scaler.restore(standardised_NC), values_NC, rtol=1e-9, atol=1e-9 * (1 + np.abs(values_NC).max())
    )
    channels_B = np.arange(values_NC.shape[1])
    np.testing.assert_array_equal(scaler.restore(standardised_NC.T, channels_B), scaler.restore(standardised_NC).T)


def test_standardised_training_rows_have_mean_0_and_deviation_1() -> None:
    values_NC = np.random.default_rng(0).normal([5, -300], [0.01, 40], size=(5000, 2))
    standardised_NC = Scaler.fit(values_NC).standardise(values_NC)
    np.testing.assert_allclose(standardised_NC.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(standardised_NC.std(axis=0), 1, rtol=1e-12)


def test_restore_takes_each_row_by_its_channel() -> None:
    scaler = Scaler(mean_C=np.array([0.0, 100.0]), std_C=np.array([1.0, 10.0]))
    future_BH = np.ones((3, 2), dtype=np.float32)
    restored = scaler.restore(future_BH, np.array([1, 0, 1]))
    assert restored.tolist() == [[110, 110], [1, 1], [110, 110]]
    assert restored.dtype == np.float64
