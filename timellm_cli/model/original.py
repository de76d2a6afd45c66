"""Checkpoints of the original Time-LLM implementation: its names and its full mapping, turned into ours.

Such a file is the whole state dict, the frozen LLM included, as `torch.save` writes it. The LLM in it is not used: ours
comes from its own folder, and the embedding table in the file is compared with it.
"""

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from timellm_cli.errors import ModelError
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
_EMBEDDING = "word_embeddings"
_LLM_LAYER = re.compile(r"llm_model\.(?:layers|h|encoder\.layer)\.(\d+)\.")
_HINT = "the original saves its state dict with torch.save(model.state_dict(), path)"


def read_original(path: Path, model: TimeLLM) -> dict[str, Tensor]:
    """The trained weights of an original checkpoint under our names, for `model.load_own_state`.

    The full mapping (U x V) becomes compact through the LLM of `model`. Raises ModelError where the file is none
    of the original's or was trained with another LLM, or with another number of its layers.
    """
    prototypes, llm = model.prototypes, model.llm
    if not isinstance(prototypes, VocabularyPrototypes) or isinstance(llm, NoLLM):
        raise ModelError("an original checkpoint needs its LLM, but llm.name is 'none'", "name the LLM with --llm")
    state = _load(path)
    embedding_VE = llm.embedding_VE.detach().cpu().float()
    full_UV = state[_FULL_MAPPING].float()
    if full_UV.shape[1] != len(embedding_VE):
        raise ModelError(
            f"'{path}' was trained with a vocabulary of {full_UV.shape[1]:,} tokens, but this LLM has "
            f"{len(embedding_VE):,}",
            "name the LLM it was trained with: --llm",
        )
    _compare_embeddings(path, state, embedding_VE)
    layers = len({found[1] for name in state if (found := _LLM_LAYER.match(name))})
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


def _load(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(
            f"checkpoint '{path}' not found", "give the path of the original's `checkpoint` file"
        ) from None
    except pickle.UnpicklingError:
        fault = "holds pickled Python objects, which could run code when loaded: refused"
        raise ModelError(f"'{path}' {fault if _is_pickled(path) else 'is no checkpoint'}", _HINT) from None
    except Exception as error:
        raise ModelError(
            f"'{path}' is no checkpoint of plain tensors: {str(error).strip().splitlines()[0]}",
            _HINT,
        ) from None
    if isinstance(state, dict) and isinstance(state.get("module"), dict):
        state = state["module"]  # DeepSpeed, which the original's scripts use, wraps the state dict once.
    if not isinstance(state, dict):
        raise ModelError(f"'{path}' holds a {type(state).__name__}, not a state dict", _HINT)
    state = {name.removeprefix("module."): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    missing = [name for name in (_FULL_MAPPING, *_NAMES) if not any(key.startswith(name) for key in state)]
    if missing:
        raise ModelError(
            f"'{path}' is no checkpoint of the original Time-LLM: it lacks {', '.join(missing)}",
            f"it holds {len(state)} tensors, such as {', '.join(sorted(state)[:3])}"
            if state
            else "it holds no tensors",
        )
    return state


def _is_pickled(path: Path) -> bool:
    """Whether a file begins as a pickle or as an archive of one does."""
    with path.open("rb") as file:
        return file.read(2).startswith((b"PK", b"\x80"))


def _our_name(name: str) -> str | None:
    for theirs, ours in _NAMES.items():
        if name == theirs or name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    return None


def _compare_embeddings(path: Path, state: dict[str, Tensor], embedding_VE: Tensor) -> None:
    theirs = state.get(_EMBEDDING)
    if theirs is None:
        return
    if theirs.shape != embedding_VE.shape or not torch.allclose(theirs.float(), embedding_VE, rtol=0.02, atol=1e-3):
        raise ModelError(
            f"'{path}' was trained with another LLM: its word embeddings of {tuple(theirs.shape)} differ from "
            f"this LLM's {tuple(embedding_VE.shape)}",
            "name the LLM it was trained with: --llm",
        )
