"""`timellm train`: from a configuration to a folder with checkpoints, metrics and curves."""

from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from rich.text import Text

from timellm_cli.commands.fetch import console_reporter
from timellm_cli.commands.together import meet, require_same_settings, start_alike
from timellm_cli.commands.warm_start import ScalerChoice, choose_scaler
from timellm_cli.config import Config
from timellm_cli.console import doing, err, out, print_json, print_lines, print_note, say
from timellm_cli.counts import count_run, steps_per_epoch
from timellm_cli.data.ahead import TrainedChannels
from timellm_cli.data.day_axis import Clock
from timellm_cli.data.guess import settle
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.datasets import data_path, known_dataset
from timellm_cli.errors import ConfigError, DataError, ExitCode, Interrupted, ModelError, SaidElsewhere
from timellm_cli.model.closed_form import start_from_closed_form
from timellm_cli.model.day_reader import add_day_map, read_days
from timellm_cli.model.load import load_model
from timellm_cli.model.runner import Runner, gpu_memory_errors
from timellm_cli.planning.automatic import scoring_batch
from timellm_cli.planning.days_case import DaysCase
from timellm_cli.planning.hardware import Machine, look_at_machine
from timellm_cli.planning.memory_bill import predict
from timellm_cli.planning.readiness import Check, require_ready, resolve_here
from timellm_cli.planning.shared import part_of_batch, whole_batch
from timellm_cli.processes.group import Group, ProcessLostError
from timellm_cli.processes.place import find_place
from timellm_cli.report.progress import memory_reader, watch
from timellm_cli.report.trackers import Tracker, TrackerName, require_tracker
from timellm_cli.report.train_summary import end_record, loading_line, print_end, print_start, quote
from timellm_cli.report.training_log import MetricsLog, draw_curves, read_metrics
from timellm_cli.settings import Settings
from timellm_cli.training.checkpoint import Checkpoint, clock_of, load_checkpoint, load_runner
from timellm_cli.training.interruption import Interruption, stopped_before_training
from timellm_cli.training.loop import Trainer
from timellm_cli.training.records import EpochFinished, RunFinished, RunInterrupted
from timellm_cli.training.resume import continue_config, find_checkpoint, load_resumable, require_same_data
from timellm_cli.training.run_directory import RunDirectory, locked
from timellm_cli.training.state import RunState, seed_everything
from timellm_cli.training.warm_start import warm_config


@dataclass(frozen=True)
class Shown:
    """What goes to stdout at the end of a run, and the tracker that gets its figures."""

    results: Literal["tables", "json", "nothing"] = "tables"
    report_to: TrackerName | None = None


TABLES = Shown()


def run(
    settings: Settings,
    *,
    resume: str | None,
    offline: bool,
    machine: Machine | None = None,
    start: Path | None = None,
    scaler: ScalerChoice = "auto",
    shown: Shown = TABLES,
) -> RunFinished:
    """Train, and leave everything in the run's folder; returns how it ended.

    `start` is a checkpoint whose weights a new training begins with, and `scaler` whose scaler it has. `machine` is as
    it was before this process took any of its memory; by default it is looked at now. `shown` says what goes to stdout
    and to a tracker. Raises Interrupted once an interrupted run is saved.
    """
    if shown.report_to:
        require_tracker(shown.report_to)
    place = find_place()
    if place.size == 1:
        return _run(settings, Group(), resume, offline, machine, start, scaler, shown)
    group = meet(place, settings.config.hardware.device)
    try:
        finished = _run(settings, group, resume, offline, machine, start, scaler, shown)
    except ProcessLostError as error:
        if not place.is_first:
            raise SaidElsewhere from None
        raise ModelError(
            f"one of the {place.size} processes has ended or does not answer, before training began: {error}",
            "what the others print says why",
        ) from None
    group.close()
    return finished


