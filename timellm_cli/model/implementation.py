"""Which code runs an LLM: the one rule that loading, planning and `inspect` share. Light."""

from collections.abc import Mapping
from typing import Any

from timellm_cli.config import LLMConfig
from timellm_cli.model.decoder_support import why_not_decoder


def why_transformers(llm: LLMConfig, keys: Mapping[str, Any]) -> str | None:
    """Why the LLM with this config.json is run by transformers, or None where our own decoder runs it."""
    return "llm.implementation says so" if llm.implementation == "transformers" else why_not_decoder(keys)
