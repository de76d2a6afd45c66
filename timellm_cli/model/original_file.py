"""What a file or a step folder of the original, or of a fork of it, holds: weights, counters, arguments, optimizer.

Files are read with `weights_only=True`: beyond tensors and plain containers, only NumPy arrays and argparse's namespace
are allowed, whose making runs no code of the file.
"""

import argparse
import json
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from timellm_cli.errors import ModelError, listed

_HINT = "the original saves its state dict with torch.save(model.state_dict(), path)"
_STATES = ("module", "model", "model_state_dict", "state_dict", "net", "weights", "trainable", "model_state")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_STEPS = ("global_step", "global_steps", "step", "steps", "iteration", "total_steps", "train_step", "completed_steps")
_ARGUMENTS = ("args", "config", "configs", "hparams", "arguments")
_OPTIMIZERS = ("optimizer", "optimizer_state_dict", "optim", "model_optim")
_NESTED = ("counters", "state", "trainer_state", "training_state", "meta", "client_state")
_FILES = (
    "checkpoint", "checkpoint.pt", "checkpoint.pth", "model.pt", "model.pth", "model.safetensors", "pytorch_model.bin",
    "mp_rank_00_model_states.pt", "trainable.pt",
)  # fmt: skip
_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
_BESIDE = ("optimizer", "scheduler", "rng_state", "random_states", "training_state", "trainer_state", "scaler")
_STEP_FOLDER = re.compile(r"(?:.*[-_])?(?:checkpoint|step|global_step|iter)[-_]?(\d+)", re.IGNORECASE)


@dataclass
class OriginalFile:
    """The weights of a checkpoint under the original's names, and what else was found beside them.

    `optimizer` is Adam's state dict, `arguments` the old flags by name without dashes.
    """

    path: Path
    state: dict[str, Tensor]
    step: int | None = None
    optimizer: dict[str, Any] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


def open_original(path: Path) -> OriginalFile:
    """Read a file, or the newest step of a folder.

    Raises ModelError where there is no such file, and where one holds anything that could run code when loaded.
    """
    file = find_file(path)
    content = _load(file)
    if not isinstance(content, Mapping):
        raise ModelError(f"'{file}' holds a {type(content).__name__}, not a state dict", _HINT)
    found = OriginalFile(file, _plain_names(_weights_of(content)))
    for source in (content, *_companions(file)):
        _take(found, source)
    if found.step is None:
        names = (_STEP_FOLDER.fullmatch(name) for name in (file.stem, file.parent.name))
        found.step = next((int(name[1]) for name in names if name), None)
    return found


def find_file(path: Path) -> Path:
    """The file with the weights: the path itself, or of a folder that of its newest step. Raises ModelError."""
    if not path.is_dir():
        return path
    latest = path / "latest"
    if latest.is_file() and (path / latest.read_text(encoding="utf-8").strip()).is_dir():
        return find_file(path / latest.read_text(encoding="utf-8").strip())
    if named := [path / name for name in _FILES if (path / name).is_file()]:
        return named[0]
    others = [file for file in sorted(path.iterdir()) if file.suffix in _ENDINGS and not file.stem.startswith(_BESIDE)]
    if len(others) == 1:
        return others[0]
    steps = [(int(name[1]), folder) for folder in path.iterdir() if (name := _STEP_FOLDER.fullmatch(folder.name))]
    if steps:
        return find_file(max(steps)[1])
    held = listed((file.name for file in sorted(path.iterdir())), 6) or "nothing"
    raise ModelError(
        f"the folder '{path}' has no file that is known to hold the weights; it holds {held}", "name the file"
    )


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:
            raise ModelError(f"'{path}' is no checkpoint of tensors: {error}", _HINT) from None
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(
            f"checkpoint '{path}' not found", "give the path of the original's `checkpoint` file, or of a step folder"
        ) from None
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        fault = "holds pickled Python objects, which could run code when loaded: refused" + (
            f" ({named[1]})" if named else ""
        )
        raise ModelError(f"'{path}' {fault if _is_pickled(path) else 'is no checkpoint'}", _HINT) from None
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"'{path}' is no checkpoint of plain tensors: {lines[0]}", _HINT) from None


def _harmless() -> list[Any]:
    """Types beyond torch's own whose making runs no code of the file: random states and arguments are made of them."""
    kinds = {type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "uint32", "uint8", "bool")}
    rebuild: Any = np.zeros(1).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    old_names = [(function, f"numpy.core.multiarray.{function.__name__}") for function in (rebuild, scalar)]
    return [argparse.Namespace, np.ndarray, np.dtype, rebuild, scalar, *old_names, *kinds]


def _is_pickled(path: Path) -> bool:
    """Whether a file begins as a pickle or as an archive of one does."""
    with path.open("rb") as file:
        return file.read(2).startswith((b"PK", b"\x80"))


def _weights_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict, in however many dictionaries it is wrapped."""
    for name in _STATES:
        inner = content.get(name)
        if isinstance(inner, Mapping) and inner:
            return _weights_of(inner)
    return content


def _plain_names(state: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = {str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    changed = True
    while changed:
        prefix = next((one for one in _PREFIXES if tensors and all(name.startswith(one) for name in tensors)), "")
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        changed = bool(prefix)
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _companions(file: Path) -> Iterator[Mapping[str, Any]]:
    """What lies beside the weights in a step folder. A file that cannot be read safely is left out."""
    for path in sorted(file.parent.iterdir()):
        if path == file or not path.is_file():
            continue
        try:
            if path.suffix == ".json" and path.stat().st_size < 2**20:
                content = json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix in _ENDINGS and path.stem.startswith(_BESIDE):
                content = _load(path)
                content = {"optimizer": content} if path.stem.startswith("optimizer") else content
            else:
                continue
        except (ModelError, ValueError, OSError, RecursionError):
            continue
        if isinstance(content, Mapping):
            yield content


def _take(found: OriginalFile, source: Mapping[str, Any]) -> None:
    """Fill what is not known yet from a dictionary and those in it."""
    for place in (source, *(source[name] for name in _NESTED if isinstance(source.get(name), Mapping))):
        found.step = found.step if found.step is not None else _whole(place, _STEPS)
        optimizer = next((place[name] for name in _OPTIMIZERS if isinstance(place.get(name), Mapping)), None)
        if found.optimizer is None and optimizer is not None and {"state", "param_groups"} <= optimizer.keys():
            found.optimizer = dict(optimizer)
        for name in _ARGUMENTS:
            inner = place.get(name)
            inner = vars(inner) if isinstance(inner, argparse.Namespace) else inner
            if isinstance(inner, Mapping):
                found.arguments = {str(key): value for key, value in inner.items()} | found.arguments
    if "seq_len" in source and "pred_len" in source:  # an args.json
        found.arguments = {str(key): value for key, value in source.items()} | found.arguments


def _whole(place: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = place.get(name)
        value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        if type(value) is int and value >= 0:
            return value
    return None
