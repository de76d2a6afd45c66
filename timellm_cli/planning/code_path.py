"""Which code path a run takes through its LLM, known before any weights are here. Light."""

from dataclasses import dataclass
from typing import Literal

from timellm_cli.config import Config, LLMConfig
from timellm_cli.llm_files import NO_LLM, find_llm
from timellm_cli.model.llm.choice import choose
from timellm_cli.planning.llm_shape import LLMShape, look_up_keys

Code = Literal["decoder", "transformers_two_passes", "transformers_one_pass", "transformers", "none"]


@dataclass(frozen=True)
class CodePath:
    """What runs the LLM (None for an unknown LLM); `reason` says why it is not our own decoder, None where it is.

    In two passes, transformers reads the prompt apart from the patches; where the LLM's size is not known, the passes
    are not known either. `captured`: steps are replayed as a CUDA graph. `recompute`: layers are computed again in the
    backward pass.
    """

    code: Code | None
    reason: str | None
    captured: bool
    recompute: bool


def find_code_path(config: Config, shape: LLMShape | None) -> CodePath:
    """The code path of a resolved configuration. Raises ModelError where the LLM's config.json cannot be read."""
    reason, hardware = why_not_decoder(config.llm), config.hardware
    if reason is None:
        captured = hardware.device == "cuda" and hardware.capture == "on"
        return CodePath("decoder", None, captured, hardware.recompute == "on")
    code: Code | None
    if config.llm.name == NO_LLM:
        code = "none"
    elif shape is not None:
        code = "transformers_two_passes" if shape.causal else "transformers_one_pass"
    else:
        code = "transformers" if look_up_keys(config.llm.name) else None
    return CodePath(code, reason, captured=False, recompute=False)


def why_not_decoder(llm: LLMConfig) -> str | None:
    """Why our own decoder does not run the LLM, None where it does. Raises ModelError for an unreadable config.json."""
    if llm.name == NO_LLM:
        return "there is no LLM"
    keys = look_up_keys(llm.name)
    return "the LLM is not known" if keys is None else choose(llm, keys, find_llm(llm.name)).reason or None