def _run(
    settings: Settings,
    group: Group,
    resume: str | None,
    offline: bool,
    machine: Machine | None,
    start: Path | None,
    scaler: ScalerChoice,
    shown: Shown,
) -> RunFinished:
    path = find_checkpoint(resume, settings.config) if resume else None
    checkpoint = load_resumable(path) if path else None
    if resume:  # else it was done before anything heavy was imported
        settings = settle(settings, strict=checkpoint is None)
    config = continue_config(settings, checkpoint, path) if checkpoint and path else settings.config
    source = load_checkpoint(start) if start else None
    if source and start:
        config = warm_config(settings, source, start)
        settings = replace(settings, config=config)

    machine = (machine or look_at_machine()).of_several(group.size)
    config, checks = _resolve(config, machine, offline, group)
    data = _load_data(config, checkpoint, checks, clock_of(checkpoint or source))
    require_ready(checks)
    directory = RunDirectory(path.parent) if path else RunDirectory.of(settings.config)
    if group.place.is_first:
        directory.create()
    with locked(directory.path) if group.place.is_first else nullcontext():
        if not group.place.is_first:
            pass
        elif not resume:
            refuse_to_overwrite(directory)
        elif checkpoint is None:
            say(f"Nothing is saved in '{directory.path}' yet: starting from the beginning")
        with gpu_memory_errors():
            with stopped_before_training(), doing(loading_line(config.llm)):
                runner = _load_model(config, data, checkpoint or source)
            if source:
                _take_channels(runner, data, source)
                data = choose_scaler(data, source, runner, scaler, scoring_batch(config, machine))
            elif config.model.shortcut == "fitted" and checkpoint is None:
                with stopped_before_training(), doing("Fitting the linear map"):
                    start_from_closed_form(runner, data)
            start_alike(group, data, runner)
            if group.place.is_first:
                _announce(config, data, runner, directory, settings.notes)
                _prepare_folder(directory, config, checkpoint, path)
            return _train(
                config, data, runner, directory, checkpoint, machine, group, shown, is_warm=source is not None
            )


def _resolve(config: Config, machine: Machine, offline: bool, group: Group) -> tuple[Config, list[Check]]:
    """The configuration of all processes, and what is missing here. The first process of a machine downloads."""
    if group.size > 1:
        require_same_settings(group, config)
    own, is_local_first = part_of_batch(config, group.size), group.place.local_rank == 0
    resolved, checks = resolve_here(own, machine, offline, console_reporter()) if is_local_first else (own, [])
    text = group.text_of_first(whole_batch(resolved, config, group.size).model_dump_json())
    if not is_local_first:
        _, checks = resolve_here(own, machine, True, console_reporter())
    if group.size == 1:
        return resolved, checks
    return Config.model_validate_json(text), checks


def _load_data(config: Config, checkpoint: Checkpoint | None, checks: list[Check], clock: Clock | None) -> ForecastData:
    """Read the table. Raises one error that names what is wrong with it among everything else that is missing."""
    try:
        with doing("Reading the data"):
            data = load_data(config, clock=clock)
        if checkpoint:
            require_same_data(data, checkpoint)
            if not checkpoint.scaler.equals(data.scaler):  # of a training that began with another checkpoint's
                data = load_data(config, checkpoint.scaler, checkpoint.columns, checkpoint.ids, clock)
        steps_per_epoch(len(data.training_windows()), config.train)
    except DataError as error:
        fault = Check("data", False, error.message, error.hint)
        require_ready([check if check.name != "data" or not check.ok else fault for check in checks])
        raise
    return data


def refuse_to_overwrite(directory: RunDirectory) -> None:
    """Raise ConfigError where a new run would overwrite another one's checkpoints."""
    if directory.holds_a_run():
        raise ConfigError(
            f"'{directory.path}' already holds a run, and a new one would overwrite it",
            "--resume auto continues it; --run-name NAME gives the new run a folder of its own",
        )


def _load_model(config: Config, data: ForecastData, checkpoint: Checkpoint | None) -> Runner:
    device = torch.device(config.hardware.device)
    seed_everything(config.train.seed)
    if checkpoint:
        runner = load_runner(checkpoint, config, device, print_note)
    else:
        runner = load_model(config, device, print_note)
    if data.ahead and runner.days is None:
        add_day_map(runner, data, config, print_note)
    elif data.ahead and data.ahead.lines:
        read_days(runner, data.ahead.lines.lines, config, print_note)
    seed_everything(config.train.seed)  # so that dropout does not depend on how the weights came about
    return runner


def _take_channels(runner: Runner, data: ForecastData, source: Checkpoint) -> None:
    """Give the day map of another training the channels of these data; new ones take the mean over those it had."""
    if runner.model.day_map is not None:
        trained = TrainedChannels.of(source.columns, source.ids, source.config.data.features)
        numbers_C = trained.numbers(data.table.columns, data.table.series.ids)[-data.windows("train").channels :]
        before, count = runner.model.day_map.sizes.rows, len(numbers_C)
        runner.model.day_map.take_channels(numbers_C)
        if runner.model.day_map.sizes.rows == 1 < before:
            print_note(f"{count:,} channels are too many for weights of the days by channel: all take their mean")


