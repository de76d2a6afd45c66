"""Where an LLM's files lie on this computer: a folder, the cache, or the Hugging Face hub's own cache. Light."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from timellm_cli.errors import ModelError
from timellm_cli.files import llm_directory

NO_LLM = "none"
TENSORS, TENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
"""The weights in safetensors, in one piece or as shards that an index names."""

_SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size",
)  # fmt: skip
_SAMPLED_BYTES, _SAMPLES = 65_536, 16


def find_llm(name: str) -> Path | None:
    """The folder with the LLM's `config.json`, or None if it is not on this computer.

    Looks for a folder of that path, then for a fetched LLM of that name, then in the hub cache. Whether the weights are
    there as well is another question: see `has_weights`.
    """
    for folder in (Path(name).expanduser(), llm_directory() / name):
        if (folder / "config.json").is_file():
            return folder
    return _find_in_hub_cache(name)


def read_llm_config(folder: Path) -> dict[str, Any]:
    """The entries of an LLM's config.json. Raises ModelError if it cannot be read."""
    path = folder / "config.json"
    try:
        keys = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"'{path}' cannot be read: {error}", "fetch the LLM again") from None
    if not isinstance(keys, dict):
        raise ModelError(f"'{path}' cannot be read: it holds no object", "fetch the LLM again")
    wrong = [f"{name} {keys[name]!r}" for name in _SIZES if name in keys and not _is_size(keys[name])]
    if wrong:
        raise ModelError(f"'{path}' says {', '.join(wrong)}: a size is a whole number from 1 on", "fetch the LLM again")
    return keys


def _is_size(value: object) -> bool:
    """A count of something there is; some families leave a size open, or give one for each layer."""
    return value is None or isinstance(value, list) or (type(value) is int and value > 0)


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights that can be loaded, every shard of its index included."""
    return bool(weight_files(folder))


def has_tensors(folder: Path) -> bool:
    """Whether a folder holds safetensors files at all, under the names that our own decoder reads."""
    return (folder / TENSORS).is_file() or (folder / TENSORS_INDEX).is_file()


def weight_files(folder: Path) -> list[Path]:
    """The weight files of an LLM folder, sorted; empty where there are none or a shard is missing."""
    for pattern, index in (
        ("*.safetensors", TENSORS_INDEX),
        ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
    ):
        files = sorted(path for path in folder.glob(pattern) if path.is_file())
        if files and (folder / index).is_file():
            return files if _holds_all(folder / index, files) else []
        if files:
            return files
    return []


def _holds_all(index: Path, files: list[Path]) -> bool:
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return shards <= {path.name for path in files}


def fingerprint_llm(folder: Path) -> str:
    """A short hash of an LLM's tokeniser and weights, from samples spread over each file, so it takes milliseconds.

    It differs between LLMs, and between a fine-tune and its base; it does not protect against forgery.
    """
    digest = hashlib.sha256()
    tokenizer = folder / "tokenizer.json"
    if tokenizer.is_file():
        digest.update(tokenizer.read_bytes())
    for path in weight_files(folder):
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with path.open("rb") as file:
            for sample in range(_SAMPLES):
                file.seek(max(size - _SAMPLED_BYTES, 0) * sample // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLED_BYTES))
    return digest.hexdigest()[:32]


def fingerprint_random(folder: Path, seed: int) -> str:
    """A short hash of an LLM's tokeniser and config.json, and the seed that its weights are drawn under."""
    digest = hashlib.sha256(f"random {seed}".encode())
    for name in ("tokenizer.json", "config.json"):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:32]


def stamp_llm(folder: Path) -> str:
    """A short hash of the size and the time of change of each of an LLM's weight files: no byte of them is read."""
    digest = hashlib.sha256()
    for path in weight_files(folder):
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def hub_cache_directory() -> Path:
    """Where huggingface_hub keeps downloads, by the environment variables it documents."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache)
    home = os.environ.get("HF_HOME")
    if not home:
        home = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface")
    return Path(home).expanduser() / "hub"


def _find_in_hub_cache(name: str) -> Path | None:
    repository = hub_cache_directory() / f"models--{name.replace('/', '--')}"
    main = repository / "refs" / "main"
    if main.is_file():
        folder = repository / "snapshots" / main.read_text(encoding="utf-8").strip()
        if (folder / "config.json").is_file():
            return folder
    return None
