"""Checkpoints that are damaged, of another make, or that would run code when loaded."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.hostile.case import SHORT, SMALL, TRAIN, Case, Spoil, cut, remove, write
from timellm_cli.training.checkpoint import FORMAT_VERSION

EVAL = ("eval", "best.pt")
PREDICT = ("predict", "best.pt", "data.csv", "-o", "out.csv")
RESUME = (*TRAIN, *SMALL, *SHORT, "--resume", "best.pt")
IMPORT = ("import", "best.pt", *TRAIN[1:], *SMALL, "--num-prototypes", "20")


class _Bomb:
    """Unpickled, it leaves a file named `ran`."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


def _archive(pickled: bytes, compression: int = zipfile.ZIP_STORED, numbers: bytes = b"\0" * 64) -> bytes:
    """What `torch.save` writes, around another pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in (
            ("data.pkl", pickled),
            ("byteorder", b"little"),
            ("version", b"3\n"),
            ("data/0", numbers),
        ):
            archive.writestr(f"best/{name}", content)
    return file.getvalue()


def _change(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Loads best.pt as plain data, changes that, and writes it again."""

    def spoil(folder: Path) -> None:
        content = torch.load(folder / "best.pt", weights_only=True)
        change(content)
        torch.save(content, folder / "best.pt")

    return spoil


def _expanded(content: dict[str, Any]) -> None:
    """A tensor of 2^60 numbers, all of them one."""
    content["weights"] = {name: torch.zeros(1).expand(2**60) for name in content["weights"]}


_BOMB = pickle.dumps(_Bomb())
_REFUSED = ("refused", "could run code")

_BIAS = "head.projection.bias"


def _set(content: dict, weight: torch.Tensor) -> None:
    content["weights"][_BIAS] = weight


def _weight(value: float) -> Callable[[dict], None]:
    """Sets one number of the head's bias."""

    def change(content: dict) -> None:
        content["weights"][_BIAS][0] = value

    return change


def _cast(dtype: torch.dtype) -> Callable[[dict], None]:
    return lambda content: _set(content, content["weights"][_BIAS].to(dtype))


