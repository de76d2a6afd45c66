"""The name of a run's folder: a template whose braces hold configuration keys. Light."""

import re

from timellm_cli.config import FIELDS, Config
from timellm_cli.errors import ConfigError, did_you_mean

_KEYS = [key for key in FIELDS if not key.startswith("run.")]
_SHORT = {"llm": "llm.name"}
for _key in _KEYS:
    _SHORT.setdefault(_key.split(".")[1], _key)  # of several sections, the first counts
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{digit}" for port in ("COM", "LPT") for digit in range(1, 10))}
_LONGEST = 200


def run_name(config: Config) -> str:
    """`run.name` with every `{seq_len}` or `{window.seq_len}` replaced, made safe as a folder name everywhere.

    An LLM gives the last part of its name or path. Raises ConfigError for an unknown key, and where nothing is left.
    """
    template = config.run.name
    words = re.findall(r"\{([^{}]*)\}", template)
    unknown = [word for word in words if word not in _SHORT and word not in _KEYS]
    if unknown:
        raise ConfigError(
            f"run.name '{template}' holds the unknown key {{{unknown[0]}}}{did_you_mean(unknown[0], _SHORT)}",
            f"keys are: {', '.join(_SHORT)}; or with their section, such as {{window.seq_len}}",
        )
    filled = re.sub(r"\{([^{}]*)\}", lambda match: _text(config, _SHORT.get(match[1], match[1])), template)
    name = _safe(filled)
    if not name or len(name) > _LONGEST:
        raise ConfigError(
            f"run.name '{template}' gives '{filled}', which is no folder name: it must have 1 to {_LONGEST} characters",
            "choose another --run-name",
        )
    return name


def _text(config: Config, key: str) -> str:
    value = config.values()[key]
    if key == "llm.name":
        return re.split(r"[/\\]", str(value).rstrip("/\\"))[-1]
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _safe(name: str) -> str:
    """Without path separators, characters that Windows forbids, and dots or blanks at the ends."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', "-", name).strip(" .")
    return f"_{name}" if name.split(".")[0].upper() in _RESERVED else name
