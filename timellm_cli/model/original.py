"""Checkpoints of the original Time-LLM implementation: its names, sizes and full mapping, turned into ours.

Such a file is the whole state dict, the frozen LLM included, or a fork's dictionary around it (`original_file.py`). The
LLM in it is not used: ours comes from its own folder, and the embedding table in the file is compared with it.
"""

import re
from typing import Any

import torch
from torch import Tensor

from timellm_cli.errors import ModelError
from timellm_cli.model.original_file import OriginalFile
from timellm_cli.model.time_llm import NoLLM, TimeLLM, VocabularyPrototypes, compact_mapping

_NAMES = {
    "patch_embedding.value_embedding.tokenConv.weight": "patch_embedding.convolution.weight",
    "reprogramming_layer.query_projection": "reprogramming.query",
    "reprogramming_layer.key_projection": "reprogramming.key",
    "reprogramming_layer.value_projection": "reprogramming.value",
    "reprogramming_layer.out_projection": "reprogramming.out",
    "output_projection.linear": "head.projection",
    "mapping_layer.bias": "prototypes.bias_U",
}
_FULL_MAPPING = "mapping_layer.weight"
_EMBEDDINGS = ("word_embeddings", "llm_model.embed_tokens.weight", "llm_model.wte.weight")
_LLM_LAYER = re.compile(r"llm_model\.(?:model\.)?(?:layers|h|encoder\.layer)\.(\d+)\.")
_TRAINED = (
    "patch_embedding.value_embedding.tokenConv.weight", _FULL_MAPPING, "mapping_layer.bias",
    *(f"reprogramming_layer.{part}_projection.{kind}" for part in ("query", "key", "value", "out")
      for kind in ("weight", "bias")),
    "output_projection.linear.weight", "output_projection.linear.bias",
)  # fmt: skip
"""The trained tensors in the order of the original's modules, which is that of its optimizer."""
_USUAL_HEADS, _USUAL_STRIDE = 8, 8


def require_original(found: OriginalFile) -> None:
    """Raise ModelError where a file has not the original's tensors."""
    missing = [name for name in (_FULL_MAPPING, *_NAMES) if not any(key.startswith(name) for key in found.state)]
    if missing:
        raise ModelError(
            f"'{found.path}' is no checkpoint of the original Time-LLM: it lacks {', '.join(missing)}",
            f"it holds {len(found.state)} tensors, such as {', '.join(sorted(found.state)[:3])}"
            if found.state
            else "it holds no tensors",
        )