def _announce(
    config: Config, data: ForecastData, runner: Runner, directory: RunDirectory, notes: tuple[str, ...]
) -> None:
    for note in notes:
        print_note(note)
    for warning in data.warnings:
        if warning in data.table.csv.notes:  # how the text was read
            print_note(warning)
        else:
            print_lines(err, Text.assemble(("warning: ", "bold yellow"), warning))
    prompt = runner.encode(data.training_windows().batch([0])).prompt
    assert prompt is not None
    print_start(
        err,
        config,
        count_run(data.table.series, len(data.table.columns), known_dataset(config.data), config),
        device=torch.cuda.get_device_name() if runner.device.type == "cuda" else "CPU",
        prompt_tokens=prompt.length,
        trainable=sum(weight.numel() for weight in runner.model.trainable_weights().values()),
        folder=directory.path,
    )


def _prepare_folder(
    directory: RunDirectory, config: Config, checkpoint: Checkpoint | None, resumed: Path | None
) -> None:
    """Remove from the folder what the run will write again after the checkpoint `resumed`."""
    directory.sweep()
    directory.write_config(config)
    if checkpoint is None or checkpoint.training is None or resumed is None:
        MetricsLog(directory.metrics).start_after(0, scored=False)
        return
    state = checkpoint.training.run
    _note_later_best(directory, state)
    MetricsLog(directory.metrics).start_after(state.step, scored=state.scored)
    if removed := directory.remove_after(state.step):
        say(f"Removed {', '.join(path.name for path in removed)}: from after the checkpoint, to be written again")
    directory.make_last(resumed)


def _note_later_best(directory: RunDirectory, state: RunState) -> None:
    """Say where best.pt is of an epoch after the checkpoint that the run continues from."""
    epochs = [line for line in read_metrics(directory.metrics) if line["event"] == "epoch"]
    later = [line for line in epochs if line["step"] > state.step and line["val_loss"] < state.best_loss]
    if later and directory.best.is_file():
        epoch = min(later, key=lambda line: line["val_loss"])["epoch"]
        say(f"best.pt is of epoch {epoch}, after the checkpoint; it stays until an epoch here is better")


def _train(
    config: Config,
    data: ForecastData,
    runner: Runner,
    directory: RunDirectory,
    checkpoint: Checkpoint | None,
    machine: Machine,
    group: Group,
    shown: Shown,
    is_warm: bool,
) -> RunFinished:
    on_gpu = runner.device.type == "cuda"
    progress = watch(err, memory_reader(f"GPU-{torch.cuda.get_device_properties().uuid}" if on_gpu else None))
    interruption = Interruption(progress.stopping)
    own = part_of_batch(config, group.size)
    scoring = scoring_batch(own, machine, in_training=True)
    bill = predict(own, machine, _days_of(runner, config))
    trainer = Trainer(config, data, runner, directory, interruption, progress.scored, scoring, bill, group)
    trainer.scores_start |= is_warm
    if checkpoint and checkpoint.training:
        trainer.resume(checkpoint.training)
    if not group.place.is_first:
        return _follow(trainer, interruption)
    metrics = MetricsLog(directory.metrics)
    tracker = Tracker(shown.report_to, directory.path.resolve().name, config.values(), directory.path)
    with interruption.listening(), progress, closing(tracker):
        for record in trainer.run():
            metrics.write(record)
            progress.show(record)
            tracker.show(record)
            if isinstance(record, EpochFinished | RunInterrupted | RunFinished):
                draw_curves(directory.metrics, directory.curves, directory.path.resolve().name, config.train.loss)
    if isinstance(record, RunFinished):
        if shown.results == "tables":
            print_end(out, record, config, directory.path, data_path(config.data))
        elif shown.results == "json":
            print_json(end_record(record, directory.path))
        return record
    assert isinstance(record, RunInterrupted)
    raise Interrupted(
        f"stopped after step {record.step:,}; everything up to it is saved in '{directory.path}'",
        f"continue with: timellm train --resume {quote(record.path)}",
    )


def _days_of(runner: Runner, config: Config) -> DaysCase | None:
    """The day map as the memory bill counts it."""
    day_map = runner.model.day_map
    if day_map is None:
        return None
    return DaysCase.built(config, day_map.sizes, len(day_map.lines_LK), reads=runner.lines_read > 0)


def _follow(trainer: Trainer, interruption: Interruption) -> RunFinished:
    """Train as one of several processes. The first one writes and prints."""
    with interruption.listening():
        *_, last = trainer.run()
    if isinstance(last, RunFinished):
        return last
    raise SaidElsewhere(ExitCode.INTERRUPTED)
