"""Early stopping, interruption and pace."""

import math
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.training.interruption import Interruption
from timellm_cli.training.state import EarlyStopping, Pace


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.integers(0, 5))
def test_the_best_is_the_first_of_the_lowest_and_waiting_ends_at_the_patience(
    losses: list[float], patience: int
) -> None:
    stopping = EarlyStopping(patience)
    seen: list[float] = []
    for epoch, loss in enumerate(losses):
        assert stopping.update(loss, {"epoch": epoch}) == (loss < min(seen, default=math.inf))
        seen.append(loss)
        best = seen.index(min(seen))
        assert (stopping.best_loss, stopping.figures["epoch"], stopping.waited) == (seen[best], best, epoch - best)
        assert stopping.exhausted == (patience > 0 and epoch - best >= patience)


def test_the_state_comes_back_under_another_patience() -> None:
    stopping = EarlyStopping(2)
    for loss in (1.0, 2.0):
        stopping.update(loss, {"loss": loss})
    again = EarlyStopping(1)
    again.load_state(stopping.state())
    assert (again.best_loss, again.waited, again.figures, again.exhausted) == (1.0, 1, {"loss": 1.0}, True)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent in the POSIX way")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_asks_and_a_second_one_ends_at_once(name: str) -> None:
    number, told = getattr(signal, name), []
    before = signal.getsignal(number)
    interruption = Interruption(lambda: told.append("stopping"))
    with interruption.listening():
        signal.raise_signal(number)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert told == ["stopping"]
    assert signal.getsignal(number) is before


def test_the_time_left_counts_steps_and_scorings() -> None:
    pace = Pace(scored_batches=6)
    for seconds in (3.0, 1.0, 2.0):
        pace.step(seconds)
    assert pace.per_step == pytest.approx(2.0)
    assert pace.left(steps=5, scorings=2) == pytest.approx(10.0 + 2 * 6 * 2.0 * 2 / 3), (
        "a guess, as none has been timed"
    )
    pace.scored(10.0)
    assert pace.left(steps=5, scorings=2) == pytest.approx(30.0)
    assert pace.seconds == pytest.approx(16.0)


def test_the_pace_follows_a_change_of_speed() -> None:
    pace = Pace()
    for seconds in [1.0] * 100 + [0.1] * 100:
        pace.step(seconds)
    assert pace.per_step == pytest.approx(0.1, abs=0.01)
