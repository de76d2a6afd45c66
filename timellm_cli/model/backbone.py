"""What reads prompt and patches: our decoder where it knows the LLM, else the LLM's own code in transformers."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from timellm_cli.config import LLMConfig
from timellm_cli.errors import ModelError
from timellm_cli.llm_files import read_llm_config, weight_files
from timellm_cli.model.decoder import Decoder
from timellm_cli.model.decoder_files import build_decoder
from timellm_cli.model.decoder_support import why_not_decoder
from timellm_cli.model.no_llm import NoLLM
from timellm_cli.model.transformers_backbone import DTYPES, TransformersBackbone, load_with_transformers

Backbone = Decoder | TransformersBackbone | NoLLM


def load_backbone(llm: LLMConfig, precision: str, folder: Path, device: torch.device) -> Decoder | TransformersBackbone:
    """Read the first `llm.layers` layers of the LLM in `folder` and freeze them.

    `precision` is fp32, bf16 or fp16; with nf4 or int8 it is the format of the arithmetic. Raises ModelError where the
    files are missing or broken.
    """
    keys = read_llm_config(folder)
    if llm.implementation == "transformers" or why_not_decoder(keys):
        return load_with_transformers(llm, precision, folder, device)
    available = keys["num_hidden_layers"]
    layers = available if llm.layers == "all" else llm.layers
    if layers > available:
        raise ModelError(
            f"llm.layers is {layers}, but {llm.name} has {available} layers", f"use --layers {available} or 'all'"
        )
    return build_decoder(keys, _reader(folder), layers, llm, DTYPES[precision], device)


def _reader(folder: Path) -> Callable[[str], Tensor]:
    files = [safe_open(path, framework="pt") for path in weight_files(folder)]
    places = {name.removeprefix("model."): (file, name) for file in files for name in file.keys()}  # noqa: SIM118

    def read(name: str) -> Tensor:
        file, stored = places[name]
        tensor: Tensor = file.get_tensor(stored)
        return tensor

    return read
