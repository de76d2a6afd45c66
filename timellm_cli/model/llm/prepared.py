"""Files that the first start with an LLM writes, so that the next starts are faster.

`<cache>/prepared/<fingerprint of the LLM>/` holds safetensors files: the factor of its vocabulary (4 E^2 bytes, 16 MiB
for Qwen2.5-3B) and each layer that was ever quantised (about 0.52 bytes a weight in NF4, 1 in int8: 38 MiB a layer of
Qwen2.5-3B in NF4, 1.3 GiB for all 36). Everything can be deleted at any time and is then made again. A start continues
without them where the disk is full or cannot be written to.
"""

import os
import shutil
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from timellm_cli.files import prepared_directory, replacing

_FORMAT = 2
"""Raise it whenever the meaning of a file changes: files of another format are made again."""

_SPARE = 2**30
"""Bytes that are left free on the disk."""


class PreparedFiles:
    """The files prepared of one LLM, identified by its `llm_files.fingerprint_llm`.

    A file is read only while `llm_files.stamp_llm` of the LLM is the one it was written with. Comparing the weights
    themselves would mean a thousand small reads all over the 16-bit files, which took half of a second start.
    """

    def __init__(self, fingerprint: str, stamp: str, on_note: Callable[[str], None]) -> None:
        self.folder = prepared_directory() / fingerprint
        self._source = f"{_FORMAT} {stamp}"
        self._on_note = on_note
        self._gave_up = False

    def read_ahead(self, names: Iterable[str]) -> None:
        """Ask the system to start fetching files that will be read soon, where it can."""
        if not hasattr(os, "posix_fadvise"):
            return
        for path in filter(Path.is_file, map(self._path, names)):
            with suppress(OSError), path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)

    def read(self, name: str) -> dict[str, Tensor] | None:
        """Tensors that were written under this name, mapped from the file; None if they must be made.

        A damaged file is removed.
        """
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("source") != self._source:
                    return None
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if metadata.get("checksum") != _checksum(tensors):
                raise ValueError("its checksum is another one")
            return tensors
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            self._on_note(f"'{path}' is damaged and is made again ({str(error).strip().splitlines()[0]})")
            try:
                path.unlink(missing_ok=True)
            except OSError as refusal:
                self._give_up(refusal.strerror or str(refusal))
            return None

    def write(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Keep tensors for the next start. A disk that refuses is noted once, and nothing more is written."""
        if self._gave_up:
            return
        tensors = {key: tensor.cpu().contiguous() for key, tensor in tensors.items()}
        content = save(tensors, {"source": self._source, "checksum": _checksum(tensors)})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free < len(content) + _SPARE:
                self._give_up("the disk is nearly full")
                return
            with replacing(self._path(name)) as file:
                file.write(content)
        except OSError as error:
            self._give_up(error.strerror or str(error))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _give_up(self, reason: str) -> None:
        self._gave_up = True
        self._on_note(f"nothing more is kept in '{self.folder}' for a faster next start: {reason}")


def _checksum(tensors: dict[str, Tensor]) -> str:
    """CRC-32 of the tensors' bytes, which takes about a second for 2 GiB."""
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].flatten().view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"
