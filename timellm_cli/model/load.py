"""Builds the model of a configuration: the frozen LLM, the tokeniser, and fresh trained parts around them."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from timellm_cli.config import Config
from timellm_cli.counts import count_patches
from timellm_cli.datasets import description_of
from timellm_cli.errors import ModelError
from timellm_cli.llm_files import NO_LLM, find_llm, fingerprint_llm, read_llm_config, stamp_llm
from timellm_cli.model.llm.choice import CONTEXT_MULTIPLE, choose, find_fault
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.llm.decoder_loading import build_decoder, open_tensors
from timellm_cli.model.llm.prepared import PreparedFiles
from timellm_cli.model.llm.random_weights import draw_tensors, drawn_llm
from timellm_cli.model.llm.transformers_llm import TransformersLLM
from timellm_cli.model.llm.transformers_loading import DTYPES, load_with_transformers
from timellm_cli.model.prompt import PromptText
from timellm_cli.model.prompt_tokens import NoPromptEncoder, PromptEncoder, load_tokenizer
from timellm_cli.model.runner import MatmulPrecision, Runner
from timellm_cli.model.time_llm import FreePrototypes, NoLLM, TimeLLM, VocabularyPrototypes, vocabulary_factor

OnNote = Callable[[str], None]

_SPARE_TOKENS = 32
"""By how many tokens prompts may be longer than those that readings of the LLM are compared on."""


def load_model(config: Config, device: torch.device, on_note: OnNote = lambda _: None) -> Runner:
    """The model of a resolved configuration (no 'auto' left) with fresh trained weights on `device`, ready to run.

    The weights are drawn from torch's global generator: seed it before. `on_note` is called with a sentence where
    something unusual is done. Raises ModelError where the LLM is absent, broken or does not fit the configuration.
    """
    if config.llm.name == NO_LLM:
        width = config.model.attention_width
        prototypes = FreePrototypes(config.model.num_prototypes, width)
        return Runner(
            TimeLLM(config.window, config.model, NoLLM(width), prototypes).to(device), NoPromptEncoder(), device
        )
    folder = find_llm(config.llm.name)
    if folder is None:
        raise ModelError(f"LLM '{config.llm.name}' is not on this computer", f"timellm fetch {config.llm.name}")
    seed = config.train.seed if config.llm.weights == "random" else None
    fingerprint = fingerprint_llm(folder, seed)
    keep_files = seed is None and config.hardware.prepared
    prepared = PreparedFiles(fingerprint, stamp_llm(folder), on_note) if keep_files else None
    llm = load_llm(config, folder, device, prepared, on_note)
    if config.model.d_ff > llm.hidden_size:
        raise ModelError(
            f"model.d_ff {config.model.d_ff} is more than the hidden size {llm.hidden_size} of {config.llm.name}",
            "the head reads the first d_ff dimensions of the LLM's output: use a smaller --d-ff",
        )
    encoder = _make_encoder(config, folder, llm, on_gpu=device.type == "cuda")
    if isinstance(llm, TransformersLLM):
        longest = min(encoder.longest + _SPARE_TOKENS, encoder.max_tokens)
        llm.choose_reading(longest, len(encoder.prefix), encoder.patches, prepared)
    llm.set_prefix(encoder.prefix)
    factor_EE = _vocabulary_factor(llm.embedding_VE, prepared)
    words = VocabularyPrototypes(factor_EE, config.model.num_prototypes, len(llm.embedding_VE))
    model = TimeLLM(config.window, config.model, llm, words)
    for name, module in model.named_children():
        if name != "llm":
            module.to(device)
    if device.type == "cuda":
        model.reprogramming.attention_dtype = llm.dtype
        torch.cuda.empty_cache()  # loading and quantising leave fragments that a step would hardly fit into
    # An LLM in 16 bits rounds what it reads to 8 or 11 bits: the parts around it may multiply with 11 (TF32).
    matmul_precision: MatmulPrecision = (
        "highest" if config.train.precision == "fp32" or device.type == "cpu" else "high"
    )
    captures = isinstance(llm, Decoder) and config.hardware.capture == "on" and device.type == "cuda"
    return Runner(
        model, encoder, device, captures=captures, matmul_precision=matmul_precision, llm_fingerprint=fingerprint
    )


def load_llm(
    config: Config,
    folder: Path,
    device: torch.device,
    prepared: PreparedFiles | None,
    on_note: OnNote = lambda _: None,
) -> Decoder | TransformersLLM:
    """The first `llm.layers` layers of the LLM in `folder`, frozen, from its files or drawn under `train.seed`.

    Quantised layers are read from `prepared` and written there. Raises ModelError where files are missing or broken.
    """
    llm, precision = config.llm, config.train.precision
    assert precision != "auto"
    seed = config.train.seed if llm.weights == "random" else None
    keys = read_llm_config(folder)
    if fault := find_fault(llm, keys, folder):
        raise ModelError(f"the LLM in '{folder}' cannot be loaded: {fault.message}", fault.remedy)
    if choose(llm, keys, folder).code == "transformers":
        if seed is None:
            return TransformersLLM(load_with_transformers(llm, precision, folder, device))
        with drawn_llm(llm, folder, seed) as drawn:
            return TransformersLLM(load_with_transformers(llm, precision, drawn, device))
    available = keys["num_hidden_layers"]
    layers = available if llm.layers == "all" else llm.layers
    if layers > available:
        raise ModelError(
            f"llm.layers is {layers}, but {llm.name} has {available} layers", f"use --layers {available} or 'all'"
        )
    read = open_tensors(folder) if seed is None else draw_tensors(keys, seed)
    kernels = config.hardware.kernels
    decoder = build_decoder(keys, read, layers, llm, DTYPES[precision], device, prepared, kernels, on_note)
    decoder.recompute = config.hardware.recompute == "on"
    return decoder


def _make_encoder(config: Config, folder: Path, llm: Decoder | TransformersLLM, on_gpu: bool) -> PromptEncoder:
    text = PromptText(config.prompt, config.window, description_of(config.data, config.prompt.description))
    patches = count_patches(config.window.seq_len, config.model.patch_len, config.model.patch_stride)
    multiple = CONTEXT_MULTIPLE if on_gpu else 1
    return PromptEncoder(
        text,
        load_tokenizer(folder),
        llm.max_positions - patches,
        patches,
        multiple,
        config.hardware.keep_prefix,
        len(llm.embedding_VE),
    )


def _vocabulary_factor(embedding_VE: Tensor, prepared: PreparedFiles | None) -> Tensor:
    """The factor of the LLM's vocabulary, computed at the first start with the LLM and read at the next ones."""
    if prepared is None:
        return vocabulary_factor(embedding_VE)
    name = f"factor-{str(embedding_VE.dtype).removeprefix('torch.')}"
    found = (prepared.read(name) or {}).get("factor_EE")
    if found is not None and found.shape == (embedding_VE.shape[1],) * 2:
        return found
    factor_EE = vocabulary_factor(embedding_VE)
    prepared.write(name, {"factor_EE": factor_EE})
    return factor_EE
