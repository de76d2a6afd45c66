"""What text is worth on a holiday whose name no training row had, against a plain flag "public holiday".

    python benchmarks/unseen_holidays.py [pedestrians] [metro] [--jobs N] [--minutes M] [--results FOLDER] [--seeds N]
        [--only NAME]

Each holiday is left out in turn: of the rows before the test rows, its days lose their values and their event. Then
the model is scored on that holiday's days in the test rows, which are a larger share of the table than usual, so that
there are enough of them. Holidays are those of package `holidays`; lockdowns stay known.

Readers: `nothing`; `flag`, a column "public holiday" for every holiday; `columns`, one for each name (no column for
the name left out, but the flag "something"); `text`, the name, by SmolLM2; `note`, the name and what it means for
shops or offices, in plain words; `random`, the name, by SmolLM2 with drawn weights; `seen`, the text with nothing left
out.
"""

import argparse
import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import polars as pl
from day_runs import MODEL, Outcome, Run, load_outcome, run_all

from timellm_cli.closed_days import holidays_of
from timellm_cli.data.events import read_events
from timellm_cli.evaluation.day_errors import DayErrors
from timellm_cli.evaluation.seeds import T_975, differ
from timellm_cli.files import data_directory

FIRST_SEED = 2021
READERS: dict[str, list[str]] = {
    "nothing": [],
    "flag": ["--text-reader", "columns"],
    "columns": ["--text-reader", "columns"],
    "text": ["--text-llm", "smollm2-135m"],
    "note": ["--text-llm", "smollm2-135m"],
    "random": ["--text-llm", "smollm2-135m", "--text-llm-weights", "random"],
    "seen": ["--text-llm", "smollm2-135m"],
}
WHOLE = ("nothing", "seen")
"""Readers for which no holiday is left out."""
_CLOSED, _OPEN = "shops are closed by law", "shops may open"


@dataclasses.dataclass(frozen=True)
class Table:
    """A dataset: the place of its holidays, shares of its rows, and training. `notes` are by a holiday's name; the
    note of the others is `else_note`. `columns` are the channels, by default all.
    """

    dataset: str
    place: str
    train: float
    test: float
    options: tuple[str, ...]
    notes: Mapping[str, str]
    else_note: str
    columns: tuple[str, ...] = ()


