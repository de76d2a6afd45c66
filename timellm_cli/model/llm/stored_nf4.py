"""Matrices that bitsandbytes has stored in NF4 (folders named `*-bnb-4bit`), taken over without a 16-bit copy.

A matrix of O x I weights lies there as O * I / 2 bytes, its scales, the 16 values, and a JSON text on how it was
quantised. Scales that are bytes themselves (double quantisation) become float32 here: they are kept by 256 with an
offset a matrix, which would not outlast another order of the rows. The weights stay the same to the last bit, and take
4.5 bits each.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from timellm_cli.errors import ModelError
from timellm_cli.model.llm.choice import NESTED_BLOCK, NF4_BLOCK, heads_of, shape_of_tensor

Read = Callable[[str], Tensor]


def read_nf4(keys: Mapping[str, Any], read: Read, name: str, device: torch.device) -> dict[str, Tensor]:
    """The buffers `packed`, `absmax` and `code` of a stored matrix, its heads in our own order.

    Raises ModelError where it was quantised otherwise than our decoder reads it, or its scales are not finite.
    """
    outputs, inputs = shape_of_tensor(keys, name)
    how = json.loads(bytes(read(f"{name}.quant_state.bitsandbytes__nf4").tolist()))
    wrong = [f"{key} {how.get(key)!r}" for key, value in _EXPECTED.items() if how.get(key, value) != value]
    if wrong:
        raise ModelError(
            f"the LLM's tensor '{name}' is stored with {', '.join(wrong)}", "use --llm-implementation transformers"
        )
    absmax = read(f"{name}.absmax").to(device).view(-1)
    if "nested_offset" in how:
        nested, code = (read(f"{name}.{end}").to(device) for end in ("nested_absmax", "nested_quant_map"))
        absmax = code[absmax.int()] * nested.repeat_interleave(NESTED_BLOCK)[: len(absmax)] + how["nested_offset"]
    if not absmax.isfinite().all():
        raise ModelError(f"the LLM's tensor '{name}' holds values that are not finite (NaN)", "fetch the LLM again")
    tensors = {"packed": read(name).to(device).view(-1), "absmax": absmax.float()}
    heads, kv_heads, _ = heads_of(keys)
    if heads != kv_heads and (".q_proj." in name or ".o_proj." in name):  # whose rows are whole blocks (`choice.py`)
        rows_OXx = {part: tensor.view(outputs, inputs // NF4_BLOCK, -1) for part, tensor in tensors.items()}
        tensors = {part: by_group(keys, name, tensor, NF4_BLOCK).flatten() for part, tensor in rows_OXx.items()}
    return {**tensors, "code": read(f"{name}.quant_map").to(device)}


_EXPECTED = {"quant_type": "nf4", "blocksize": NF4_BLOCK, "nested_blocksize": NESTED_BLOCK}


def join_nf4(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Matrices of one width as one matrix, one above the other."""
    return {
        "packed": torch.cat([part["packed"] for part in parts]),
        "absmax": torch.cat([part["absmax"] for part in parts]),
        "code": parts[0]["code"],
    }


def by_group(keys: Mapping[str, Any], name: str, tensor: Tensor, block: int = 1) -> Tensor:
    """Query heads in the order of `TorchOps.split_heads`: the first of every key-value head, then every second one.

    The second dimension counts `block` columns a step.
    """
    heads, kv_heads, width = heads_of(keys)
    if ".q_proj." in name:
        return tensor.unflatten(0, (kv_heads, -1, width)).transpose(0, 1).reshape(tensor.shape)
    if ".o_proj." in name and heads != kv_heads:
        return tensor.unflatten(1, (kv_heads, -1, width // block)).transpose(1, 2).reshape(tensor.shape)
    return tensor
