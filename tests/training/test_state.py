"""The state of a run, and requests to stop."""

import math
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.training.interruption import Interruption
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
