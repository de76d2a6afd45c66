"""The state of a run, requests to stop, and the estimate of the time left."""

import math
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.training.interruption import Interruption
from timellm_cli.training.measure import StepTimes
from timellm_cli.training.state import RunState


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30))
def test_the_best_epoch_is_the_first_with_the_lowest_loss(losses: list[float]) -> None:
    state = RunState()
    seen: list[float] = []
    for epoch, loss in enumerate(losses):
        assert state.add_score(loss, {"epoch": epoch}) == (loss < min(seen, default=math.inf))
        seen.append(loss)
        best = seen.index(min(seen))
        assert (state.best_loss, state.best_figures["epoch"], state.epochs_waited) == (seen[best], best, epoch - best)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent in the POSIX way")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_asks_and_a_second_one_ends_at_once(name: str) -> None:
    number, said = getattr(signal, name), []
    before = signal.getsignal(number)
    interruption = Interruption(lambda: said.append("stopping"))
    with interruption.listening():
        signal.raise_signal(number)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert said == ["stopping"]
    assert signal.getsignal(number) is before


def test_the_time_left_counts_steps_and_scorings() -> None:
    times = StepTimes(scored_batches=6)
    for seconds in (3.0, 1.0, 2.0):
        times.add_step(seconds)
    assert times.per_step == pytest.approx(2.0)
    assert times.seconds_left(steps=5, scorings=2) == pytest.approx(10.0 + 2 * 6 * 2.0 * 2 / 3), (
        "no scoring is timed yet"
    )
    times.add_scoring(10.0)
    assert times.seconds_left(steps=5, scorings=2) == pytest.approx(30.0)


def test_the_time_of_a_step_follows_a_change_of_speed() -> None:
    times = StepTimes(scored_batches=0)
    for seconds in [1.0] * 100 + [0.1] * 100:
        times.add_step(seconds)
    assert times.per_step == pytest.approx(0.1, abs=0.01)
