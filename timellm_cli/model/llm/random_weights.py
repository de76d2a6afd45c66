"""An LLM's architecture with weights drawn at random, for the question whether pretraining helps.

As in the ablation of Tan et al. (NeurIPS 2024), nothing that was learned remains: the matrices of all layers and the
table of token embeddings, which prototypes are made from, are normal with the deviation of the LLM's own initialiser;
scales are one and biases zero. The tokenizer stays, so that prompts are cut into the same tokens.

A tensor depends on the seed and on its name alone. So it is the same however many layers are used, whichever code runs
the LLM, and on every machine.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from timellm_cli.config import LLMConfig
from timellm_cli.model.llm.choice import shape_of_tensor
from timellm_cli.model.llm.stored_nf4 import Read
from timellm_cli.model.llm.transformers_loading import truncated_config

_SCALE = 0.02
"""Deviation where config.json names none."""


def draw_tensors(keys: Mapping[str, Any], seed: int) -> Read:
    """Like `open_tensors`, of drawn weights in bf16; `keys` are the entries of config.json."""
    scale = keys.get("initializer_range", _SCALE)

    def read(name: str) -> Tensor:
        shape = shape_of_tensor(keys, name)
        if len(shape) > 1:
            return _draw(name, shape, scale, seed)
        return torch.full(shape, float("bias" not in name), dtype=torch.bfloat16)

    return read


@contextmanager
def drawn_llm(llm: LLMConfig, folder: Path, seed: int) -> Iterator[Path]:
    """A folder with config.json and drawn weights of the first `llm.layers` layers of the LLM in `folder`.

    Of any family that transformers knows. It is there while inside. Raises ModelError where config.json is faulty.
    """
    from transformers import AutoModel

    config = truncated_config(llm, folder)
    with torch.random.fork_rng(devices=[]):
        model = AutoModel.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
    scale = getattr(config, "initializer_range", _SCALE)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.copy_(_draw(name, tuple(weight.shape), scale, seed))
    with TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        model.save_pretrained(temporary)
        yield Path(temporary)


def _draw(name: str, shape: tuple[int, ...], scale: float, seed: int) -> Tensor:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    return torch.empty(shape, dtype=torch.bfloat16).normal_(0, scale, generator=generator)
