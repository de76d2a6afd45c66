"""What people see of a training, on a terminal and in a log file."""

import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from timellm_cli.report.progress import LiveProgress, MemoryUse, PlainProgress, memory_reader, watch
from timellm_cli.training.records import (
    BatchHalved,
    BestSoFar,
    CheckpointSaved,
    EpochFinished,
    NoImprovement,
    Record,
    RunFinished,
    RunStarted,
    ScoringStarted,
    StepFinished,
    StepLogged,
)

GPU = MemoryUse("GPU", used=int(4.6 * 2**30), total=80 * 2**30)
TAKEN = StepFinished(120, 2, 20, loss=0.4523, learning_rate=9.8e-4, samples_per_second=878.04, seconds_left=12_345.6)
EPOCH = EpochFinished(1, 100, 0.4523, 0.51, 0.51, 0.5, 0.6, 0.6, 0.55, seconds=3.0)


UNTRAINED = EpochFinished(0, 0, None, 0.53, 0.53, 0.5, 0.62, 0.62, 0.55, seconds=1.0)


def plain(*records: Record, memory: MemoryUse | None = GPU) -> list[str]:
    """The lines a log file gets."""
    stream = io.StringIO()
    progress = watch(Console(file=stream, width=80), lambda: memory)
    assert type(progress) is PlainProgress
    with progress:
        for record in records:
            progress.show(record)
    return stream.getvalue().splitlines()


def test_a_logged_step_is_one_line_of_the_usual_form() -> None:
    logged = StepLogged(100, 1, 0.45231, 9.8e-4, 12.34, seconds_left=200.4, seconds=8.0)
    assert plain(TAKEN, logged) == [
        "iters: 100, epoch: 1 | loss: 0.4523 | lr 9.80e-04 | 12.3 samples/s | left 0:03:20 | GPU 4.6 of 80.0 GiB"
    ]
    assert plain(logged, memory=None)[0].endswith("| left 0:03:20")
    assert plain(replace(logged, gpu_busy=0.974))[0].endswith("| GPU 4.6 of 80.0 GiB | computing 97%")


def test_an_epoch_gives_its_losses_and_what_became_of_the_model() -> None:
    assert plain(
        RunStarted(0, 0, 10, 50, 500), ScoringStarted(1, "val", 9), EPOCH, BestSoFar(1, math.inf, 0.51),
        CheckpointSaved(Path("x/best.pt"), 100), CheckpointSaved(Path("x/step-100.pt"), 100), NoImprovement(2, 3, 0.51),
        NoImprovement(2, 0, 0.51), RunFinished("all 10 epochs are done", 500, 10, {}, 3.0, None),
    ) == [
        "Epoch: 1 | train loss: 0.4523 | val loss: 0.5100 | val MAE: 0.5000 | test loss: 0.6000 | test MAE: 0.5500",
        "Validation loss decreased (inf --> 0.510000). Saving model ...",
        "Saved step-100.pt",
        "No lower validation loss for 2 of 3 epochs (best: 0.510000)",
        "No lower validation loss for 2 epochs (best: 0.510000)",
        "Finished: all 10 epochs are done",
    ]  # fmt: skip


def test_a_shortage_of_memory_is_told_with_what_follows() -> None:
    assert plain(BatchHalved(1200, "step", 4), BatchHalved(1300, "scoring", 1)) == [
        "The GPU was out of memory in step 1,200: the step was repeated with 4 samples at a time, and training "
        "continues like that; batches and updates stay the same",
        "The GPU was out of memory in scoring, which continues with 1 sample at a time; no figure changes",
    ]


def test_a_resumed_run_says_where_it_goes_on() -> None:
    assert plain(RunStarted(1200, 2, 10, 500, 5000)) == ["Continuing after step 1,200 of 5,000"]


def live(width: int, *records: Record, scored: int = 0, stopping: bool = False) -> list[str]:
    """The lines that stand on a terminal of that width after these records."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False)
    progress = watch(console, lambda: GPU)
    assert isinstance(progress, LiveProgress)
    for record in records:
        progress.show(record)
    progress.scored(scored)
    if stopping:
        progress.stopping()
    with console.capture() as capture:
        console.print(progress._render())
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_both_bars_and_all_figures_in_three_lines(width: int) -> None:
    lines = live(width, RunStarted(0, 0, 10, 100, 1000), TAKEN)
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("epoch ━")
    assert lines[0].endswith(" 2/10")
    assert lines[1].startswith("step  ━")
    assert lines[1].endswith("20/100")
    assert lines[2].rstrip() == "loss: 0.4523  lr 9.80e-04  878.0 samples/s  GPU 4.6 of 80.0 GiB  left 3:25:46"


def test_scoring_takes_the_place_of_the_step_bar() -> None:
    lines = live(80, RunStarted(0, 0, 10, 100, 1000), TAKEN, ScoringStarted(2, "val", 5_000), scored=1_250)
    assert lines[1].startswith("val   ━")
    assert lines[1].endswith("1,250/5,000")


def test_a_wish_to_stop_is_acknowledged_at_once() -> None:
    lines = live(80, RunStarted(0, 0, 10, 100, 1000), TAKEN, stopping=True)
    assert lines[2].rstrip() == "Stopping after this step; Ctrl-C once more ends at once."


def test_before_the_first_step_a_resumed_run_stands_where_it_was_stopped() -> None:
    lines = live(80, RunStarted(250, 2, 10, 100, 1000))
    assert lines[0].endswith(" 3/10")
    assert lines[1].endswith("50/100")


def test_without_a_gpu_the_memory_is_the_computers() -> None:
    use = memory_reader(None)()
    assert use is not None
    assert use.kind == "RAM"
    assert 0 < use.used < use.total


def test_a_gpu_that_does_not_answer_is_left_out() -> None:
    assert memory_reader("GPU-00000000-0000-0000-0000-000000000000")() is None


def test_the_line_of_epoch_0_has_no_training_loss() -> None:
    assert plain(UNTRAINED) == [
        "Epoch: 0 | untrained | val loss: 0.5300 | val MAE: 0.5000 | test loss: 0.6200 | test MAE: 0.5500"
    ]
