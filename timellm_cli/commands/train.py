"""`timellm train`: from a configuration to a folder with checkpoints, metrics and curves."""

from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.text import Text

from timellm_cli.commands.fetch import console_reporter
from timellm_cli.config import Config
from timellm_cli.console import err, out
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.datasets import data_path, known_dataset
from timellm_cli.errors import ConfigError, DataError, Interrupted
from timellm_cli.geometry import count_run, steps_per_epoch
from timellm_cli.model.load import TimeLLM, load_forecaster
from timellm_cli.planning.automatic import scoring_batch
from timellm_cli.planning.hardware import Machine, look_at_machine
from timellm_cli.planning.memory_bill import Bill, predict
from timellm_cli.planning.readiness import Check, require_ready, settle_here
from timellm_cli.report.progress import PlainProgress, memory_reader, watch
from timellm_cli.report.train_summary import print_end, print_start, quote
from timellm_cli.report.training_log import MetricsLog, draw_curves, read_metrics
from timellm_cli.settings import Settings
from timellm_cli.training.accelerator import gpu_memory_faults, make_accelerator, seed_everything
from timellm_cli.training.checkpoint import Checkpoint, TrainingState, restore_forecaster
from timellm_cli.training.interruption import Interruption, stopped_before_training
from timellm_cli.training.loop import Trainer
from timellm_cli.training.records import EpochFinished, Record, RunFinished, RunInterrupted
from timellm_cli.training.resume import continue_config, find_checkpoint, load_resumable, require_same_data
from timellm_cli.training.run_directory import RunDirectory, locked


def run(settings: Settings, *, resume: str | None, offline: bool, machine: Machine | None = None) -> Record:
    """Train, and leave everything in the run's folder; returns how it ended.

    `machine` is as it was before this process took any of its memory; by default it is looked at now.
    Raises Interrupted once an interrupted run is saved, in the main process; others return.
    """
    path = find_checkpoint(resume, settings.config) if resume else None
    checkpoint = load_resumable(path) if path else None
    config = continue_config(settings, checkpoint, path) if checkpoint and path else settings.config

    machine = machine or look_at_machine()
    config, checks = settle_here(config, machine, offline, console_reporter())
    data = _load_data(config, checkpoint, checks)
    require_ready(checks)
    directory = RunDirectory(path.parent) if path else RunDirectory.of(settings.config)
    accelerator = make_accelerator(config)

    directory.create()
    with locked(directory.path) if accelerator.is_main_process else nullcontext():
        if not resume:
            refuse_to_overwrite(directory)
        elif checkpoint is None:
            err.print(Text(f"Nothing is saved in '{directory.path}' yet: starting from the beginning"), soft_wrap=True)
        with gpu_memory_faults():
            with stopped_before_training():
                forecaster = _load_forecaster(config, checkpoint, accelerator)
            if accelerator.is_main_process:
                _announce(config, data, forecaster, accelerator, directory)
                _prepare_folder(directory, config, checkpoint, path)
            scored_at_a_time = scoring_batch(config, machine, in_training=True)
            predicted = predict(config, machine)
            ending = _train(config, data, forecaster, accelerator, directory, checkpoint, scored_at_a_time, predicted)
    if accelerator.is_main_process:
        _conclude(ending, directory, config)
    return ending


def _load_data(config: Config, checkpoint: Checkpoint | None, checks: list[Check]) -> ForecastData:
    """Read the table. Raises one error that names what is wrong with it among everything else that is missing."""
    try:
        data = load_data(config)
        if checkpoint:
            require_same_data(data, checkpoint)
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
            "--resume auto goes on with it; --run-name NAME gives the new run a folder of its own",
        )


def _load_forecaster(config: Config, checkpoint: Checkpoint | None, accelerator: Accelerator) -> TimeLLM:
    seed_everything(config.train.seed)
    if checkpoint is None:
        forecaster = load_forecaster(config, accelerator.device)
    else:
        forecaster = restore_forecaster(checkpoint, config, accelerator.device)
    seed_everything(config.train.seed, accelerator.process_index)
    return forecaster


