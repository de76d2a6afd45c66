"""Where an LLM's files lie on this computer, what they hold by their headers, and what identifies them. Light."""

import hashlib
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timellm_cli.errors import ModelError
from timellm_cli.files import llm_directory

NO_LLM = "none"
TENSORS, TENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
"""The weights in safetensors, in one piece or as shards that an index names."""
PICKLES, PICKLES_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"

_SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size",
    "n_embd", "n_layer", "n_head", "n_positions", "n_inner", "head_dim", "max_position_embeddings",
    "embedding_size", "word_embed_proj_dim",
)  # fmt: skip
_NUMBERS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon", "rope_theta")
_LARGEST = 2**40
_ABOUT_FILES = ("_name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype", "use_cache")
"""Entries of config.json that say where an LLM comes from and how it is kept, not what it computes."""
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt",
    "special_tokens_map.json", "added_tokens.json", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
_SAMPLED_BYTES, _SAMPLES = 65_536, 16
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a safetensors file's header describes it: `size` bytes from `start`; `dtype` such as 'BF16'."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def find_llm(name: str) -> Path | None:
    """The folder with the LLM's `config.json`, or None if it is not on this computer.

    Looks for a folder of that path, then for a fetched LLM of that name, then in the hub cache. Whether the weights are
    there as well is another question: see `has_weights`.
    """
    for folder in (_expanded(name), llm_directory() / name):
        if _is_file(folder / "config.json"):
            return folder
    return _find_in_hub_cache(name)


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # '~' of a user who is not known
        return Path(name)


def _is_file(path: Path) -> bool:
    """Like `Path.is_file`; a path that the system does not even look up, such as a name of 300 letters, is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_llm_config(folder: Path) -> dict[str, Any]:
    """The entries of an LLM's config.json. Raises ModelError if it cannot be read, or a size in it is no size."""
    path = folder / "config.json"
    keys = _read_object(path)
    wrong = [f"{name} {keys[name]!r:.40}" for name in _SIZES if name in keys and not _is_size(keys[name])]
    if wrong:
        raise ModelError(f"'{path}' says {', '.join(wrong)}: a size is a whole number from 1 on", "fetch the LLM again")
    wrong = [f"{name} {keys[name]!r:.40}" for name in _NUMBERS if name in keys and not _is_positive(keys[name])]
    if wrong:
        raise ModelError(f"'{path}' says {', '.join(wrong)}: not a positive number", "fetch the LLM again")
    return keys


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"'{path}' cannot be read: {error}", "fetch the LLM again") from None
    if not isinstance(content, dict):
        raise ModelError(f"'{path}' cannot be read: it holds no object", "fetch the LLM again")
    return content


def _is_size(value: object) -> bool:
    """A count of something there is; some families leave a size open, or give one for each layer."""
    return value is None or isinstance(value, list) or (type(value) is int and 0 < value < _LARGEST)


def _is_positive(value: object) -> bool:
    return value is None or (type(value) in (int, float) and 0 < value < math.inf)  # type: ignore[operator]


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights that can be loaded, every shard of its index included."""
    return bool(weight_files(folder))


def weight_files(folder: Path) -> list[Path]:
    """The files that the LLM's weights are read from, sorted; empty where there are none or a shard is missing."""
    for whole, index in ((TENSORS, TENSORS_INDEX), (PICKLES, PICKLES_INDEX)):
        if (folder / whole).is_file():
            return [folder / whole]
        if (folder / index).is_file():
            shards = _shards(folder / index)
            return shards if all(shard.is_file() for shard in shards) else []
    return []


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted(index.with_name(name) for name in names)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def why_no_weights(folder: Path) -> str:
    """What a folder without weights that can be loaded has in their place, as the end of a sentence."""
    if (folder / "adapter_config.json").is_file():
        return "; it is an adapter (LoRA) for an LLM: merge it into its LLM and save that"
    if index := next((folder / name for name in (TENSORS_INDEX, PICKLES_INDEX) if (folder / name).is_file()), None):
        missing = [shard.name for shard in _shards(index) if not shard.is_file()]
        return f"; of {index.name} it lacks {', '.join(missing[:3])}" if missing else f"; {index.name} names no files"
    others = sorted(path.name for end in ("safetensors", "bin", "gguf") for path in folder.glob(f"*.{end}"))
    return f"; {', '.join(others[:3])} is not read: it would be as {TENSORS} or with {TENSORS_INDEX}" if others else ""


def unloadable(folder: Path, fault: object) -> ModelError:
    """The error of an LLM whose files are missing or broken."""
    lines = str(fault).strip().splitlines() or [type(fault).__name__]
    return ModelError(
        f"the LLM in '{folder}' cannot be loaded: {lines[0]}",
        "fetch the LLM again, or check that the folder holds config.json and all its safetensors files",
    )


