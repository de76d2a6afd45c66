"""Loading an LLM with transformers, and the trial of it that `inspect` makes in a process of its own.

transformers draws at random what it does not find. Here nothing may be: what is missing is refused by name. A trial
does the same with tensors of the same names and shapes that have no values, so it takes no memory and reads no weights.
"""

import json
import sys
from contextlib import suppress
from logging import CRITICAL, getLogger
from pathlib import Path
from typing import Any

import torch
from torch import nn

from timellm_cli.config import LLMConfig
from timellm_cli.errors import ModelError, TimellmError, listed
from timellm_cli.llm_files import read_headers, read_llm_config, unloadable, weight_files
from timellm_cli.model.llm.choice import quantization_of
from timellm_cli.model.llm.decoder_loading import require_finite

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_KINDS = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NOT_QUANTISED = ["dt_proj"]
"""A small matrix of Mamba and its kin that transformers multiplies with by itself, so it has to stay as it is."""


def load_with_transformers(llm: LLMConfig, precision: str, folder: Path, device: torch.device) -> nn.Module:
    """The first `llm.layers` layers of the LLM in `folder`.

    `precision` is fp32, bf16 or fp16; with nf4 or int8 it is the format of the arithmetic. Raises ModelError where the
    files are missing or broken, where a tensor would be left at random or is not finite, and where Time-LLM cannot use
    the LLM.
    """
    model = _read(llm, DTYPES[precision], folder, device, quantization_config=_quantization(llm, precision, folder))
    for name, weight in model.named_parameters():
        require_finite(name, weight)
    _keep_backward_on_cpu(model)
    return model


def _read(llm: LLMConfig, dtype: torch.dtype, folder: Path, device: torch.device, **given: Any) -> nn.Module:
    from transformers import MODEL_MAPPING, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity(CRITICAL)
    # It logs an error where an optional package that would speed up 4-bit arithmetic on a CPU is absent.
    getLogger("bitsandbytes").setLevel(CRITICAL)
    config = truncated_config(llm, folder)
    try:
        trial = "state_dict" in given
        model, found = (MODEL_MAPPING[type(config)] if trial else AutoModel).from_pretrained(
            None if trial else folder,
            config=config,
            dtype=dtype,
            device_map={"": device},
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are refused by name below
            output_loading_info=True,
            **given,
        )
    except Exception as error:  # each family has checks of its own, which raise any error
        raise unloadable(folder, error) from error
    _require_whole(folder, model, found)
    _require_usable(llm, model)
    return model


def _require_whole(folder: Path, model: Any, found: dict[str, Any]) -> None:
    """Raise ModelError where a tensor was not found, and so was drawn at random.

    A pooler makes one vector of a whole text for classifiers; no hidden state depends on it.
    """
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    lacking = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
    if lacking:
        others = sorted(found["unexpected_keys"])
        instead = f"; it has {listed(others, 2)}, which it does not need" if others else ""
        raise unloadable(folder, f"it has no tensor {listed(lacking, 2)}{instead}")
    if wrong := sorted(found["mismatched_keys"]):
        name, stored, expected = wrong[0]
        raise unloadable(folder, f"'{name}' is {tuple(stored)}, but config.json says {tuple(expected)}")


def _require_usable(llm: LLMConfig, model: Any) -> None:
    """Raise ModelError where the LLM reads tokens of another width than its layers have."""
    width, hidden = model.get_input_embeddings().weight.shape[1], model.config.hidden_size
    if width != hidden:
        raise ModelError(
            f"the embeddings of {llm.name} are {width} wide, but its layers {hidden}: patches are put in at one width",
            "choose an LLM whose embeddings are as wide as its layers",
        )


def _keep_backward_on_cpu(model: nn.Module) -> None:
    """bitsandbytes repacks 4-bit weights for CPUs with AVX512-BF16 at the first call without autograd, which our prompt
    pass is. The repacked form has no backward pass, and gradients through it would silently be wrong.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            vars(module)["support_avx512bf16_for_cpu"] = False


def read_config(folder: Path) -> Any:
    """An LLM's config.json as transformers understands it. Raises ModelError where it does not."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each family has checks of its own, which raise any error
        if "auto_map" in read_llm_config(folder):
            raise ModelError(
                f"the LLM in '{folder}' comes with code of its own, which is never run",
                "choose one that transformers knows",
            ) from None
        raise unloadable(folder, " ".join(str(error).split())) from error


def truncated_config(llm: LLMConfig, folder: Path) -> Any:
    """The config.json of the first `llm.layers` layers.

    Raises ModelError where there are fewer, or where patches do not fit into an LLM of this kind.
    """
    config = read_config(folder)
    if config.is_encoder_decoder:
        raise ModelError(
            f"{llm.name} is an encoder-decoder, and patches can go through one of them only",
            "choose an encoder-only or decoder-only LLM",
        )
    if config.get_text_config() is not config or not isinstance(getattr(config, "hidden_size", None), int):
        raise ModelError(f"{llm.name} reads more than text, and its text part is not read alone", "choose a text LLM")
    available = config.num_hidden_layers
    if llm.layers == "all":
        return config
    if llm.layers > available:
        raise ModelError(
            f"llm.layers is {llm.layers}, but {llm.name} has {available} layers", f"use --layers {available} or 'all'"
        )
    config.num_hidden_layers = llm.layers
    for name in ("layer_types", "attention_layers", "mlp_layer_types"):
        if kinds := getattr(config, name, None):
            with suppress(AttributeError):  # where the kinds follow from the number of layers
                setattr(config, name, kinds[: llm.layers])
    return config


def _quantization(llm: LLMConfig, precision: str, folder: Path) -> Any:
    if llm.quantization == "none" or quantization_of(read_llm_config(folder)):
        return None
    from transformers import BitsAndBytesConfig

    if llm.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=NOT_QUANTISED)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        llm_int8_skip_modules=NOT_QUANTISED,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=llm.double_quant,
        bnb_4bit_compute_dtype=DTYPES[precision],
        bnb_4bit_quant_storage=torch.uint8,
    )


def try_loading(llm: LLMConfig, folder: Path) -> None:
    """Raise ModelError where `load_with_transformers` would refuse the LLM; no weights are read."""
    from transformers import AutoModel

    meta = torch.device("meta")
    if llm.weights == "random":
        with meta:
            _require_usable(llm, AutoModel.from_config(truncated_config(llm, folder), trust_remote_code=False))
        return
    tensors = {
        name: torch.empty(stored.shape, dtype=_KINDS.get(stored.dtype, torch.uint8), device=meta)
        for name, stored in read_headers(folder).items()
    }
    for path in weight_files(folder) if not tensors else ():
        try:
            tensors |= torch.load(path, map_location=meta, weights_only=True)
        except Exception as error:  # a damaged pickle can raise almost anything
            raise unloadable(folder, error) from error
    _read(llm, torch.float32, folder, meta, state_dict=tensors)


if __name__ == "__main__":
    try:
        try_loading(LLMConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
        print(json.dumps(None))
    except TimellmError as refusal:
        print(json.dumps([refusal.message, refusal.hint]))
