"""Cells to numbers: decimal and thousands signs, and the texts that mark a cell without a value. Light."""

import re
from collections.abc import Callable, Iterator, Sequence

import polars as pl

from timellm_cli.config import DataConfig
from timellm_cli.data.csv_format import CsvFormat
from timellm_cli.errors import DataError
from timellm_cli.units import format_count

NO_VALUE = (
    "", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "NaT", "null", "NULL", "None", "-", "--",
    "#VALUE!", "#DIV/0!", "#REF!", "#NAME?", "#NUM!",
)  # fmt: skip
"""Texts of a cell without a value."""

_SPACES = " \u00a0\u202f"
"""A blank, and those that do not break and so part groups of digits in French and other languages."""
_NOT_GROUPED = r"^[+-]?(0\d*\.\d+|\d*\.(\d{0,2}|\d{4,})|\d{4,}(\.\d*)?)$|[eE]"
"""Numbers in which a dot cannot part groups of three digits."""


def numbers_of(csv: CsvFormat, name: str, data: DataConfig) -> pl.Expr:
    """A column of `csv.scan()` as numbers: null for a cell without a value, NaN for a text that is no number."""
    typed = csv.number(name)
    return to_number(csv.cell(name), data) if typed is None else typed


def decimal_sign(data: DataConfig) -> str:
    """The decimal sign of a configuration; where dots part groups of digits, it is a comma."""
    return "," if data.decimal == "," or (data.decimal == "detect" and data.thousands == ".") else "."


def to_number(text: pl.Expr, data: DataConfig) -> pl.Expr:
    """Texts as numbers: null for a cell without a value, NaN for any other text."""
    known: pl.Expr = pl.when(text.is_in([*NO_VALUE, *data.na]).not_()).then(text)
    known = known.str.replace("\u2212", "-", literal=True)
    if data.thousands == " ":
        known = known.str.replace_all(f"[{_SPACES}]", " ")
    plain = known if data.thousands == "none" else known.str.replace_all(data.thousands, "", literal=True)
    if decimal_sign(data) == ",":
        plain = plain.str.replace(",", ".", literal=True)
    number = plain.cast(pl.Float64, strict=False).fill_null(float("nan"))
    if data.thousands != "none":  # 12.34 is no number where a dot parts groups
        sign = re.escape(data.thousands)
        grouped = known.str.contains(rf"^[+-]?\d{{1,3}}({sign}\d{{3}})*([^\d{sign}]\d*)?$")
        plain_digits = ~known.str.contains(data.thousands, literal=True)
        number = pl.when(grouped | plain_digits).then(number).otherwise(float("nan"))
    return pl.when(known.is_not_null()).then(number)


def find_signs(csv: CsvFormat, sample: pl.DataFrame, data: DataConfig) -> DataConfig:
    """The configuration with the decimal and the thousands sign of a file, where they are certain.

    `sample` has the texts of the value columns in the first rows. Raises DataError where '1.001' may be a thousand and
    one: in a file that is not separated by commas, where every dot of a column could part groups of three digits and no
    cell says otherwise.
    """
    if data.decimal != "detect" or data.thousands != "none" or csv.delimiter == ",":
        return data
    texts = [column.drop_nulls() for column in sample]

    def have(pattern: str) -> bool:
        return any(text.str.contains(pattern).any() for text in texts)

    apart = rf"^[+-]?\d{{1,3}}([{_SPACES}]\d{{3}})+([.,]\d*)?$"
    if have(apart):
        is_comma = have(apart.replace("[.,]", ",")) and not have(r"^[+-]?[^,]*\.\d*$")
        return data.model_copy(update={"thousands": " ", **({"decimal": ","} if is_comma else {})})
    dots, commas = have(r"^[+-]?\d*\.\d*$"), have(r"^[+-]?[\d.]*\d,\d+$")
    if commas and have(r"^[+-]?\d{1,3}(\.\d{3})+,\d*$"):
        return data.model_copy(update={"decimal": ",", "thousands": "."})
    if commas and not dots and have(r"^[+-]?(\d*,(\d{1,2}|\d{4,})|0\d*,\d+|\d{4,},\d+)$"):
        return data.model_copy(update={"decimal": ","})
    for name, cell in _ambiguous_dots(csv, sample) if dots and not commas else ():
        raise DataError(
            f"{csv.name}, column '{name}': '{cell}' could be {cell.replace('.', '')} or {float(cell):g}",
            "say --thousands . (groups of digits) or --decimal . (decimal point)",
        )
    return data