def read_headers(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a folder's safetensors files, by their stored names; empty where its weights are in pickles.

    No weights are read. Raises ModelError where a file is damaged or shorter than its header says.
    """
    files = [path for path in weight_files(folder) if path.suffix == ".safetensors"]
    try:
        return {name: tensor for path in files for name, tensor in _read_header(path).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise unloadable(folder, error) from None


def _read_header(path: Path) -> dict[str, StoredTensor]:
    with path.open("rb") as file:
        begin, whole = file.read(8), path.stat().st_size
        if begin == b"version ":
            raise ValueError(f"{path.name} is a pointer of Git LFS, not the weights: `git lfs pull` fetches them")
        length = int.from_bytes(begin, "little")
        if len(begin) < 8 or length > whole - 8:
            raise ValueError(f"{path.name} is damaged: it has {whole:,} bytes, and its header needs {length + 8:,}")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise ValueError(f"{path.name} is damaged: its header is no JSON ({error})") from None
    tensors, base = {}, 8 + length
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        if not all(type(size) is int and size >= 0 for size in (*shape, start, end - start)):
            raise ValueError(f"{path.name} is damaged: the header's entry of '{name:.80}' makes no sense")
        tensors[name] = StoredTensor(path, entry["dtype"], shape, base + start, end - start)
    needed = max((tensor.start + tensor.size for tensor in tensors.values()), default=base)
    if needed != whole:
        raise ValueError(f"{path.name} has {whole:,} bytes, but its header describes {needed:,}: it is cut or damaged")
    return tensors


def fingerprint_llm(folder: Path, seed: int | None = None) -> str:
    """A short hash of all that an LLM computes with: tokenizer, config.json, and weights or the seed they are drawn by.

    Of each tensor a few bytes are read, so it takes milliseconds. It differs between LLMs, and between a fine-tune and
    its base, and is the same however the tensors are spread over files. It does not protect against forgery. Raises
    ModelError where a file is damaged.
    """
    digest = hashlib.sha256(b"2" if seed is None else f"random {seed}".encode())
    for name in _TOKENIZER:
        if (folder / name).is_file():
            digest.update(f"\n{name}\n".encode() + (folder / name).read_bytes())
    keys = _read_object(folder / "config.json")
    computed = {key: value for key, value in keys.items() if key not in _ABOUT_FILES}
    digest.update(json.dumps(computed, sort_keys=True).encode())
    if seed is None:
        _add_weights(digest, folder)
    return digest.hexdigest()[:32]


def _add_weights(digest: Any, folder: Path) -> None:
    stored = read_headers(folder)
    files = {tensor.file: tensor.file.open("rb") for tensor in stored.values()}
    try:
        for name in sorted(stored):
            if not name.startswith("lm_head."):  # never loaded
                tensor = stored[name]
                digest.update(f"\n{name.removeprefix('model.')} {tensor.dtype} {tensor.shape}\n".encode())
                sampled = min(tensor.size, _SAMPLED_BYTES // _SAMPLES)
                files[tensor.file].seek(tensor.start + (tensor.size - sampled) // 2)
                digest.update(files[tensor.file].read(sampled))
    finally:
        for file in files.values():
            file.close()
    for path in weight_files(folder) if not stored else ():
        size = path.stat().st_size
        with path.open("rb") as file:
            for sample in range(_SAMPLES):
                file.seek(max(size - _SAMPLED_BYTES, 0) * sample // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLED_BYTES))


def stamp_llm(folder: Path) -> str:
    """A short hash of the size and the time of change of each of an LLM's weight files: no byte of them is read."""
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in weight_files(folder)]
    return hashlib.sha256(repr(states).encode()).hexdigest()[:32]


def hub_cache_directory() -> Path:
    """Where huggingface_hub keeps downloads, by the environment variables it documents."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache)
    home = os.environ.get("HF_HOME")
    if not home:
        home = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface")
    return Path(home).expanduser() / "hub"


def is_commit(text: str) -> bool:
    """Whether a text is the hash of a commit; the hub's cache names folders by it."""
    return _COMMIT.fullmatch(text) is not None


def _find_in_hub_cache(name: str) -> Path | None:
    repository = hub_cache_directory() / f"models--{name.replace('/', '--')}"
    main = repository / "refs" / "main"
    if not _is_file(main):
        return None
    commit = main.read_text(encoding="utf-8", errors="replace").strip()
    folder = repository / "snapshots" / commit
    return folder if is_commit(commit) and (folder / "config.json").is_file() else None
