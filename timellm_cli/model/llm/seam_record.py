"""What comparing our decoder with transformers' own code found for an LLM (see `seam.py`), in a small file. Light."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timellm_cli.files import prepared_directory, replacing
from timellm_cli.llm_files import fingerprint_llm

TOLERANCE = 1e-4
"""Largest relative difference, in float32, between two readings that compute the same."""

_FORMAT = 1
"""To be raised whenever our decoder computes differently: then every LLM is compared again."""


_NAME = "seam.json"


def recorded_difference(fingerprint: str, keys: Mapping[str, Any]) -> float | None:
    """The relative difference found for the LLM of this fingerprint and config.json; None before its first start."""
    return _read(_path(fingerprint), keys)


def recorded_verdict(folder: Path, keys: Mapping[str, Any]) -> str | None:
    """Why our decoder is not to read the LLM in a folder, as an earlier start found; None if it may or was not tried.

    The LLM's own files are looked into only where one with this config.json did come out otherwise.
    """
    found = [_read(path, keys) for path in prepared_directory().glob(f"*/{_NAME}")]
    if not any(difference is not None and why_not_equal(difference) for difference in found):
        return None
    difference = recorded_difference(fingerprint_llm(folder), keys)
    return None if difference is None else why_not_equal(difference)


def _read(path: Path, keys: Mapping[str, Any]) -> float | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if (record["format"], record["config"]) != (_FORMAT, _hash(keys)):
            return None
        return float(record["difference"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def record_difference(fingerprint: str, keys: Mapping[str, Any], difference: float) -> None:
    """Keep what was found. Raises OSError where the disk refuses."""
    path = _path(fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"format": _FORMAT, "config": _hash(keys), "difference": difference}
    with replacing(path) as file:
        file.write(json.dumps(record).encode())


def why_not_equal(difference: float) -> str | None:
    """Why our decoder is not to read an LLM for which this difference was found, or None if it may."""
    if difference <= TOLERANCE:
        return None
    if math.isinf(difference):
        return "it has weights whose names our decoder does not know"
    return f"its first layer comes out {difference:.0e} away from transformers'"


def _path(fingerprint: str) -> Path:
    return prepared_directory() / fingerprint / _NAME


def _hash(keys: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:16]
