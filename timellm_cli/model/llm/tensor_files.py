"""The weights in an LLM's folder, each read when it is needed.

safetensors maps its files into memory: only the used rows of an embedding table are read from the disk, and layers that
are left out are never read.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from timellm_cli.errors import ModelError
from timellm_cli.llm_files import TENSORS, TENSORS_INDEX
from timellm_cli.model.llm.choice import heads_of

Read = Callable[[str], Tensor]

LOADING_FAULTS = (OSError, ValueError, RuntimeError, ImportError, KeyError, TypeError, AttributeError, SafetensorError)
"""What safetensors, transformers and json raise where the files of an LLM are missing or broken."""


def unloadable(folder: Path, fault: object) -> ModelError:
    """The error of an LLM whose files are missing or broken."""
    return ModelError(
        f"the LLM in '{folder}' cannot be loaded: {str(fault).strip().splitlines()[0]}",
        "fetch the LLM again, or check that the folder holds config.json and all its safetensors files",
    )


def open_tensors(folder: Path, keys: Mapping[str, Any]) -> Read:
    """A function that gives a Llama-like LLM's tensor, on the CPU and in its stored format, by its published name.

    Names are those of the LLM without a head, such as 'layers.0.mlp.up_proj.weight', whether or not they are stored
    with 'model.' in front. Opening and reading raise ModelError where a file or a tensor is missing or broken, or a
    tensor's shape is not that of config.json (`keys`). Reading a name that no Llama-like LLM has raises KeyError.
    """
    try:
        files = _open_files(folder)
    except LOADING_FAULTS as error:
        raise unloadable(folder, error) from error

    def read(name: str) -> Tensor:
        expected = shape_of_tensor(keys, name)
        if name not in files:
            raise unloadable(folder, f"it has no tensor '{name}'")
        file, stored = files[name]
        try:
            tensor: Tensor = file.get_tensor(stored)
        except LOADING_FAULTS as error:
            raise unloadable(folder, error) from error
        if tuple(tensor.shape) != expected:
            raise unloadable(folder, f"'{name}' is {tuple(tensor.shape)}, but config.json says {expected}")
        return tensor

    return read


def _open_files(folder: Path) -> dict[str, tuple[Any, str]]:
    """The open file of each tensor and the name it is stored under, by its name without 'model.'."""
    if (folder / TENSORS).is_file():
        file = safe_open(folder / TENSORS, framework="pt")
        stored = dict.fromkeys(file.keys(), file)
    else:
        file_of: dict[str, str] = json.loads((folder / TENSORS_INDEX).read_text(encoding="utf-8"))["weight_map"]
        shards = {name: safe_open(folder / name, framework="pt") for name in sorted(set(file_of.values()))}
        stored = {name: shards[shard] for name, shard in file_of.items()}
    return {name.removeprefix("model."): (file, name) for name, file in stored.items()}


def shape_of_tensor(keys: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """A tensor's shape according to config.json. Raises KeyError for a name that no Llama-like LLM has."""
    hidden, middle = keys["hidden_size"], keys["intermediate_size"]
    heads, kv_heads, width = heads_of(keys)
    outputs = {"q": heads * width, "k": kv_heads * width, "v": kv_heads * width}
    shapes = {
        "embed_tokens.weight": (keys["vocab_size"], hidden),
        "norm.weight": (hidden,),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        **{f"self_attn.{part}_proj.weight": (outputs[part], hidden) for part in "qkv"},
        **{f"self_attn.{part}_proj.bias": (outputs[part],) for part in "qkv"},
        "self_attn.o_proj.weight": (hidden, heads * width),
        "mlp.gate_proj.weight": (middle, hidden),
        "mlp.up_proj.weight": (middle, hidden),
        "mlp.down_proj.weight": (hidden, middle),
    }
    return shapes[name.split(".", 2)[2] if name.startswith("layers.") else name]
