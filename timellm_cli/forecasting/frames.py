"""pandas frames as tables that the readers of files take, and forecasts as frames in the form of the input.

A frame becomes a Parquet file in memory, so that its cells take the path of a file's. No package but pandas and polars
is needed.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from zoneinfo import available_timezones

import pandas as pd
import polars as pl

from timellm_cli.errors import ConfigError, DataError

NAME = "the frame"
"""What errors call it."""


@dataclass(frozen=True, eq=False)
class FrameStyle:
    """What a forecast of a frame takes over from it: the types of its columns, and which of them were its index."""

    dtypes: dict[str, Any]
    index: tuple[str, ...]


def frame_bytes(frame: pd.DataFrame, date_column: str | None) -> tuple[bytes, FrameStyle]:
    """A frame as the bytes of a Parquet file. An index of timestamps, or with names, counts as columns.

    `date_column` names an index of timestamps that has no name; None where the table has no timestamps. Raises
    ConfigError for anything but a frame, DataError for columns that cannot be told apart.
    """
    if not isinstance(frame, pd.DataFrame):
        raise ConfigError(
            f"predict takes a pandas DataFrame, and got {type(frame).__name__}",
            "pd.read_csv and pd.read_parquet make one",
        )
    columns = {str(name) for name in frame.columns}
    index = frame.index
    if not isinstance(index, pd.MultiIndex) and isinstance(index, pd.DatetimeIndex | pd.PeriodIndex):
        index = index.rename(index.name or date_column)
    in_index = [str(name) for name in index.names if name is not None and str(name) not in columns]
    if in_index:
        frame = frame.set_axis(index, axis=0).reset_index([name for name in index.names if str(name) in in_index])
    names = [str(name) for name in frame.columns]
    if twins := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{NAME} has several columns named '{twins[0]}'", "rename all but one")
    own = [frame.iloc[:, place] for place in range(len(names))]
    table = pl.DataFrame([_to_polars(name, column) for name, column in zip(names, own, strict=True)])
    content = io.BytesIO()
    table.write_parquet(content)
    style = FrameStyle({name: column.dtype for name, column in zip(names, own, strict=True)}, tuple(in_index))
    return content.getvalue(), style


def _to_polars(name: str, column: "pd.Series[Any]") -> pl.Series:
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    zone = getattr(column.dtype, "tz", None)
    if zone is not None and str(zone) in available_timezones():
        utc = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        return pl.Series(name, utc).dt.replace_time_zone("UTC").dt.convert_time_zone(str(zone))
    if zone is not None:  # an offset without a name, as text
        return pl.Series(name, column.map(lambda moment: moment.isoformat(sep=" "), na_action="ignore").tolist())
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return pl.Series(name, column.to_numpy().astype("datetime64[us]"))
    if pd.api.types.is_bool_dtype(column.dtype) or not pd.api.types.is_numeric_dtype(column.dtype):
        return _texts(name, column.tolist())
    if pd.api.types.is_integer_dtype(column.dtype) and not column.hasnans:
        return pl.Series(name, column.to_numpy(dtype=f"{'u' if column.dtype.kind == 'u' else ''}int64"))
    return pl.Series(name, column.to_numpy(dtype="float64", na_value=float("nan")))


def _texts(name: str, cells: Sequence[Any]) -> pl.Series:
    known = [None if pd.api.types.is_scalar(cell) and pd.isna(cell) else cell for cell in cells]
    if all(type(cell) is date or cell is None for cell in known):
        return pl.Series(name, known, dtype=pl.Date)
    return pl.Series(name, [None if cell is None else str(cell) for cell in known], dtype=pl.String)


def to_pandas(tables: Sequence[pl.DataFrame], style: FrameStyle) -> pd.DataFrame:
    """The forecasts of several series, one below the other, with types and index as the input has them."""
    table = pl.concat(tables, how="diagonal")
    frame = pd.DataFrame({column.name: _from_polars(column, style.dtypes.get(column.name)) for column in table})
    index = [name for name in style.index if name in frame.columns]
    return frame.set_index(index) if index else frame


def _from_polars(column: pl.Series, dtype: Any) -> "pd.Series[Any]":
    """A column with the type of the input's, where that can hold it: a forecast of whole numbers has fractions."""
    kind = column.dtype
    if isinstance(kind, pl.Datetime):
        wall = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if kind.time_zone else column
        made = pd.Series(wall.to_numpy())
        made = made.dt.tz_localize("UTC").dt.tz_convert(kind.time_zone) if kind.time_zone else made
    elif kind.is_numeric():
        made = pd.Series(column.to_numpy())
        dtype = None if kind.is_float() else dtype
    else:
        made = pd.Series(column.to_list(), dtype=object)
    if isinstance(dtype, pd.DatetimeTZDtype) and made.dtype == object:
        return pd.to_datetime(made).dt.tz_convert(dtype.tz)
    if isinstance(dtype, pd.PeriodDtype):
        return made.astype(dtype)
    if dtype is None:
        return made.astype("str") if made.dtype == object else made
    return made.astype(dtype)
