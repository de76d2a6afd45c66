"""What comparing our decoder with transformers' own code found for an LLM (see `seam.py`), in a small file. Light."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timellm_cli.files import replacing
from timellm_cli.paths import prepared_directory

TOLERANCE = 1e-4
"""Largest relative difference, in float32, between two readings that compute the same."""

_FORMAT = 1
"""To be raised whenever our decoder computes differently: then every LLM is compared again."""


def recorded_difference(fingerprint: str, keys: Mapping[str, Any]) -> float | None:
    """The relative difference found for the LLM of this fingerprint and config.json; None before its first start."""
    try:
        record = json.loads(_path(fingerprint).read_text(encoding="utf-8"))
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
    return f"its first layer comes out {difference:.0e} away from transformers'"


def _path(fingerprint: str) -> Path:
    return prepared_directory() / fingerprint / "seam.json"


def _hash(keys: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:16]
