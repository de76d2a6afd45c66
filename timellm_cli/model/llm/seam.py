"""Whether our decoder reads an LLM as transformers does, tried on its first layer before it is trusted with the rest.

A family's name does not say all: a config.json may hold a switch that came after this code was written. Two prompts of
unequal length are read in front of a few patches, by the first layer and the last norm in float32 on the CPU.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from timellm_cli.config import LLMConfig
from timellm_cli.data.batch import PromptTokens
from timellm_cli.model.llm.decoder_loading import build_decoder
from timellm_cli.model.llm.tensor_files import LOADING_FAULTS, Read, unloadable
from timellm_cli.model.llm.transformers_llm import read_config

_HEAD, _TAIL, _PATCHES, _PADDING = 8, 24, 8, 5


@torch.no_grad()
def seam_difference(keys: Mapping[str, Any], read: Read, folder: Path) -> float:
    """How far the two readings are apart, relative to their size; infinite if transformers' has other weights.

    Raises ModelError where transformers finds a fault in config.json.
    """
    try:
        theirs = _first_layer_in_transformers(folder)
    except LOADING_FAULTS as error:
        raise unloadable(folder, error) from error
    one_layer = LLMConfig(layers=1, quantization="none")
    ours = build_decoder(keys, read, 1, one_layer, torch.float32, torch.device("cpu"))
    if not _give_weights(theirs, read):
        return math.inf
    ids = torch.arange(_HEAD + 2 * _TAIL + _PATCHES) * 7919 % keys["vocab_size"]
    tails_BK = ids[_HEAD:-_PATCHES].view(2, _TAIL)
    mask_BK = torch.ones_like(tails_BK)
    mask_BK[1, :_PADDING] = 0
    prompt = PromptTokens(tails_BK, mask_BK, tuple(ids[:_HEAD].tolist()))
    patches_BPE = ours.embedding(ids[-_PATCHES:]).expand(2, -1, -1)
    whole = prompt.joined()
    seen_BS = torch.cat([whole.mask_BK, whole.mask_BK.new_ones(2, _PATCHES)], dim=1)
    expected_BPE = theirs(
        inputs_embeds=torch.cat([ours.embedding(whole.ids_BK), patches_BPE], dim=1),
        attention_mask=seen_BS,
        position_ids=(seen_BS.cumsum(dim=1) - 1).clamp_min(0),
    ).last_hidden_state[:, -_PATCHES:]
    return float((ours(prompt, patches_BPE) - expected_BPE).norm() / expected_BPE.norm())


def _first_layer_in_transformers(folder: Path) -> nn.Module:
    """Of random weights (drawn without disturbing the caller's seed), with next to no vocabulary."""
    from transformers import AutoModel

    config = read_config(folder)
    config.num_hidden_layers, config.vocab_size, config.pad_token_id = 1, 1, None
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1]
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    return model.eval()


def _give_weights(model: nn.Module, read: Read) -> bool:
    """Put the LLM's own weights in, but for the vocabulary. False if we know none of a name that it has."""
    for name, weight in model.state_dict().items():
        if name == "embed_tokens.weight":
            continue
        try:
            weight.copy_(read(name))
        except KeyError:
            return False
    return True
