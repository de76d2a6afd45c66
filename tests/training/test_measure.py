"""The time of steps, and the GPU's share of it."""

import pytest
import torch

from timellm_cli.training.measure import GpuTime, StepTimes


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


class Event:
    """A stand-in for a CUDA event on a GPU that takes a second a step and is `behind` steps late."""

    made = 0
    recorded = 0
    behind = 0

    def __init__(self, enable_timing: bool) -> None:
        Event.made += 1

    def record(self) -> None:
        Event.recorded += 1
        self.number = Event.recorded

    def query(self) -> bool:
        return self.number <= Event.recorded - 2 * Event.behind

    def elapsed_time(self, end: "Event") -> float:
        return 1000.0 * (end.number - self.number)


def test_gpu_time_counts_every_step_once_and_makes_few_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.Event", Event)
    gpu_time, seconds = GpuTime(torch.device("cuda")), 0.0
    for behind in (0, 3):
        monkeypatch.setattr(Event, "behind", behind)
        for step in range(1, 101):
            with gpu_time:
                pass
            if step % 10 == 0:
                seconds += gpu_time.take()
    assert seconds == 197, "the newest three steps are still running"
    monkeypatch.setattr(Event, "behind", 0)
    assert gpu_time.take() == 3
    assert Event.made <= 2 * 5