def sizes_of(state: dict[str, Tensor], n_heads: int | None, stride: int | None, seq_len: int | None) -> dict[str, Any]:
    """The settings that the shapes of an original's weights decide, by key.

    Heads and stride leave no trace; the original's default of 8 counts where they are not stated. Of the rows of
    history that fit, `seq_len` is taken where it is one, else the fewest.
    """
    heads, step = n_heads or _USUAL_HEADS, stride or _USUAL_STRIDE
    d_model, patch_len = state["patch_embedding.value_embedding.tokenConv.weight"].shape[:2]
    inner = state["reprogramming_layer.query_projection.weight"].shape[0]
    pred_len, head_inputs = state["output_projection.linear.weight"].shape
    d_ff = inner // heads
    if inner % heads or head_inputs % d_ff:
        raise ModelError(
            f"an attention of width {inner} has not {heads} heads that fit a head of {head_inputs} inputs",
            "say how many it has: --n-heads",
        )
    fewest = (head_inputs // d_ff - 2) * step + patch_len
    fits = seq_len is not None and fewest <= seq_len < fewest + step
    layers = layers_of(state)
    quantization = _quantization_of(state)
    return {
        "window.seq_len": seq_len if fits else fewest,
        "window.pred_len": pred_len,
        "model.d_model": d_model,
        "model.patch_len": patch_len,
        "model.patch_stride": step,
        "model.n_heads": heads,
        "model.d_ff": d_ff,
        "model.num_prototypes": state[_FULL_MAPPING].shape[0],
        **({"llm.layers": layers} if layers else {}),
        **({"llm.quantization": quantization} if quantization else {}),
    }


def layers_of(state: dict[str, Tensor]) -> int:
    """How many layers of its LLM a file holds; 0 where it holds the trained weights alone."""
    return len({found[1] for name in state if (found := _LLM_LAYER.match(name))})


def llm_size_of(state: dict[str, Tensor]) -> tuple[int, int]:
    """Tokens of the vocabulary, and the width."""
    return state[_FULL_MAPPING].shape[1], state["reprogramming_layer.key_projection.weight"].shape[1]


def _quantization_of(state: dict[str, Tensor]) -> str | None:
    names = " ".join(name for name in state if name.startswith("llm_model"))
    if "bitsandbytes__nf4" in names or "quant_map" in names:
        return "nf4"
    return "int8" if ".SCB" in names else "none" if names else None


def read_original(found: OriginalFile, model: TimeLLM) -> dict[str, Tensor]:
    """The trained weights of an original checkpoint under our names, for `model.load_own_state`.

    The full mapping (U x V) becomes compact through the LLM of `model`. Raises ModelError where the file is none
    of the original's or was trained with another LLM, or with another number of its layers.
    """
    path, state = found.path, found.state
    prototypes, llm = model.prototypes, model.llm
    if not isinstance(prototypes, VocabularyPrototypes) or isinstance(llm, NoLLM):
        raise ModelError("an original checkpoint needs its LLM, but llm.name is 'none'", "name the LLM with --llm")
    require_original(found)
    embedding_VE = llm.embedding_VE.detach().cpu().float()
    full_UV = state[_FULL_MAPPING].float()
    if full_UV.shape[1] != len(embedding_VE):
        raise ModelError(
            f"'{path}' was trained with a vocabulary of {full_UV.shape[1]:,} tokens, but this LLM has "
            f"{len(embedding_VE):,}",
            "name the LLM it was trained with: --llm",
        )
    _compare_embeddings(found, embedding_VE)
    layers = layers_of(state)
    if layers not in (0, llm.depth):
        raise ModelError(
            f"'{path}' was trained with {layers} layers of its LLM, but this model has {llm.depth}",
            f"use --layers {layers}",
        )
    weights = {"prototypes.weight_UE": compact_mapping(full_UV, embedding_VE, prototypes.factor_EE.cpu())}
    for name, tensor in state.items():
        if (ours := _our_name(name)) is not None:
            weights[ours] = tensor.float()
    return weights


def moments_of(found: OriginalFile) -> dict[str, dict[str, Tensor]]:
    """Adam's state of each trained tensor under our names; empty where the file's cannot be told apart.

    That of the mapping is left out: Adam's moments of a full mapping say nothing about a compact one.
    """
    states = (found.optimizer or {}).get("state", {})
    present = [name for name in _TRAINED if name in found.state]
    ordered = [states[place] for place in sorted(states)] if all(isinstance(place, int) for place in states) else []
    if len(ordered) != len(present):
        return {}
    moments = {}
    for name, state in zip(present, ordered, strict=True):
        average = state.get("exp_avg") if isinstance(state, dict) else None
        if not isinstance(average, Tensor) or average.shape != found.state[name].shape:
            return {}
        ours = _our_name(name)
        if ours is not None:
            step = torch.as_tensor(state["step"], dtype=torch.float32)
            moments[ours] = {
                "step": step, "exp_avg": average.float(), "exp_avg_sq": state["exp_avg_sq"].float(),
            }  # fmt: skip
    return moments


def _our_name(name: str) -> str | None:
    for theirs, ours in _NAMES.items():
        if name == theirs or name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    return None


def _compare_embeddings(found: OriginalFile, embedding_VE: Tensor) -> None:
    theirs = next((found.state[name] for name in _EMBEDDINGS if name in found.state), None)
    if theirs is None:
        return
    if theirs.shape != embedding_VE.shape or not torch.allclose(theirs.float(), embedding_VE, rtol=0.02, atol=1e-3):
        raise ModelError(
            f"'{found.path}' was trained with another LLM: its word embeddings of {tuple(theirs.shape)} differ from "
            f"this LLM's {tuple(embedding_VE.shape)}",
            "name the LLM it was trained with: --llm",
        )