def _ambiguous_dots(csv: CsvFormat, sample: pl.DataFrame) -> Iterator[tuple[str, str]]:
    """Name and first cell of each column in which every dot could part groups of three digits."""
    for column in sample:
        dotted = column.drop_nulls().filter(column.drop_nulls().str.contains(".", literal=True))
        if len(dotted) and dotted.str.contains(r"^[+-]?\d{1,3}(\.\d{3})$").all():
            certain = csv.cell(column.name).str.contains(_NOT_GROUPED).fill_null(False).any().alias("certain")
            if not csv.collect(csv.scan().select(certain)).item():
                yield column.name, str(dotted[0])


def no_number(csv: CsvFormat, row: int, numbers: pl.Series, repeats: bool) -> DataError:
    """The error of a cell in data row `row` that is text (NaN) or infinite. `numbers` is its whole column, named.

    `repeats`: timestamps repeat, so a column of texts may hold the ids of several series.
    """
    name = numbers.name
    line, cells = csv.find(row)
    where = f"{csv.name}, line {line}, column '{name}'"
    if numbers.is_infinite().any() and not numbers.is_nan().any():
        return DataError(f"{where}: the value is infinite", "leave the cell empty")
    cell, count = cells[csv.header.index(name)].strip(), int(numbers.is_nan().sum())
    more = f" ({count:,} such cells in the column)" if count > 1 else ""
    is_text = bool(numbers.drop_nulls().is_nan().all())
    if is_text and repeats:
        remedy = f"--id-column {quote(name)}, as timestamps repeat, so it may say which series a row is of"
        return DataError(f"{where}: '{cell}' is no number{more}", f"{remedy}; --exclude {quote(name)} leaves it out")
    return DataError(f"{where}: '{cell}' is no number{more}", _hint(cell, name))


def _hint(cell: str, name: str) -> str:
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?", cell):
        return "--thousands , where commas part groups of digits, or --decimal , where they are decimal commas"
    if re.fullmatch(r"[+-]?[\d.]*,\d+", cell):
        return "--decimal , reads decimal commas (with --thousands . where dots part groups of digits)"
    if re.fullmatch(r"[+-]?\d{1,3}(['\u00a0\u202f ]\d{3})+([.,]\d*)?", cell):
        sign = "'" if "'" in cell else " "
        return f'--thousands "{sign}" reads groups of digits' + (", --decimal , decimal commas" if "," in cell else "")
    if re.fullmatch(r"[$€£¥(]{0,2}[+-]?\d[\d.,]* ?[%A-Za-z°€)]{0,4}", cell) and not re.fullmatch(r"[\d.,+-]+", cell):
        return f"write numbers without units; --exclude {quote(name)} leaves the column out"
    return f"--na {quote(cell)} --fill linear, if it means 'no value'; --exclude {quote(name)} leaves the column out"


def quote(text: str) -> str:
    """A text as an argument of a command line."""
    return text if re.fullmatch(r"[\w?.#/-]+", text) else f'"{text}"'


def one_text(csv: CsvFormat, name: str) -> str | None:
    """The text that every row of a column has, if there is one."""
    distinct = csv.collect(csv.scan().select(csv.cell(name).drop_nulls().unique().head(2).alias("text")))["text"]
    return str(distinct[0]) if len(distinct) == 1 else None


def numbers_rows(numbers: pl.Series) -> bool:
    """Whether a column counts the rows from 0 or 1, as an index does."""
    return len(numbers) > 2 and numbers[0] in (0, 1) and bool((numbers.diff()[1:] == 1).fill_null(False).all())


def sentinels(frame: pl.DataFrame, when: Callable[[int], str]) -> Sequence[str]:
    """Notes on values such as -9999 that may stand for 'no value' and would spoil mean and deviation.

    `when` writes the timestamp of a row.
    """
    notes = []
    for column in frame:
        known = column.drop_nulls()
        for value in sorted(_SENTINELS & {known.min(), known.max()}):
            count, others = int((known == value).sum()), known.filter(known != value)
            if count * 2 < len(known) and _is_far(value, others):
                first = when(int((column == value).fill_null(False).arg_true()[0]))
                notes.append(
                    f"column '{column.name}' has {value:g} in {format_count(count, 'row')} (first at {first}), far "
                    f"from all other values; --na={value:g} --fill linear, if it means 'no value'"
                )
    return notes


_MARKS = (99.0, 99.9, 999.0, 999.9, 9999.0, 9999.9, 99999.0, 999999.0, 1e20, 1e30)
_SENTINELS = {*_MARKS, *(-mark for mark in _MARKS)}


def _is_far(value: float, others: pl.Series) -> bool:
    """Whether a value lies further from the nearest other value than those lie from each other."""
    low, high = others.min(), others.max()
    if not isinstance(low, float) or not isinstance(high, float):
        return False
    return min(abs(value - low), abs(value - high)) > high - low
