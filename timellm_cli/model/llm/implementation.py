"""Which code runs an LLM: the one rule that loading, planning and `inspect` share. Light."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timellm_cli.config import LLMConfig
from timellm_cli.llm_files import has_tensors, has_weights
from timellm_cli.model.llm.decoder_support import why_not_decoder
from timellm_cli.model.llm.seam_record import recorded_verdict


def why_transformers(llm: LLMConfig, keys: Mapping[str, Any], folder: Path | None) -> str | None:
    """Why the LLM with this config.json is run by transformers, or None where our own decoder runs it.

    `folder` is where its files are, None before they are fetched. Weights that are not there yet, and an LLM that was
    not yet compared with transformers' reading, are taken to be as they should.
    """
    if llm.implementation == "transformers":
        return "llm.implementation says so"
    reason = why_not_decoder(keys, llm.quantization)
    if reason or folder is None:
        return reason
    if has_weights(folder) and not has_tensors(folder):
        return "it has no model.safetensors, whole or in shards"
    return recorded_verdict(folder, keys)