def _announce(
    config: Config, data: ForecastData, forecaster: TimeLLM, accelerator: Accelerator, directory: RunDirectory
) -> None:
    table = data.table
    for warning in data.warnings:
        err.print(Text.assemble(("warning: ", "bold yellow"), warning), soft_wrap=True)
    first = data.training_windows()[0].history_T
    device = accelerator.device
    print_start(
        err,
        config,
        count_run(len(table.timestamps), len(table.columns), known_dataset(config.data), config),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        prompt_tokens=forecaster.encoder.encode(first[None]).length,
        trainable=sum(weight.numel() for weight in forecaster.trainable_weights().values()),
        folder=directory.path,
    )


def _prepare_folder(
    directory: RunDirectory, config: Config, checkpoint: Checkpoint | None, resumed: Path | None
) -> None:
    """Cut what lies in the folder to what the run goes on from, the file `resumed`."""
    state = checkpoint.training if checkpoint else None
    directory.sweep()
    directory.write_config(config)
    if state:
        _tell_of_later_best(directory, state)
    MetricsLog(directory.metrics).start_after(state.step if state else 0, scored=state is not None and state.scored)
    if state is None or resumed is None:
        return
    if removed := directory.remove_after(state.step):
        names = ", ".join(path.name for path in removed)
        err.print(Text(f"Removed {names}: from beyond the checkpoint, to be written anew"), soft_wrap=True)
    directory.make_last(resumed)


def _tell_of_later_best(directory: RunDirectory, state: TrainingState) -> None:
    """From an older checkpoint on, best.pt may be of an epoch that this run has not come to."""
    best = state.early_stopping["best_loss"]
    epochs = [line for line in read_metrics(directory.metrics) if line["event"] == "epoch"]
    later = [line for line in epochs if line["step"] > state.step and line["val_loss"] < best]
    if later and directory.best.is_file():
        epoch = min(later, key=lambda line: line["val_loss"])["epoch"]
        err.print(
            Text(f"best.pt is of epoch {epoch}, beyond the checkpoint; it stays until an epoch here is a new best"),
            soft_wrap=True,
        )


def _train(
    config: Config,
    data: ForecastData,
    forecaster: TimeLLM,
    accelerator: Accelerator,
    directory: RunDirectory,
    checkpoint: Checkpoint | None,
    scored_at_a_time: int,
    predicted: Bill | None,
) -> Record:
    device = accelerator.device
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else None
    progress = watch(err, memory_reader(uuid))
    interruption = Interruption(progress.stopping)
    trainer = Trainer(
        config, data, forecaster, accelerator, directory, interruption, progress.scored, scored_at_a_time, predicted
    )
    if checkpoint and checkpoint.training:
        trainer.resume(checkpoint.training)
    with interruption.listening():
        if not accelerator.is_main_process:
            return list(trainer.run())[-1]
        with progress:
            return _watch(trainer, progress, directory, config)


def _watch(trainer: Trainer, progress: PlainProgress, directory: RunDirectory, config: Config) -> Record:
    metrics = MetricsLog(directory.metrics)
    for record in trainer.run():
        metrics.write(record)
        progress.show(record)
        if isinstance(record, EpochFinished | RunInterrupted | RunFinished):
            draw_curves(directory.metrics, directory.curves, directory.path.resolve().name, config.train.loss)
    return record


def _conclude(ending: Record, directory: RunDirectory, config: Config) -> None:
    if isinstance(ending, RunInterrupted):
        raise Interrupted(
            f"stopped after step {ending.step:,}; everything up to it is saved in '{directory.path}'",
            f"go on with: timellm train --resume {quote(ending.path)}",
        )
    if isinstance(ending, RunFinished):
        print_end(out, ending, config, directory.path, data_path(config.data))
