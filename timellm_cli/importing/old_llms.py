"""Which LLM the original's `--llm_model`, `--llm_model_path` and `--llm_dim` mean. Light."""

import re
from pathlib import Path

from timellm_cli.errors import ModelError, listed
from timellm_cli.llm_files import find_llm
from timellm_cli.planning.llm_shape import hub_id_of, known_llms, look_up_llm

_NAMES = {"LLAMA": "huggyllama/llama-7b", "GPT2": "openai-community/gpt2", "BERT": "google-bert/bert-base-uncased"}
"""What the original itself loads."""


def name_llm(family: str, folder: str, width: int | None) -> tuple[str | None, str]:
    """The name for `--llm`, and what to say behind it; None, and why, where no LLM can be named.

    A folder that is not here counts as the well-known LLM of that name.
    """
    if folder:
        last = re.split(r"[/\\]", folder.rstrip("/\\"))[-1]
        if find_llm(folder) is not None:
            return folder, ""
        known = next((name for name in known_llms() if name.rpartition("/")[2].lower() == last.lower()), None)
        if known:
            return known, f" ('{folder}' is not here; this is the LLM of that name on the hub)"
        missing = "" if Path(folder).exists() or not _is_path(folder) else f" (no folder '{folder}' is here)"
        return folder, missing
    if family.upper() in _NAMES:
        return _NAMES[family.upper()], ""
    wanted = re.sub(r"[^a-z]", "", family.lower())
    of_family = [name for name in known_llms() if wanted and wanted in re.sub(r"[^a-z]", "", name.lower())]
    of_width = [name for name in of_family if width is None or _width(name) == width]
    if of_width:
        return hub_id_of(of_width[0]), "" if width is None else f", whose width is {width:,}"
    return None, f"no LLM is known for {family}: name one with --llm, such as --llm Qwen/Qwen2.5-3B"


def say_width(name: str | None, stated: str) -> tuple[bool, str]:
    """Whether a stated width is not the LLM's, and the sentence about it."""
    width = _width(name) if name else None
    if width is None:
        return False, "the width is read from the LLM's config.json"
    if str(width) == stated:
        return False, f"the width is read from the LLM's config.json, and is {width:,} as stated"
    others = [other for other in known_llms() if str(_width(other)) == stated]
    those = f"; {stated} is that of {listed(others, 3)}" if others else ""
    return True, f"{name} has a width of {width:,}, not {stated}{those}; timellm reads it from config.json"


def say_layers(name: str | None, stated: str) -> str:
    """The sentence about more layers than the LLM has; empty where it has so many."""
    try:
        shape = look_up_llm(name) if name else None
    except ModelError:
        return ""
    if shape is None or not stated.isdecimal() or int(stated) <= shape.layers:
        return ""
    return f"{name} has {shape.layers} layers, not {stated}: all of them are used (the original makes up the rest)"


def _width(name: str) -> int | None:
    try:
        shape = look_up_llm(name)
    except ModelError:
        return None
    return shape.hidden if shape else None


def _is_path(text: str) -> bool:
    return "\\" in text or text.count("/") != 1 or text.startswith((".", "~"))
