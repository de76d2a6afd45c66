"""Which columns of a CSV become channels, and in which order. Light."""

import re
from collections.abc import Sequence
from itertools import accumulate

from timellm_cli.config import DataConfig
from timellm_cli.data.csv_format import DELIMITERS, CsvFormat, lines_above_header
from timellm_cli.data.encoding import GUESSED_ENCODINGS
from timellm_cli.datasets import known_dataset
from timellm_cli.errors import DataError, did_you_mean, quoted
from timellm_cli.units import split_names

INDEX_NAMES = re.compile(r"(Unnamed: \d+|index|row|id|no\.?|#|)", re.IGNORECASE)
"""Names of columns that may number the rows."""


def target_of(data: DataConfig) -> str:
    """The target's name as configured; where it is the default, a known dataset's own."""
    dataset = known_dataset(data)
    if dataset and data.target == DataConfig.model_fields["target"].default:
        return dataset.target
    return data.target


def date_columns(csv: CsvFormat, data: DataConfig) -> tuple[str, ...]:
    """The columns that hold the timestamps: one, or several whose texts are joined by a space ('Date,Time')."""
    parts = whole_names(split_names(data.date_column), csv.header)
    return parts if data.date_column not in csv.header and set(parts) <= set(csv.header) else (data.date_column,)


def words_of(csv: CsvFormat, dates: Sequence[str]) -> tuple[int, ...]:
    """How many words a cell of each of the date columns has, as the first row shows; none where there is one column."""
    if len(dates) == 1:
        return ()
    _, first = csv.find(0)
    return tuple(len(first[csv.header.index(name)].split()) for name in dates)


def split_stamp(text: str, words: Sequence[int]) -> tuple[str, ...]:
    """A timestamp as the cells of the date columns with so many words; whole where it has another number of words."""
    parts = text.split()
    if not words or sum(words) != len(parts):
        return (text,)
    return tuple(" ".join(parts[stop - count : stop]) for stop, count in zip(accumulate(words), words, strict=True))


def whole_names(names: Sequence[str], header: Sequence[str]) -> tuple[str, ...]:
    """Names that a list separated by commas may have cut: what the header has as one name is one, the longest first."""
    found: list[str] = []
    rest = list(names)
    by_form = {_spaced(name): name for name in header}
    while rest:
        joined = (length for length in range(len(rest), 1, -1) if _spaced(",".join(rest[:length])) in by_form)
        length = next(joined, 1)
        found.append(by_form[_spaced(",".join(rest[:length]))] if length > 1 else rest[0])
        del rest[:length]
    return tuple(found)


def _spaced(name: str) -> str:
    return re.sub(r"\s*,\s*", ",", name)


def select_columns(csv: CsvFormat, data: DataConfig) -> tuple[str, ...]:
    """The value columns that a configuration selects, in the file's order, the target last. With S, it alone.

    Of several columns without a name there is none. Raises DataError for missing and repeated columns, and for a file
    that is not the known dataset named.
    """
    target, header, dates = target_of(data), csv.header, date_columns(csv, data)
    ids = [] if data.id_column is None else [data.id_column]
    left_out = {*dates, *ids, *data.exclude, *data.future_columns, *([""] if header.count("") > 1 else [])}
    values = [name for name in header if name not in left_out]
    if len(header) > 1:
        _match_dataset(csv, data, values)
    _require(csv, dates, "date column", "--date-column")
    _require(csv, ids, "id column", "--id-column")
    _require(csv, data.columns, "column", "--columns")
    _require(csv, data.exclude, "column", "--exclude")
    _require(csv, data.future_columns, "column", "--future-columns")
    _require(csv, [target], "target column", "--target")
    if target in data.future_columns or (both := set(data.columns) & set(data.future_columns)):
        what = f"the target '{target}'" if target in data.future_columns else f"'{min(both)}'"
        raise DataError(
            f"{what} is named as known ahead (--future-columns), but it is forecast",
            "a column is either forecast or known; leave it out of one",
        )
    if data.columns and target not in data.columns:
        raise DataError(
            f"the target '{target}' is not among the columns to use: {quoted(data.columns)}",
            "add it to --columns, or name another --target",
        )
    chosen = [target] if data.features == "S" else [name for name in values if name in data.columns or not data.columns]
    repeated = [name for name in [*dates, *dict.fromkeys(chosen)] if name and header.count(name) > 1]
    if repeated:
        numbers = [str(number) for number, name in enumerate(header, 1) if name == repeated[0]]
        raise DataError(
            f"{csv.name}: the header names '{repeated[0]}' {len(numbers)} times (columns {', '.join(numbers)})",
            "rename one of them, or leave it out with --exclude",
        )
    return (*(name for name in chosen if name != target), target)


def _require(csv: CsvFormat, names: Sequence[str], what: str, flag: str) -> None:
    header = csv.header
    missing = [name for name in names if name not in header]
    if not missing:
        return
    message = f"{csv.name}: {what} {quoted(missing)} not found"
    if above := lines_above_header(csv, missing):
        raise DataError(f"{message} in line 1, but in line {above + 1}", f"--skip-rows {above}")
    if len(header) == 1:
        raise DataError(
            f"{message}; the header is a single column {header[0]!r}",
            f"columns may be separated by {', '.join(DELIMITERS.values())}",
        )
    guessed = csv.encoding in GUESSED_ENCODINGS
    raise DataError(
        f"{message}; columns are {quoted(header)}{did_you_mean(missing[0], header)}",
        f"the first line must name the columns; say which one with {flag}"
        + (f"; names were read as {csv.encoding}, as UTF-8 and UTF-16 do not fit the file" if guessed else ""),
    )


def _match_dataset(csv: CsvFormat, data: DataConfig, values: Sequence[str]) -> None:
    dataset = known_dataset(data)
    if dataset is None or set(values) == set(dataset.columns):
        return
    if not dataset.can_be_fetched and len(values) == len(dataset.columns) and dataset.target in values:
        return
    missing = [name for name in dataset.columns if name not in values]
    extra = [name for name in values if name not in dataset.columns]
    faults = [f"no {quoted(missing, 6)}"] if missing else []
    faults += [f"{quoted(extra, 6)} besides"] if extra else []
    raise DataError(
        f"{csv.name} is not {dataset.name}: its columns do not match ({'; '.join(faults)})",
        "use --dataset custom for a CSV of your own",
    )
