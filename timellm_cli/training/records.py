"""What happens in a training, as plain records. The loop makes them, `report/` shows and writes them. Light.

Losses and errors are in standardised units; epochs and steps are counted from 1.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunStarted:
    """A resumed run has `step` steps and `epoch` whole epochs behind it."""

    step: int
    epoch: int
    epochs: int
    steps_per_epoch: int
    total_steps: int


@dataclass(frozen=True)
class StepFinished:
    """One step; for live display. `seconds_left` covers the rest of the run, scoring included."""

    step: int
    epoch: int
    step_in_epoch: int
    loss: float
    learning_rate: float
    samples_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class StepLogged:
    """The mean loss of the steps since the last such record. `seconds` of training so far, pauses left out.

    `gpu_busy` is the share of the time since then in which the GPU had a step to compute; None without a GPU.
    """

    step: int
    epoch: int
    loss: float
    learning_rate: float
    samples_per_second: float
    seconds_left: float
    seconds: float
    gpu_busy: float | None = None


@dataclass(frozen=True)
class ScoringStarted:
    """A split is about to be scored."""

    epoch: int
    split: str
    samples: int


@dataclass(frozen=True)
class EpochFinished:
    """An epoch, or what `max_steps` left of it, with its scores. `val_loss` is the one that selects the best epoch.

    `val_loss` and `test_loss` are of the kind that training minimises. Epoch 0 is the untrained model, which has no
    `train_loss`.
    """

    epoch: int
    step: int
    train_loss: float | None
    val_loss: float
    val_mse: float
    val_mae: float
    test_loss: float
    test_mse: float
    test_mae: float
    seconds: float


@dataclass(frozen=True)
class BestSoFar:
    """The validation loss fell from `before` (infinite at first) to `now`; best.pt is being written."""

    epoch: int
    before: float
    now: float


@dataclass(frozen=True)
class NoImprovement:
    """The validation loss has not fallen for `epochs` epochs; after `patience` of them training stops (0: never)."""

    epochs: int
    patience: int
    best: float


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is whole on disk."""

    path: Path
    step: int


@dataclass(frozen=True)
class BatchHalved:
    """The GPU was out of memory for a 'step' or for 'scoring', which was repeated in smaller pieces.

    Nothing is lost: batches and updates stay the same. Pieces have `samples` samples for the rest of this process.
    """

    step: int
    during: str
    samples: int


@dataclass(frozen=True)
class MemoryMeasured:
    """The most memory, in bytes, that the steps up to `step` took. Recorded once a process, before it scores.

    `allocated` and `reserved` are torch's on a GPU; on a CPU both are the process's largest resident set, loading
    included. `predicted` is the bill of the same, without the CUDA context that torch does not count; `parts` is the
    whole bill by its keys. They are None and empty where the LLM's size was not known.
    """

    step: int
    device: str
    predicted: int | None
    parts: dict[str, int]
    allocated: int
    reserved: int


@dataclass(frozen=True)
class RunInterrupted:
    """The user stopped the run; everything up to `step` is saved."""

    step: int
    path: Path


@dataclass(frozen=True)
class RunFinished:
    """The end, after `step` steps in `epochs` epochs (the last may be cut short). `reason` says why it ended.

    `best` holds the figures of the best epoch, as in `EpochFinished`. `memory` is None where this process took no step.
    """

    reason: str
    step: int
    epochs: int
    best: dict[str, float]
    seconds: float
    memory: MemoryMeasured | None


Record = (
    RunStarted
    | StepFinished
    | StepLogged
    | ScoringStarted
    | EpochFinished
    | BestSoFar
    | NoImprovement
    | CheckpointSaved
    | MemoryMeasured
    | BatchHalved
    | RunInterrupted
    | RunFinished
)