TABLES = {
    # The Shop Trading Hours Act 1990 closes shops on these days (and on Easter Sunday, which is no public holiday).
    "pedestrians": Table(
        "auckland-pedestrians-2019", "NZ-AUK", 0.55, 0.35,
        ("--batch-size", "256", "--epochs", "3", "--window-stride", "7"),
        {"Good Friday": _CLOSED, "Christmas Day": _CLOSED, "Anzac Day": f"{_CLOSED} until 13:00"}, _OPEN,
        ("150 K Road", "45 Queen Street", "Te Ara Tahuhu Walkway", "210 Queen Street"),
    ),
    # The Bureau of Labor Statistics: the holidays that most private employers pay.
    "metro": Table(
        "metro-traffic", "US-MN", 0.35, 0.58,
        ("--batch-size", "128", "--epochs", "4"),
        dict.fromkeys(
            ("New Year's Day", "Memorial Day", "Independence Day", "Labor Day", "Thanksgiving Day", "Christmas Day"),
            "most people do not work",
        ),
        "most people work",
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Days:
    """The holidays of a table by their common name, and the last day before its test rows."""

    of_name: dict[str, tuple[date, ...]]
    last: date

    def tested(self) -> list[str]:
        """The names with a day in the test rows."""
        return sorted(name for name, days in self.of_name.items() if any(day > self.last for day in days))


def find_days(table: Table, frame: pl.DataFrame) -> Days:
    """The holidays of a table's days. The King's Birthday is the Queen's."""
    stamps = frame["date"].str.to_datetime()
    found: dict[str, list[date]] = {}
    for year in range(stamps[0].year, stamps[-1].year + 1):
        for day, names in holidays_of(table.place, year).items():
            for name in names:
                found.setdefault(name.replace("Queen's", "King's"), []).append(day)
    hours = stamps.dt.truncate("1h")
    whole = int((hours[-1] - hours[0]).total_seconds() // 3600) + 1
    border = hours[0] + timedelta(hours=whole - int(whole * table.test))
    first, last = stamps[0].date(), stamps[-1].date()
    inside = {name: tuple(day for day in days if first <= day <= last) for name, days in found.items()}
    return Days(inside, border.date())


def write_table(path: Path, frame: pl.DataFrame, left_out: Sequence[date]) -> None:
    """The table without the values of these days."""
    is_out = frame["date"].str.to_datetime().dt.date().is_in(list(left_out))
    values = [pl.when(is_out).then(None).otherwise(pl.col(name)).alias(name) for name in frame.columns[1:]]
    frame.with_columns(values).write_csv(path)


def write_events(path: Path, table: Table, days: Days, reader: str, left_out: Sequence[date]) -> None:
    """Events for a text reader: those known of the dataset, and every holiday except on these days."""
    rows = []
    if table.dataset == "auckland-pedestrians-2019":
        rows += [(one.first, one.last, one.text) for one in read_events(table.dataset)]
    for name, own in days.of_name.items():
        note = f"; {table.notes.get(name, table.else_note)}" if reader == "note" else ""
        text = "public holiday" if reader == "flag" else f"{name}, public holiday{note}"
        rows += [(day, day, text) for day in own if day not in left_out]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("start", "end", "text"), *sorted(rows)])


def runs_of(name: str, seeds: int, folder: Path, only: str = "") -> tuple[list[Run], Days]:
    """Every run of a table, whose files are written to `folder`; of holidays whose names have `only` in them."""
    table, runs = TABLES[name], []
    frame = pl.read_csv(data_directory() / f"{table.dataset}.csv")
    frame = frame.select("date", *table.columns) if table.columns else frame
    days = find_days(table, frame)
    folder.mkdir(parents=True, exist_ok=True)
    for left_out in [None, *(one for one in days.tested() if only in one)]:
        gone = [day for day in days.of_name.get(left_out or "", ()) if day <= days.last]
        label = "-".join((left_out or "none").lower().replace("'", "").split())
        path = folder / f"{name}-{label}.csv"
        write_table(path, frame, gone)
        for reader in [one for one in READERS if (one in WHOLE) == (left_out is None)]:
            told = folder / f"{name}-{label}-{reader}.csv"
            write_events(told, table, days, reader, gone)
            text = [] if reader == "nothing" else ["--weekday-text", "weekday", "--events", str(told)]
            options = ["--data-path", str(path), "--dataset", "custom", "--train-ratio", str(table.train)]
            options += ["--test-ratio", str(table.test), *MODEL, "--seq-len", "168", "--pred-len", "24"]
            options += ["--target", frame.columns[-1], *table.options, *text, *READERS[reader]]
            runs += [
                Run(f"{name}-{label}-{reader}-seed{seed}", (*options, "--seed", str(seed)))
                for seed in range(FIRST_SEED, FIRST_SEED + seeds)
            ]
    return runs, days


def compare(name: str, seeds: int, days: Days, results: Path) -> dict[str, Any]:
    """MSE of each reader on the days of the holidays left out, of each holiday and of all together."""
    found: dict[str, dict[str, list[tuple[DayErrors, list[date]]]]] = {}
    for left_out in days.tested():
        label = "-".join(left_out.lower().replace("'", "").split())
        scored = [day for day in days.of_name[left_out] if day > days.last]
        for reader in READERS:
            own = [_outcome(results, name, "none" if reader in WHOLE else label, reader, n) for n in range(seeds)]
            if all(own):
                found.setdefault(reader, {})[left_out] = [(one.errors, scored) for one in own if one]
    whole = [one for one in days.tested() if len(found) == len(READERS) and all(one in own for own in found.values())]
    if not whole:
        return {"days": {}}
    sums = {reader: [_by_day([own[one][n] for one in whole]) for n in range(seeds)] for reader, own in found.items()}
    return {
        "days": {one: sum(day > days.last for day in days.of_name[one]) for one in whole},
        "counted": len(sums["flag"][0]),
        "mse": {reader: mean(_mse(seed) for seed in own) for reader, own in sums.items()},
        "seeds": {reader: [_mse(seed) for seed in own] for reader, own in sums.items()},
        "of_holiday": {
            reader: {one: mean(_mse(_by_day([own[one][n]])) for n in range(seeds)) for one in whole}
            for reader, own in found.items()
        },
        "against": {
            f"{ours} - {theirs}": _against(sums[ours], sums[theirs])
            for ours, theirs in (("text", "flag"), ("note", "flag"), ("random", "flag"), ("columns", "flag"),
                                 ("random", "text"), ("note", "text"), ("flag", "nothing"), ("text", "nothing"))
            if ours in sums and theirs in sums
        },
    }  # fmt: skip


def _outcome(results: Path, name: str, label: str, reader: str, number: int) -> Outcome | None:
    return load_outcome(results, f"{name}-{label}-{reader}-seed{FIRST_SEED + number}")


def _by_day(parts: Sequence[tuple[DayErrors, list[date]]]) -> dict[date, "np.ndarray[Any, Any]"]:
    """The sum of squared errors and the number of targets of each scored day."""
    found: dict[date, np.ndarray[Any, Any]] = {}
    for errors, scored in parts:
        for day in set(scored) & set(errors.days):
            place = errors.days.index(day)
            sums = np.array([errors.squared_CD[:, place].sum(), errors.known_CD[:, place].sum()])
            found[day] = found.get(day, 0) + sums
    return found


def _mse(by_day: Mapping[date, "np.ndarray[Any, Any]"]) -> float:
    squared, known = np.sum(list(by_day.values()), axis=0)
    return float(squared / known)


def _against(ours: Sequence[Mapping[date, Any]], theirs: Sequence[Mapping[date, Any]]) -> dict[str, Any]:
    """Their difference, with 95 % intervals over seeds, and over days (holidays stand alone, so a day is a block)."""
    seeds = differ([_mse(one) for one in ours], [_mse(one) for one in theirs])
    days = sorted(ours[0])
    left, right = (np.mean([[seed[day] for day in days] for seed in side], axis=0) for side in (ours, theirs))
    known_D, difference_D = left[:, 1], left[:, 0] - right[:, 0]
    middle, count = difference_D.sum() / known_D.sum(), len(days)
    spread = (count / (count - 1) * np.square(difference_D - middle * known_D).sum()) ** 0.5 / known_D.sum()
    reach = T_975[min(count - 1, len(T_975)) - 1] * spread
    return {
        "mean": seeds.mean, "relative": seeds.relative, "seeds": [seeds.low, seeds.high],
        "days": [float(middle - reach), float(middle + reach)],
    }  # fmt: skip


def print_table(name: str, found: dict[str, Any]) -> None:
    """A column for each reader, a row for each holiday."""
    readers = list(found["mse"])
    print(f"\n{name}: MSE on the days of holidays left out, {found['counted']} days")
    print(f"{'':34}" + "".join(f"{reader:>9}" for reader in readers))
    for one, days in found["days"].items():
        print(f"{one:30} {days:2} " + "".join(f"{found['of_holiday'][reader][one]:9.4f}" for reader in readers))
    print(f"{'all':34}" + "".join(f"{found['mse'][reader]:9.4f}" for reader in readers))
    for pair, one in found["against"].items():
        seeds = "-" if one["seeds"][0] is None else " to ".join(f"{bound:+.4f}" for bound in one["seeds"])
        days = " to ".join(f"{bound:+.4f}" for bound in one["days"])
        print(f"{pair}: {one['mean']:+.4f} ({one['relative']:+.1%}); over seeds {seeds}; over days {days}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=list(TABLES), metavar="TABLE")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--results", type=Path, default=Path("unseen_holidays"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="Leave out only holidays with this in their name.")
    options = parser.parse_args()
    if unknown := [name for name in options.tables if name not in TABLES]:
        parser.error(f"no table is called {', '.join(unknown)}; there are {', '.join(TABLES)}")
    made = {name: runs_of(name, options.seeds, options.results / "tables", options.only) for name in options.tables}

    def on_end(run: Run, worked: bool) -> None:
        print(run.name if worked else f"{run.name}: FAILED, see its log", flush=True)

    runs = [run for own, _ in made.values() for run in own]
    failed = run_all(runs, options.jobs, options.minutes, options.results, on_end)
    for name, (_, days) in made.items():
        found = compare(name, options.seeds, days, options.results)
        if not found["days"]:
            continue
        (options.results / f"{name}.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
        print_table(name, found)
    if failed:
        print(f"{len(failed)} runs have no result: {', '.join(failed[:20])}")


if __name__ == "__main__":
    main()
