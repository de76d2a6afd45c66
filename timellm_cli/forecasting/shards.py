"""A forecast of many series as parts in a folder, so that several processes share it and a stopped one goes on.

The folder lies beside the output, `OUTPUT.parts/`. `job.json` says what is forecast, and each part is one batch of
series with a record of those left out. A part is whole or absent. What is joined from the parts equals, to the byte,
what one process writes.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from timellm_cli import __version__
from timellm_cli.datasets import data_files
from timellm_cli.errors import ConfigError
from timellm_cli.files import TEMPORARY, replacing, writing
from timellm_cli.report.forecast_file import parquet_of

_JOB = "job.json"
_FREE = ("batch_size", "at_once")
"""What may be otherwise when a forecast goes on: the parts keep to what they began with."""
_INPUTS = {
    "sources": "the input has changed",
    "checkpoint_id": "the checkpoint has changed",
    "version": "timellm has another version",
}
"""What no part can be used without."""


@dataclass(frozen=True)
class Job:
    """Everything that the figures of a forecast depend on.

    `sources` are the input's files and those of what is known ahead (`future`, events), each with its size in bytes and
    its time of change in nanoseconds; `checkpoint_id` is the digest of the checkpoint's bytes. `batch_size` samples are
    forecast at a time, `at_once` series are a part.
    """

    checkpoint: str
    checkpoint_id: str
    source: str
    sources: list[list[Any]]
    device: str
    llm: str | None
    changes: dict[str, Any]
    at: str | None
    steps: int
    levels: list[int]
    lowest: float | None
    is_sum: bool
    strict: bool
    batch_size: int
    at_once: int
    suffix: str
    version: str = __version__
    future: str | None = None


def sources_of(path: Path) -> list[list[Any]]:
    """Name, size and time of change of each file that a path stands for."""
    found = [(str(file.absolute()), file.stat()) for file in data_files(path)]
    return [[name, state.st_size, state.st_mtime_ns] for name, state in found]


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return sha256(file.read()).hexdigest()


@dataclass(frozen=True)
class Part:
    """The series left out of a batch, with the reason, how many it has, and how many rows were forecast."""

    series: int
    rows: int
    skipped: dict[str, str]
    header: str


class Shards:
    """The folder of the parts of one output."""

    def __init__(self, output: Path) -> None:
        self.output, self.path = output, output.with_name(f"{output.name}.parts")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep others out while the block runs. Raises ConfigError where another command has it."""
        with writing(self.path):
            self.path.mkdir(exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            with lock:
                yield
        except Timeout:
            raise ConfigError(
                f"another command is writing parts to '{self.path}'", "wait for it, or give another --output"
            ) from None

    def begin(self, job: Job) -> list[str]:
        """Begin this job, or go on with its parts, in batches as before; returns notes. The caller holds the lock.

        Parts of an input or a checkpoint that has changed are removed. Raises ConfigError for those of another job.
        """
        for left in self.path.glob(TEMPORARY):  # of a killed process
            left.unlink(missing_ok=True)
        notes = []
        if (self.path / _JOB).exists():
            before, now = json.loads((self.path / _JOB).read_text(encoding="utf-8")), json.loads(_plain(job))
            other = [key for key in now if key not in _FREE and now[key] != before.get(key)]
            if not other:
                return []
            outdated = [key for key in other if key in _INPUTS]
            if not outdated:
                raise ConfigError(
                    f"'{self.path}' holds the parts of another forecast: it differs in {other[0]} "
                    f"({before.get(other[0])} before, {now[other[0]]} now)",
                    "repeat the command that began it, name another --output, or delete that folder",
                )
            notes.append(f"{_INPUTS[outdated[0]]} since '{self.path}' was begun: its parts are made anew")
            self.clear()
        self._write(self.path / _JOB, _plain(job).encode())
        return notes

    def clear(self) -> None:
        """Remove the job and its parts."""
        for path in self.path.glob("*.*"):
            if path.suffix in (".part", ".json"):
                path.unlink(missing_ok=True)

    def job(self) -> Job:
        """What is forecast here."""
        return Job(**json.loads((self.path / _JOB).read_text(encoding="utf-8")))

    def is_done(self, number: int) -> bool:
        """Whether a part is there."""
        return self._record(number).is_file()

    def write(self, number: int, content: bytes, part: Part) -> None:
        """Add a part. Its record comes last, and makes it valid."""
        self._write(self._content(number), content)
        self._write(self._record(number), json.dumps(asdict(part)).encode())

    def part(self, number: int) -> Part:
        """The record of a part."""
        return Part(**json.loads(self._record(number).read_text(encoding="utf-8")))

    def join(self, count: int) -> Iterator[bytes]:
        """The content of the output, of `count` parts."""
        records = [self.part(number) for number in range(count)]
        filled = [number for number, record in enumerate(records) if record.rows]
        if self.output.suffix.lower() == ".parquet":
            tables = [pl.read_parquet(self._content(number)) for number in filled]
            yield parquet_of(tables)
            return
        yield records[filled[0]].header.encode()
        for number in filled:
            yield self._content(number).read_bytes()

    def remove(self) -> None:
        """Remove the folder once the output is whole."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _content(self, number: int) -> Path:
        return self.path / f"{number:06}.part"

    def _record(self, number: int) -> Path:
        return self.path / f"{number:06}.json"

    def _write(self, path: Path, content: bytes) -> None:
        with writing(path), replacing(path) as file:
            file.write(content)


def _plain(job: Job) -> str:
    return json.dumps(asdict(job), indent=2, default=str)
