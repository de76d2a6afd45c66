"""The training loop: steps, epochs, scores and checkpoints, as records. It prints nothing.

A run can stop after any step and continue later as if it had not stopped. What a step depends on either follows from
the configuration and the number of the step (the order of the samples, the learning rate) or is in the checkpoint.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from timellm_cli.config import Config
from timellm_cli.counts import count_total_steps, count_updates, steps_per_epoch
from timellm_cli.data.batch import Batch
from timellm_cli.data.windows import ForecastData
from timellm_cli.errors import ModelError, SaidElsewhere
from timellm_cli.evaluation.bands import Intervals, ValidationErrors
from timellm_cli.evaluation.score import Scores, score
from timellm_cli.model.runner import Runner, free_gpu_memory
from timellm_cli.planning.memory_bill import Bill
from timellm_cli.processes.group import Group, ProcessLostError
from timellm_cli.training.checkpoint import Checkpoint, save_checkpoint
from timellm_cli.training.interruption import Interruption
from timellm_cli.training.loader import Loader
from timellm_cli.training.measure import PeakMemory, StepTimes
from timellm_cli.training.name_samples import name_samples
from timellm_cli.training.optimizer import Schedule
from timellm_cli.training.process_lost import SavingStream, process_lost
from timellm_cli.training.records import (
    BatchHalved,
    BestSoFar,
    CheckpointSaved,
    EpochFinished,
    NoImprovement,
    Record,
    RunFinished,
    RunInterrupted,
    RunStarted,
    ScoringStarted,
    StepFinished,
    StepLogged,
)
from timellm_cli.training.run_directory import RunDirectory
from timellm_cli.training.state import RunState, TrainingState, capture_random_state, restore_random_state
from timellm_cli.training.step import NotFiniteError, StepResult, TrainingStep


class _Stopped(Exception):
    """The user has requested a stop, and the step is finished."""


@dataclass(frozen=True, eq=False)
class _StartedStep:
    """A step that was started, whose loss is not read yet. `step` and `position` count it in.

    `settled` is the state of the run before the update that this step belongs to.
    """

    step: int
    position: int
    learning_rate: float
    batch: Batch
    result: StepResult
    settled: RunState


class Trainer:
    """Trains the model of a runner; iterate over `run()`."""

    def __init__(
        self,
        config: Config,
        data: ForecastData,
        runner: Runner,
        directory: RunDirectory,
        interruption: Interruption | None = None,
        on_scored: Callable[[int], None] = lambda _: None,
        scoring_batch: int = 32,
        bill: Bill | None = None,
        group: Group | None = None,
    ) -> None:
        """`on_scored` is called with the number of samples scored since its last call. `scoring_batch` samples are
        scored at a time, which changes no figure. `bill` is the memory bill of a step. `group` are the processes that
        share the run: all take every step, only the first one writes. Raises DataError for too few samples.
        """
        train = config.train
        self._config, self._data, self._runner, self._directory = config, data, runner, directory
        self._interruption, self._on_scored = interruption or Interruption(), on_scored
        self._scoring_batch, self._group = scoring_batch, group or Group()
        self._group.is_stopping = lambda: self._interruption.requested
        samples = data.training_windows()
        self._steps = steps_per_epoch(len(samples), train)
        self._total = count_total_steps(self._steps, train)
        self._schedule = Schedule(
            train.schedule,
            train.learning_rate,
            total_updates=count_updates(self._steps, self._total, train),
            updates_per_epoch=count_updates(self._steps, self._steps, train),
        )
        offset_C = torch.from_numpy(data.scaler.mean_C / data.scaler.std_C).float()
        self.training_step = TrainingStep(train, self._schedule, runner, self._group, offset_C)
        self._loader = Loader(
            samples, train, runner.encoder, pin=self.training_step.runs_ahead, place=self._group.place
        )
        scored = len(data.windows("val")) + len(data.windows("test"))
        self._times = StepTimes(scored_batches=scored / train.batch)
        self._memory = PeakMemory(runner.device, bill)
        self.state = self._settled = RunState()
        self._saving = SavingStream(runner.device)
        self.scores_start = config.model.shortcut == "fitted"
        """Whether what training starts from is scored, as epoch 0."""

    def resume(self, saved: TrainingState) -> None:
        """Continue from a checkpoint's state. The model has its weights already."""
        self.state = saved.run
        self.state.finished = saved.run.finished and self._reason_to_end()
        self.training_step.load_state_dict(saved.step)
        restore_random_state(saved.random)

    def run(self) -> Iterator[Record]:
        """Train to the end, or until a stop is requested.

        Raises ModelError for a loss that is not finite, and where a checkpoint cannot be written.
        """
        state = self.state
        if not state.finished:
            yield RunStarted(state.step, state.epoch, self._config.train.epochs, self._steps, self._total)
        try:
            if self.scores_start and not state.step and not state.best_figures:
                yield from self._score_untrained()
            while not state.finished:
                yield from self._train_epoch()
                yield from self._memory.measure(self._times.steps, state.step)
                yield from self._score_epoch()
        except _Stopped:
            yield self._save(self._directory.last)
            yield RunInterrupted(state.step, self._directory.last)
            return
        except ProcessLostError as error:
            yield from self._save_settled()
            raise process_lost(error, self._group, self._directory, self._settled.step) from None
        epochs = math.ceil(state.step / self._steps)
        yield RunFinished(state.finished, state.step, epochs, state.best_figures, state.seconds, self._memory.measured)

    def _score_untrained(self) -> Iterator[Record]:
        """Epoch 0: what the model starts from, which training has to improve upon."""
        yield from self._score_epoch()
        free_gpu_memory()  # what scoring took is no part of a step
        self._memory.restart()

    def _train_epoch(self) -> Iterator[Record]:
        state, save_steps = self.state, self._config.run.save_steps
        stop = min(self._steps, self._total - (state.step - state.position))
        self._runner.model.train()
        unread: _StartedStep | None = None
        begun = time.perf_counter()
        with closing(self._loader.batches(state.epoch, range(state.position, stop))) as batches:
            for batch in batches:
                started = self._start(batch, stop)
                if unread:
                    yield from self._report(unread)
                seconds = time.perf_counter() - begun
                self._times.add_step(seconds)
                state.seconds += seconds
                read, unread, saves = unread, started, save_steps and state.step % save_steps == 0
                if saves or not self.training_step.runs_ahead:
                    yield from self._report(started)
                    read, unread = started, None
                if saves:
                    yield from self._save_step()
                if self._must_stop(read):
                    if unread:
                        yield from self._report(unread)
                    raise _Stopped
                begun = time.perf_counter()
        if unread:
            yield from self._report(unread)
            if self._must_stop(unread):
                raise _Stopped
        self._settled = state

    def _must_stop(self, read: _StartedStep | None) -> bool:
        """Whether to stop after the newest step. Processes stop together: a step that all have read decides."""
        if self._group.size == 1:
            return self._interruption.requested
        return read is not None and read.result.stop_requested

    def _start(self, batch: Batch, stop: int) -> _StartedStep:
        state, accumulate = self.state, self._config.train.accumulate
        if state.position == state.update_start:
            self._settled = replace(state)  # what the weights are of, until the update
        last = min(state.update_start + accumulate, stop) - 1
        update = state.epoch * self._schedule.updates_per_epoch + state.position // accumulate
        share = 1 / (last - state.update_start + 1)
        try:
            completes, stops = state.position == last, self._interruption.requested
            result = self.training_step.start(batch, update, share, step=state.step, completes=completes, stops=stops)
        except ProcessLostError:
            if self.training_step.runs_ahead:  # a step that nobody has read may have used a sum that was broken off
                self._settled = RunState()
            raise
        state.step, state.position = state.step + 1, state.position + 1
        if state.position > last:
            state.update_start = state.position
        rate = self._schedule.learning_rate(update)
        return _StartedStep(state.step, state.position, rate, batch, result, self._settled)

    def _report(self, started: _StartedStep) -> Iterator[Record]:
        """Wait for a step's loss, and record it."""
        state, times, run = self.state, self._times, self._config.run
        loss = self._read(started)
        if started.result.halved_to is not None:
            yield BatchHalved(started.step, "step", started.result.halved_to)
        started_more = started.step <= self._settled.step and self._settled is not state
        counting = [state, self._settled] if started_more else [state]
        for one in counting:
            one.add_loss(loss)
        epoch, rate = state.epoch + 1, started.learning_rate
        speed = self._config.train.batch / times.per_step if times.per_step else 0.0
        left = times.seconds_left(self._total - started.step, math.ceil(self._total / self._steps) - state.epoch)
        yield StepFinished(started.step, epoch, started.position, loss, rate, speed, left)
        if started.step % run.log_steps == 0 or started.step == self._total:
            busy = times.share_of(self.training_step.gpu_time.take()) if self.training_step.runs_ahead else None
            mean, *_ = [one.mean_logged_loss() for one in counting]
            yield StepLogged(started.step, epoch, mean, rate, speed, left, state.seconds, busy)

    def _read(self, started: _StartedStep) -> float:
        try:
            return started.result.loss()
        except NotFiniteError as error:
            own = self._group.place.part(self._config.train.batch)
            samples = name_samples(self._data, started.batch, error.samples, own)
            raise self._not_finite(f"the loss became {error.loss}", samples, started.step) from None
        except ProcessLostError:
            self._settled = started.settled  # the GPU waits within this update, and has begun no later one
            raise

    def _score_epoch(self) -> Iterator[Record]:
        state = self.state
        scores: dict[str, Scores] = {}
        errors = ValidationErrors(self._data, group=self._group)
        begun = time.perf_counter()
        for split in ("val", "test"):
            yield ScoringStarted(state.scored_epoch, split, len(self._data.windows(split)))
            before = self._runner.samples_at_once
            scores[split] = self._score(split, errors.add if split == "val" else None)
            if (now := self._runner.samples_at_once) is not None and now != before:
                yield BatchHalved(state.step, "scoring", now)
        seconds = time.perf_counter() - begun
        self._times.add_scoring(seconds)
        state.seconds += seconds
        figures = self._figures(scores["val"], scores["test"])
        if not math.isfinite(figures.val_loss):
            raise self._not_finite(f"the validation loss became {figures.val_loss}")
        yield figures
        intervals = errors.intervals()
        before_loss = state.best_loss
        known = {name: value for name, value in asdict(figures).items() if value is not None}
        improved = state.add_score(figures.val_loss, known)
        if state.position == self._steps:
            state.start_epoch()
        state.finished = self._reason_to_end()
        if improved:
            yield BestSoFar(figures.epoch, before_loss, figures.val_loss)
            yield self._save(self._directory.best, intervals, with_state=False)
        else:
            yield NoImprovement(state.epochs_waited, self._config.train.patience, before_loss)
        yield self._save(self._directory.last, intervals)

    def _score(self, split: str, on_errors: Callable[[Batch, Tensor], None] | None) -> Scores:
        def on_batch(samples: int) -> None:
            self._on_scored(samples * self._group.size)
            if self._interruption.requested and self._group.size == 1:
                raise _Stopped

        with self.training_step.averaged():
            given = (self._runner, self._data, split, self._scoring_batch)
            scores = score(*given, on_batch=on_batch, on_errors=on_errors, group=self._group)
        if self._group.size > 1 and self._group.any(self._interruption.requested):
            raise _Stopped
        return scores

    def _figures(self, val: Scores, test: Scores) -> EpochFinished:
        loss = self._config.train.loss
        return EpochFinished(
            epoch=self.state.scored_epoch,
            step=self.state.step,
            train_loss=self.state.epoch_loss / self.state.position if self.state.position else None,
            val_loss=val.loss(loss),
            val_mse=val.mse,
            val_mae=val.mae,
            test_loss=test.loss(loss),
            test_mse=test.mse,
            test_mae=test.mae,
            seconds=self.state.seconds,
        )

    def _reason_to_end(self) -> str:
        """Why the run is finished, or an empty text."""
        state, train = self.state, self._config.train
        if 0 < train.patience <= state.epochs_waited:
            return f"early stopping: no lower validation loss for {state.epochs_waited} epochs"
        if state.epoch >= train.epochs:
            return f"all {train.epochs} epochs are done" if train.epochs > 1 else "the epoch is done"
        return f"{state.step:,} steps are done, as train.max_steps says" if state.step >= self._total else ""

    def _save_step(self) -> Iterator[Record]:
        yield self._save(self._directory.last)
        yield self._save(self._directory.step(self.state.step))
        if self._group.place.is_first:
            self._directory.keep_newest(self._config.run.save_total_limit)

    def _save_settled(self) -> Iterator[Record]:
        """Save the state of the last whole update, which the weights still have, after a process was lost."""
        if self._settled.step:
            self.state = self._settled
            with self._saving.beside_a_waiting_gpu():
                self.training_step.drop_begun_update()
                saved = self._save(self._directory.last)
            yield saved

    def _save(self, path: Path, intervals: Intervals | None = None, with_state: bool = True) -> CheckpointSaved:
        if not self.training_step.weights_are_finite():
            raise self._not_finite("a weight is no longer a finite number")
        saved = None
        if with_state:
            saved = TrainingState(self.state, self.training_step.state_dict(), capture_random_state())
        if not self._group.place.is_first:
            return CheckpointSaved(path, self.state.step)
        with self.training_step.averaged():
            figures, identity = self.state.best_figures, self.state.training_id
            content = Checkpoint.of(self._runner, self._data, self._config, figures, saved, intervals, identity)
        save_checkpoint(path, content)
        return CheckpointSaved(path, self.state.step)

    def _not_finite(self, what: str, where: str = "", step: int | None = None) -> ModelError | SaidElsewhere:
        if not self._group.place.is_first:
            return SaidElsewhere()
        last = self._directory.newest_checkpoint()
        good = f"the last good checkpoint is '{last}'" if last else "no checkpoint had been written yet"
        return ModelError(
            f"{what} at step {step or self.state.step:,} (epoch {self.state.epoch + 1}){where}",
            f"{good}; try a lower --learning-rate, --clip 1, or --precision bf16 or fp32",
        )
