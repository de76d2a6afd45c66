"""Which way a run takes through the LLM, told before any weights are there. Light."""

from dataclasses import dataclass
from typing import Literal

from timellm_cli.config import Config, LLMConfig
from timellm_cli.llm_files import NO_LLM, find_llm
from timellm_cli.model.llm.implementation import why_transformers
from timellm_cli.planning.llm_shape import LLMShape, look_up_keys

Implementation = Literal["decoder", "transformers_two_passes", "transformers_one_pass", "transformers", "none"]


@dataclass(frozen=True)
class RunPath:
    """What runs the LLM (None for an LLM that nobody knows), and why, where it is not our own decoder.

    In two passes the prompt is read apart from the patches; of an LLM whose size is not known the passes are not known
    either. `captured`: steps are replayed as a CUDA graph. `recompute`: layers are computed again in the backward pass.
    """

    implementation: Implementation | None
    reason: str | None
    captured: bool
    recompute: bool


def find_path(config: Config, shape: LLMShape | None) -> RunPath:
    """The path of a settled configuration. Raises ModelError where the LLM's config.json cannot be read."""
    reason, hardware = why_no_decoder(config.llm), config.hardware
    implementation: Implementation | None
    if reason is None:
        implementation = "decoder"
    elif config.llm.name == NO_LLM:
        implementation = "none"
    elif shape is not None:
        implementation = "transformers_two_passes" if shape.causal else "transformers_one_pass"
    else:
        implementation = "transformers" if look_up_keys(config.llm.name) else None
    ours = reason is None
    captured = ours and hardware.device == "cuda" and hardware.capture == "on"
    return RunPath(implementation, reason, captured, ours and hardware.recompute == "on")


def why_no_decoder(llm: LLMConfig) -> str | None:
    """Why our own decoder does not run the LLM, None where it does. Raises ModelError for an unreadable config.json."""
    if llm.name == NO_LLM:
        return "there is no LLM"
    keys = look_up_keys(llm.name)
    return "the LLM is not known" if keys is None else why_transformers(llm, keys, find_llm(llm.name))
