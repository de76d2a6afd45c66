"""What reads prompt and patches: our decoder where it knows the LLM, else the LLM's own code in transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from timellm_cli.config import LLMConfig
from timellm_cli.console import print_note
from timellm_cli.errors import ModelError
from timellm_cli.llm_files import read_llm_config
from timellm_cli.model.llm.choice import why_transformers
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.llm.decoder_loading import build_decoder
from timellm_cli.model.llm.prepared import Prepared
from timellm_cli.model.llm.random_weights import draw_tensors, drawn_llm
from timellm_cli.model.llm.seam import seam_difference
from timellm_cli.model.llm.seam_record import record_difference, recorded_difference, why_not_equal
from timellm_cli.model.llm.tensor_files import Read, open_tensors
from timellm_cli.model.llm.transformers_llm import DTYPES, TransformersBackbone, load_with_transformers
from timellm_cli.model.time_llm import NoLLM

Backbone = Decoder | TransformersBackbone | NoLLM


def load_backbone(
    llm: LLMConfig, precision: str, folder: Path, device: torch.device, prepared: Prepared, seed: int | None = None
) -> Decoder | TransformersBackbone:
    """Read the first `llm.layers` layers of the LLM in `folder`, or draw them under a seed, and freeze them.

    `precision` is fp32, bf16 or fp16; with nf4 or int8 it is the format of the arithmetic. What is `prepared` of the
    LLM is used and added to. Raises ModelError where the files are missing or broken.
    """
    keys = read_llm_config(folder)
    if why_transformers(llm, keys, folder):
        return _load_with_transformers(llm, precision, folder, device, seed)
    available = keys["num_hidden_layers"]
    layers = available if llm.layers == "all" else llm.layers
    if layers > available:
        raise ModelError(
            f"llm.layers is {layers}, but {llm.name} has {available} layers", f"use --layers {available} or 'all'"
        )
    read = open_tensors(folder, keys) if seed is None else draw_tensors(keys, seed)
    if reason := why_not_equal(_difference(keys, read, folder, prepared.fingerprint)):
        print_note(f"transformers reads {llm.name} in place of our own decoder: {reason}")
        return _load_with_transformers(llm, precision, folder, device, seed)
    return build_decoder(keys, read, layers, llm, DTYPES[precision], device, prepared)


def _load_with_transformers(
    llm: LLMConfig, precision: str, folder: Path, device: torch.device, seed: int | None
) -> TransformersBackbone:
    if seed is None:
        return load_with_transformers(llm, precision, folder, device)
    with drawn_llm(llm, folder, seed) as drawn:
        return load_with_transformers(llm, precision, drawn, device)


def _difference(keys: Mapping[str, Any], read: Read, folder: Path, fingerprint: str) -> float:
    """Between our decoder and transformers' code: measured at the first start with an LLM, and remembered."""
    difference = recorded_difference(fingerprint, keys)
    if difference is None:
        difference = seam_difference(keys, read, folder)
        try:
            record_difference(fingerprint, keys, difference)
        except OSError as error:
            print_note(f"the check of {folder.name} will be repeated: {error.strerror or error}")
    return difference
