"""Which code path a run takes through its LLM, and whether it will load, known before any weights are read. Light."""

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Literal

from timellm_cli.config import Config, LLMConfig
from timellm_cli.files import prepared_directory, replacing
from timellm_cli.llm_files import NO_LLM, find_llm, fingerprint_llm
from timellm_cli.model.llm.choice import Fault, choose
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


def try_loading(llm: LLMConfig, folder: Path) -> tuple[Fault | None, str]:
    """What transformers would refuse about an LLM that it runs, and a remark on how that was found out.

    transformers builds the model without values in a process of its own, which takes some seconds; the answer is kept
    under the LLM's fingerprint and the version of transformers. Raises ModelError where a file is damaged.
    """
    try:
        name = f"trial-{llm.layers}-{llm.weights}-{llm.quantization}-{version('transformers')}.json"
    except ImportError:
        return None, "not checked: transformers is not installed"
    kept = prepared_directory() / fingerprint_llm(folder, 0 if llm.weights == "random" else None) / name
    with suppress(OSError, ValueError, TypeError):
        answer = json.loads(kept.read_text(encoding="utf-8"))
        return (Fault(*answer) if answer else None), ""
    start = perf_counter()
    answer = run_trial(llm, folder)
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as file:
            file.write(json.dumps(answer).encode())
    seconds = perf_counter() - start
    return (Fault(*answer) if answer else None), f"transformers tried it in {seconds:.0f} s, once and for all"


def run_trial(llm: LLMConfig, folder: Path) -> list[str] | None:
    """Message and remedy of what transformers refuses, None where it loads the LLM; in a process of its own."""
    module = "timellm_cli.model.llm.transformers_loading"
    command = [sys.executable, "-m", module, llm.model_dump_json(), str(folder)]
    tried = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    lines = tried.stdout.splitlines()
    if tried.returncode == 0 and lines:
        answer: list[str] | None = json.loads(lines[-1])
        return answer
    last = (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1]
    return [f"the LLM in '{folder}' cannot be loaded: {last}", "choose another LLM"]
