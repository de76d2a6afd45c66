"""The training loop: steps, epochs, scores and checkpoints, told as records. It prints nothing.

A run can stop after any step and go on later as if it had not: whatever a step depends on is either a function of the
configuration and the step's number (the order of the samples, the learning rate) or kept in the checkpoint.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from timellm_cli.config import Config
from timellm_cli.data.batch import Batch
from timellm_cli.data.windows import ForecastData, Window
from timellm_cli.errors import ModelError, listed
from timellm_cli.evaluation.bands import Intervals, ValidationErrors
from timellm_cli.evaluation.score import Scores, score
from timellm_cli.geometry import count_total_steps, count_updates, steps_per_epoch
from timellm_cli.model.load import TimeLLM
from timellm_cli.model.runner import ModelForecaster
from timellm_cli.planning.memory_bill import Bill
from timellm_cli.training.checkpoint import Checkpoint, TrainingState, save_checkpoint
from timellm_cli.training.interruption import Interruption
from timellm_cli.training.loader import load_batches, prefetch
from timellm_cli.training.measure import PeakMemory
from timellm_cli.training.optimizer import Schedule
from timellm_cli.training.records import (
    BestSoFar,
    CheckpointSaved,
    EpochFinished,
    MemoryShort,
    NoImprovement,
    Record,
    RunFinished,
    RunInterrupted,
    RunStarted,
    ScoringStarted,
    StepLogged,
    StepTaken,
)
from timellm_cli.training.run_directory import RunDirectory
from timellm_cli.training.state import (
    EarlyStopping,
    Losses,
    Pace,
    Place,
    Taken,
    capture_random_state,
    restore_random_state,
)
from timellm_cli.training.step import NotFiniteError, Stepper


class _Stopped(Exception):
    """The user wants the run to stop, and the step is done."""


class Trainer:
    """Trains a forecaster; iterate over `run()`."""

    def __init__(
        self,
        config: Config,
        data: ForecastData,
        forecaster: TimeLLM,
        accelerator: Accelerator,
        directory: RunDirectory,
        interruption: Interruption | None = None,
        on_scored: Callable[[int], None] | None = None,
        scoring_batch: int = 32,
        bill: Bill | None = None,
    ) -> None:
        """`on_scored` is told how many more samples have been scored, `scoring_batch` of them at a time, which changes
        no figure. `bill` is what a step was predicted to take. Raises DataError for too few samples.
        """
        train = config.train
        self._config, self._data, self._directory = config, data, directory
        self._forecaster, self._accelerator = forecaster, accelerator
        self._interruption, self._on_scored = interruption or Interruption(), on_scored
        self._samples = data.training_windows()
        self._steps = steps_per_epoch(len(self._samples), train)
        self._total = count_total_steps(self._steps, train)
        self._schedule = Schedule(
            train.schedule,
            train.learning_rate,
            total_updates=count_updates(self._steps, self._total, train),
            updates_per_epoch=count_updates(self._steps, self._steps, train),
        )
        self._stepper = Stepper(train, self._schedule, forecaster, accelerator)
        scored = len(data.windows("val")) + len(data.windows("test"))
        self._place, self._losses, self._pace = Place(), Losses(), Pace(scored_batches=scored / train.batch)
        self._stopping = EarlyStopping(train.patience)
        self._scorer, self._scoring_batch = ModelForecaster(forecaster, accelerator.device), scoring_batch
        self._memory = PeakMemory(accelerator.device, bill)
        self._finished = ""

    def resume(self, state: TrainingState) -> None:
        """Go on from a checkpoint's state; the forecaster holds its weights already."""
        begun = state.position % self._config.train.accumulate if state.gradients else 0
        self._place = Place(state.step, state.epoch, state.position, gathered_from=state.position - begun)
        self._losses = Losses(epoch=state.losses["epoch"], logged=state.losses["logged"])
        self._losses.logged_steps = int(state.losses["logged_steps"])
        self._pace.seconds = state.seconds
        self._stopping.load_state(state.early_stopping)
        self._finished = state.finished and self._reason_to_end()
        self._stepper.load_state(state)
        if self._accelerator.process_index < len(state.rng):
            restore_random_state(state.rng[self._accelerator.process_index])

    def run(self) -> Iterator[Record]:
        """Train to the end, or until an interruption is requested.

        Raises ModelError for a loss that is no number, and where the disk refuses a checkpoint.
        """
        place = self._place
        if not self._finished:
            yield RunStarted(place.step, place.epoch, self._config.train.epochs, self._steps, self._total)
        while not self._finished:
            try:
                yield from self._train_epoch()
                yield from self._memory.measure(self._pace.steps, place.step)
                yield from self._score_epoch()
            except _Stopped:
                yield self._save(self._directory.last)
                yield RunInterrupted(place.step, self._directory.last)
                return
        epochs, figures = math.ceil(place.step / self._steps), self._stopping.figures
        yield RunFinished(self._finished, place.step, epochs, figures, self._pace.seconds, self._memory.measured)

    def _train_epoch(self) -> Iterator[Record]:
        place = self._place
        stop = min(self._steps, self._total - (place.step - place.position))
        self._forecaster.train()
        unread: Taken | None = None
        started = time.perf_counter()
        for batch in self._batches(stop):
            taken = self._launch(batch, stop)
            if unread:
                yield from self._tell(unread)
            self._pace.step(time.perf_counter() - started)
            unread = taken
            saves = self._config.run.save_steps and place.step % self._config.run.save_steps == 0
            if saves or taken.outcome.wants_stop or not self._stepper.runs_ahead:
                yield from self._tell(taken)
                unread = None
            if saves:
                yield from self._save_step()
            if taken.outcome.wants_stop:
                raise _Stopped
            started = time.perf_counter()
        if unread:
            yield from self._tell(unread)

    def _batches(self, stop: int) -> Iterable[Batch]:
        """The batches of this epoch that are still to come, up to step `stop` of it."""
        steps = range(self._place.position, stop)
        batches = load_batches(
            self._samples, self._config.train, self._place.epoch, steps, self._forecaster.encoder, self._accelerator
        )
        return prefetch(batches) if self._stepper.runs_ahead else batches

    def _update(self) -> int:
        """Number of the weight update that the next step belongs to."""
        return (
            self._place.epoch * self._schedule.updates_per_epoch + self._place.position // self._config.train.accumulate
        )

    def _launch(self, batch: Batch, stop: int) -> Taken:
        place, first = self._place, self._place.gathered_from
        last = min(first + self._config.train.accumulate, stop) - 1
        update = self._update()
        outcome = self._stepper.launch(
            batch,
            update,
            share=1 / (last - first + 1),
            completes=place.position == last,
            wants_stop=self._interruption.requested,
        )
        place.step, place.position = place.step + 1, place.position + 1
        if place.position > last:
            place.gathered_from = place.position
        return Taken(place.step, place.position, self._schedule.learning_rate(update), batch, outcome)

    def _tell(self, taken: Taken) -> Iterator[Record]:
        place, losses, pace, log_steps = self._place, self._losses, self._pace, self._config.run.log_steps
        if taken.outcome.cut_to is not None:
            yield MemoryShort(taken.step, "step", taken.outcome.cut_to)
        try:
            loss = taken.outcome.loss()
        except NotFiniteError as error:
            where = self._name_samples(taken.batch, error.samples)
            raise self._diverged(f"the loss became {error.loss}", where, taken.step) from None
        losses.epoch += loss
        losses.logged += loss
        losses.logged_steps += 1
        epoch, rate = place.epoch + 1, taken.learning_rate
        speed = self._config.train.batch / pace.per_step if pace.per_step else 0.0
        scorings = math.ceil(self._total / self._steps) - place.epoch
        left = pace.left(self._total - taken.step, scorings)
        yield StepTaken(taken.step, epoch, taken.position, loss, rate, speed, left)
        if taken.step % log_steps == 0 or taken.step == self._total:
            mean = losses.logged / losses.logged_steps
            losses.logged, losses.logged_steps = 0.0, 0
            busy = pace.share_of(self._stepper.gpu_time.take()) if self._stepper.runs_ahead else None
            yield StepLogged(taken.step, epoch, mean, rate, speed, left, pace.seconds, busy)

    def _score_epoch(self) -> Iterator[Record]:
        place = self._place
        scores: dict[str, Scores] = {}
        errors = ValidationErrors(self._data)
        started = time.perf_counter()
        for split, on_errors in (("val", errors.add), ("test", None)):
            yield ScoringStarted(place.epoch + 1, split, len(self._data.windows(split)))
            at_a_time = self._scorer.at_a_time
            scores[split] = self._score(split, on_errors)
            if self._scorer.at_a_time is not None and self._scorer.at_a_time != at_a_time:
                yield MemoryShort(place.step, "scoring", self._scorer.at_a_time)
        self._pace.scored(time.perf_counter() - started)
        figures = self._agree(self._summarise(scores))
        if not math.isfinite(figures.val_loss):
            raise self._diverged(f"the validation loss became {figures.val_loss}")
        yield figures
        before = self._stopping.best_loss
        improved = self._stopping.update(figures.val_loss, asdict(figures))
        if place.position == self._steps:
            place.epoch, place.position, place.gathered_from = place.epoch + 1, 0, 0
            self._losses.epoch = 0.0
        self._finished = self._reason_to_end()
        intervals = errors.intervals()
        if improved:
            yield BestSoFar(figures.epoch, before, figures.val_loss)
            yield self._save(self._directory.best, intervals, with_state=False)
        else:
            yield NoImprovement(self._stopping.waited, self._stopping.patience, before)
        yield self._save(self._directory.last, intervals)

    def _score(self, split: str, on_errors: Callable[[Sequence[Window], Tensor], None] | None) -> Scores:
        """Every process scores all windows by itself: the figures are the same for any number of processes."""

        def hear(samples: int) -> None:
            if self._on_scored is not None:
                self._on_scored(samples)
            if self._interruption.requested and self._accelerator.num_processes == 1:
                raise _Stopped

        with self._stepper.averaged():
            return score(self._scorer, self._data, split, self._scoring_batch, on_batch=hear, on_errors=on_errors)

    def _summarise(self, scores: dict[str, Scores]) -> EpochFinished:
        val, test = scores["val"], scores["test"]
        loss = self._config.train.loss
        return EpochFinished(
            epoch=self._place.epoch + 1,
            step=self._place.step,
            train_loss=self._losses.epoch / self._place.position,
            val_loss=val.loss(loss),
            val_mse=val.mse,
            val_mae=val.mae,
            test_loss=test.loss(loss),
            test_mse=test.mse,
            test_mae=test.mae,
            seconds=self._pace.seconds,
        )

    def _agree(self, figures: EpochFinished) -> EpochFinished:
        """The first process's figures, so that rounding on another card cannot end one process before the others."""
        told = [figures]
        if self._accelerator.num_processes > 1:
            broadcast_object_list(told)
        return told[0]

    def _reason_to_end(self) -> str:
        place, train = self._place, self._config.train
        if self._stopping.exhausted:
            return f"early stopping: no lower validation loss for {self._stopping.waited} epochs"
        if place.epoch >= train.epochs:
            return f"all {train.epochs} epochs are done" if train.epochs > 1 else "the epoch is done"
        return f"{place.step:,} steps are done, as train.max_steps says" if place.step >= self._total else ""

    def _save_step(self) -> Iterator[Record]:
        yield self._save(self._directory.last)
        yield self._save(self._directory.step(self._place.step))
        if self._accelerator.is_main_process:
            self._directory.keep_newest(self._config.run.save_total_limit)

    def _save(self, path: Path, intervals: Intervals | None = None, with_state: bool = True) -> CheckpointSaved:
        if not self._stepper.weights_are_finite():
            raise self._diverged("a weight is no finite number any more")
        state = self._capture() if with_state else None
        if self._accelerator.is_main_process:
            metrics = self._stopping.figures
            with self._stepper.averaged():
                content = Checkpoint.of(self._forecaster, self._data, self._config, metrics, state, intervals)
            save_checkpoint(path, content)
        return CheckpointSaved(path, self._place.step)

    def _capture(self) -> TrainingState:
        return TrainingState(
            step=self._place.step,
            epoch=self._place.epoch,
            position=self._place.position,
            **self._stepper.state(),
            rng=gather_object([capture_random_state()]),
            early_stopping=self._stopping.state(),
            losses=asdict(self._losses),
            seconds=self._pace.seconds,
            finished=self._finished,
        )

    def _name_samples(self, batch: Batch, positions: list[int]) -> str:
        """Where in the data the samples of these places in the batch lie; rows are counted from 1 below the header."""
        rows = self._config.window.seq_len + self._config.window.pred_len
        named = [
            f"'{self._data.table.columns[int(batch.channel_B[place])]}' rows {int(batch.start_B[place]) + 1:,} to "
            f"{int(batch.start_B[place]) + rows:,}"
            for place in positions
        ]
        return f"; samples: {listed(named, 3)}" if named else ""

    def _diverged(self, what: str, where: str = "", step: int | None = None) -> ModelError:
        step = self._place.step if step is None else step
        last = self._directory.newest_checkpoint()
        good = f"the last good checkpoint is '{last}'" if last else "no checkpoint had been written yet"
        return ModelError(
            f"{what} at step {step:,} (epoch {self._place.epoch + 1}){where}",
            f"{good}; try a lower --learning-rate, --clip 1, or --precision bf16 or fp32",
        )
