"""The prompt of the first training sample, without an array library. Light.

The same steps as in training: scale by the training span, normalise the window, describe it. `model/statistics.py` is
the truth; a test holds both against each other.
"""

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import mul

from timellm_cli.config import Config
from timellm_cli.data.probe import Probe
from timellm_cli.data.source import EMPTY_CELLS, not_a_number, open_source
from timellm_cli.data.timestamps import fitting_formats, no_timestamp, parse_timestamp
from timellm_cli.datasets import known_dataset
from timellm_cli.errors import DataError
from timellm_cli.geometry import split_rows
from timellm_cli.model.prompt import WindowStatistics

_EPSILON = 1e-5
_TIE = 1e-9


def first_sample_statistics(probe: Probe, config: Config) -> WindowStatistics:
    """Statistics of the first training window of the first channel, as its prompt gives them, window-normalised.

    Raises DataError where the training span has a gap that is not to be filled, or text among its numbers.
    """
    span = split_rows(probe.rows, known_dataset(config.data), config.data, config.window).scaler
    values = list(islice(_read_channel(probe, config), span.stop))
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values)) or 1.0
    history = [_float32((value - mean) / deviation) for value in values[: config.window.seq_len]]
    return describe(normalise(history), config.prompt.top_lags)


def normalise(history: Sequence[float]) -> list[float]:
    """A history with mean 0 and population deviation 1, as float32 numbers."""
    mean = math.fsum(history) / len(history)
    variance = math.fsum((value - mean) ** 2 for value in history) / len(history)
    return [_float32((value - mean) / math.sqrt(variance + _EPSILON)) for value in history]


def describe(scaled: Sequence[float], top_lags: int) -> WindowStatistics:
    """The statistics of a window-normalised history; the median is the lower of the two middle values."""
    return WindowStatistics(
        min=min(scaled),
        max=max(scaled),
        median=sorted(scaled)[(len(scaled) - 1) // 2],
        upward=scaled[-1] > scaled[0],
        lags=_top_lags(scaled, top_lags),
    )


def _top_lags(scaled: Sequence[float], count: int) -> tuple[int, ...]:
    """Shifts of highest circular autocorrelation; equal ones, such as k and T - k, by size."""
    length = len(scaled)
    twice = [*scaled, *scaled]
    half = [sum(map(mul, scaled, twice[lag : lag + length])) for lag in range(length // 2 + 1)]
    unit = max(half[0], 1e-300) * _TIE
    return tuple(sorted(range(length), key=lambda lag: (-round(half[min(lag, length - lag)] / unit), lag))[:count])


def _read_channel(probe: Probe, config: Config) -> Iterator[float]:
    """The values of the first channel, one a row of the regular table; gaps are interpolated where that is wished."""
    source = open_source(probe.path, None, config.data.date_column)
    name = probe.columns[0]
    column, dates = source.header.index(name), source.header.index(config.data.date_column)
    fills = config.data.fill == "linear"
    place_of = _placer(probe, config.data.date_column) if fills and probe.cadence else None
    before: tuple[int, float] | None = None
    with source.rows() as lines:
        for row, (line, cells) in enumerate(islice(lines, 1, None)):
            cell = cells[column].strip() if column < len(cells) else ""
            if cell not in EMPTY_CELLS:
                try:
                    now = place_of(line, cells[dates]) if place_of else row, float(cell)
                except ValueError:
                    raise not_a_number(source.name, line, name, cell) from None
                yield from _fill(before, now)
                before = now
            elif not fills:
                raise DataError(
                    f"{source.name}, line {line}, column '{name}': the cell is empty", "--fill linear fills it"
                )


def _placer(probe: Probe, date_column: str) -> Callable[[int, str], int]:
    """What tells the row of the regular table that the timestamp of a line belongs to."""
    form = fitting_formats([probe.first, probe.last])[0]
    first = parse_timestamp(probe.first, form)

    def place_of(line: int, text: str) -> int:
        stamp = parse_timestamp(text.strip(), form)
        if stamp is None or first is None or probe.cadence is None:
            raise no_timestamp(str(probe.path), f"line {line}", text, date_column)
        return (stamp - first) // probe.cadence

    return place_of


def _fill(before: tuple[int, float] | None, now: tuple[int, float]) -> Iterator[float]:
    """The value of this row, and those of the absent rows before it on a straight line."""
    place, value = now
    if before is None:
        yield from [value] * (place + 1)
        return
    first, start = before
    yield from (start + (value - start) * (row - first) / (place - first) for row in range(first + 1, place))
    yield value


def _float32(value: float) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded
