"""What a model was trained on, in a few bytes: a digest of timestamps and raw values for each split."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

import polars as pl

from timellm_cli.splits import SPLITS, Spans
from timellm_cli.units import format_count


@dataclass(frozen=True)
class RowsIdentity:
    """The rows of a split without the history before them: how many, the first and the last timestamp, a digest."""

    rows: int
    first: str
    last: str
    digest: str


def identify(stamps: pl.Series, frame: pl.DataFrame, spans: Spans, seq_len: int) -> dict[str, RowsIdentity]:
    """The identity of each split of a table with timestamps (N) and raw values (N, C). Absent values are equal."""
    starts = {"train": 0, "val": spans.val.start + seq_len, "test": spans.test.start + seq_len}
    stops = {"train": spans.scaler.stop, "val": spans.val.stop, "test": spans.test.stop}
    found = {}
    for split in SPLITS:
        part, length = slice(starts[split], stops[split]), stops[split] - starts[split]
        digest = sha256(stamps[part].cast(pl.Int64).to_numpy().tobytes())
        for column in frame:
            digest.update(column.name.encode())
            digest.update(column[part].fill_null(float("nan")).to_numpy().tobytes())
        first, last = stamps[starts[split]], stamps[stops[split] - 1]
        found[split] = RowsIdentity(length, str(first), str(last), digest.hexdigest()[:16])
    return found


def differences(then: Mapping[str, RowsIdentity], now: Mapping[str, RowsIdentity]) -> Iterator[str]:
    """What differs between the rows of a training and those at hand, one sentence for each split that does."""
    for split in then:
        before, here = then[split], now[split]
        if before == here:
            continue
        if (before.rows, before.first, before.last) == (here.rows, here.first, here.last):
            yield f"{split}: the same {format_count(here.rows, 'row')}, but with other values"
        else:
            yield f"{split}: {_range(before)} then, {_range(here)} now"


def _range(identity: RowsIdentity) -> str:
    return f"{format_count(identity.rows, 'row')} from {identity.first} to {identity.last}"