def _flip(path: Path) -> None:
    """Change one bit of the largest entry of the archive."""
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda one: one.file_size)
    content = bytearray(path.read_bytes())
    content[entry.header_offset + 30 + len(entry.filename) + entry.file_size // 2] ^= 0x40
    path.write_bytes(bytes(content))


CHECKPOINT_CASES = [
    Case("no checkpoint", ("eval", "bets.pt"), 4, ("'bets.pt' not found", "best.pt")),
    Case("a folder", ("eval", "llm"), 4, ("'llm' is a folder",)),
    Case("a CSV", ("eval", "data.csv"), 4, ("no timellm checkpoint",)),
    Case("an empty file", EVAL, 4, ("best.pt",), write("best.pt", b"")),
    Case("a truncated checkpoint", EVAL, 4, ("damaged",), cut("best.pt", 0.7)),
    Case("a truncated checkpoint, in predict", PREDICT, 4, ("damaged",), cut("best.pt", 0.3)),
    Case("a checkpoint overwritten in the middle", EVAL, 4, ("best.pt",), lambda folder: _overwrite(folder / "best.pt")),
    Case("an archive of something else", EVAL, 4, ("best.pt",), write("best.pt", _archive(pickle.dumps([1, 2])))),
    Case("a compressed archive", EVAL, 4, ("compressed archive",), write("best.pt", _archive(pickle.dumps({}), zipfile.ZIP_DEFLATED, b"\0" * 2**20))),
    Case("a state dict", EVAL, 4, ("no timellm checkpoint", "timellm import"), lambda folder: torch.save({"a": torch.zeros(2)}, folder / "best.pt")),
    Case("another format", EVAL, 4, ("checkpoint format 99", "timellm 9.9", f"reads format {FORMAT_VERSION}"), _change(lambda content: content.update(format_version=99, version="9.9"))),
    Case("a configuration of a later version", EVAL, 4, ("made by timellm 9.9", "does not read"), _change(lambda content: content.update(version="9.9", config='{"train": {"quantum": 1}}'))),
    Case("a missing part", EVAL, 4, ("damaged", "scaler"), _change(lambda content: content.pop("scaler"))),
    Case("weights that are texts", EVAL, 4, ("damaged",), _change(lambda content: content.update(weights={"a": "b"}))),
    Case("weights of another shape", EVAL, 4, ("instead of",), _change(lambda content: content["weights"].update({"head.projection.bias": torch.zeros(3)}))),
    Case("weights that are missing", EVAL, 4, ("missing head.projection.bias",), _change(lambda content: content["weights"].pop("head.projection.bias"))),
    Case("weights that say they are huge", EVAL, 4, ("damaged", "more than the file holds"), _change(_expanded)),
    Case("a scaler of another length", PREDICT, 4, ("damaged",), _change(lambda content: content["scaler"].update(mean=torch.zeros(5, dtype=torch.float64)))),
    Case("columns that are numbers", PREDICT, 4, ("damaged",), _change(lambda content: content.update(columns=[1, 2]))),
    Case("a cadence that is none", PREDICT, 4, ("damaged",), _change(lambda content: content.update(cadence="now and then"))),
    Case("one flipped bit in a weight", PREDICT, 4, ("damaged", "not those that were written"), lambda folder: _flip(folder / "best.pt")),
    Case("a weight that is no number", PREDICT, 4, ("damaged", "head.projection.bias has numbers that are not finite"), _change(_weight(torch.nan))),
    Case("an infinite weight", EVAL, 4, ("damaged", "not finite"), _change(_weight(torch.inf))),
    Case("weights in whole numbers", EVAL, 4, ("damaged", "torch.int64"), _change(_cast(torch.int64))),
    Case("complex weights", EVAL, 4, ("damaged", "torch.complex64"), _change(_cast(torch.complex64))),
    Case("sparse weights", EVAL, 4, ("damaged", "sparse"), _change(lambda content: _set(content, content["weights"][_BIAS].to_sparse()))),
    Case("weights on no device", EVAL, 4, ("damaged", "meta"), _change(lambda content: _set(content, torch.zeros_like(content["weights"][_BIAS], device="meta")))),
    Case("a negative deviation", PREDICT, 4, ("damaged", "above 0"), _change(lambda content: content["scaler"].update(std=-content["scaler"]["std"]))),
    Case("a format version in a list", EVAL, 4, ("checkpoint format [3]",), _change(lambda content: content.update(format_version=[3]))),
    Case("rows of no split", EVAL, 4, ("damaged", "train"), _change(lambda content: content.update(rows={}))),
    Case("a checkpoint without training state", RESUME, 4, ("best.pt",)),
    Case("a pickle that runs code, in eval", EVAL, 4, _REFUSED, write("best.pt", _BOMB)),
    Case("a pickle that runs code, in predict", PREDICT, 4, _REFUSED, write("best.pt", _BOMB)),
    Case("a pickle that runs code, resumed", RESUME, 4, _REFUSED, write("best.pt", _BOMB)),
    Case("a pickle that runs code, imported", IMPORT, 4, _REFUSED, write("best.pt", _BOMB)),
    Case("an archive that runs code, in eval", EVAL, 4, _REFUSED, write("best.pt", _archive(_BOMB))),
    Case("an archive that runs code, in predict", PREDICT, 4, _REFUSED, write("best.pt", _archive(_BOMB))),
    Case("an archive that runs code, resumed", RESUME, 4, _REFUSED, write("best.pt", _archive(_BOMB))),
    Case("an archive that runs code, imported", IMPORT, 4, _REFUSED, write("best.pt", _archive(_BOMB))),
    Case("an optimizer state that runs code", RESUME, 4, _REFUSED, _change(lambda content: content.update(training={"optimizer": _Bomb()}))),
    Case("a bomb among the weights", EVAL, 4, _REFUSED, _change(lambda content: content["weights"].update({"a": _Bomb()}))),
    Case("a bomb for an imported tensor", IMPORT, 4, _REFUSED, lambda folder: torch.save({"mapping_layer.weight": _Bomb()}, folder / "best.pt")),
    Case("the CSV of a checkpoint is gone", EVAL, 3, ("data.csv", "--csv"), remove("data.csv")),
]  # fmt: skip


def _overwrite(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 2000] = b"\xff" * 2000
    path.write_bytes(bytes(content))
