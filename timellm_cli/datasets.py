"""The datasets that timellm knows by name: shape, split, address, and the sentence that describes them. Light.

ETT is split into 12 months to train, 4 to validate and 4 to test, of 30 days each (Zhou et al., AAAI 2021, and
Time-LLM).
"""

from dataclasses import dataclass
from pathlib import Path

from timellm_cli.config import DataConfig
from timellm_cli.errors import ConfigError, did_you_mean
from timellm_cli.files import data_directory

_ETT_COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
_ETT_TEXT = (
    "Readings of an electricity transformer in a Chinese county, {cadence}: six power loads (high, middle and low, "
    "useful and useless) and the oil temperature OT, which tells how close to its limit the transformer works."
)

_SENSORS = (
    "1 Courthouse Lane", "107 Quay Street", "150 K Road", "183 K Road", "188 Quay Street Lower Albert (EW)",
    "188 Quay Street Lower Albert (NS)", "19 Shortland Street", "2 High Street", "205 Queen Street",
    "210 Queen Street", "261 Queen Street", "297 Queen Street", "30 Queen Street", "45 Queen Street",
    "59 High Street", "61 Federal Street", "7 Custom Street East", "8 Darby Street EW", "8 Darby Street NS",
    "Commerce Street West", "Te Ara Tahuhu Walkway",
)  # fmt: skip


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset without opening its file.

    `rows` counts the rows after filling. `sha256` is that of the CSV file. `month_rows` are the rows of a 30-day month
    where the split of 12, 4 and 4 months applies; None where ratios do.
    """

    name: str
    rows: int
    columns: tuple[str, ...]
    target: str
    description: str
    month_rows: int | None = None
    sha256: str | None = None
    url: str | None = None


def _ett(name: str, per_hour: int, sha256: str) -> Dataset:
    cadence = "every hour" if per_hour == 1 else f"every {60 // per_hour} minutes"
    return Dataset(
        name=name,
        rows=17_420 * per_hour,
        columns=_ETT_COLUMNS,
        target="OT",
        description=_ETT_TEXT.format(cadence=cadence),
        month_rows=30 * 24 * per_hour,
        sha256=sha256,
        url=f"https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/{name}.csv",
    )


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        _ett("ETTh1", 1, "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"),
        _ett("ETTh2", 1, "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b"),
        _ett("ETTm1", 4, "6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e"),
        _ett("ETTm2", 4, "db973ca252c6410a30d0469b13d696cf919648d0f3fd588c60f03fdbdbadd1fd"),
        Dataset(
            name="auckland-pedestrians",
            rows=17_544,
            columns=_SENSORS,
            target="210 Queen Street",
            description=(
                "People counted every hour by sensors on the footpaths of central Auckland; "
                "the counts follow the hours of the day, the days of the week, holidays and the weather."
            ),
        ),
    )
}


def known_dataset(data: DataConfig) -> Dataset | None:
    """The known dataset of a configuration, or None for 'custom'. Raises ConfigError for an unknown name."""
    if data.dataset == "custom":
        return None
    if data.dataset not in DATASETS:
        raise ConfigError(
            f"data.dataset '{data.dataset}' is not known{did_you_mean(data.dataset, [*DATASETS, 'custom'])}",
            f"known datasets: {', '.join(DATASETS)}; for your own CSV: --dataset custom --data-path FILE.csv",
        )
    return DATASETS[data.dataset]


def data_path(data: DataConfig) -> Path:
    """The path of the CSV, which may not exist. Raises ConfigError for a custom dataset without a path."""
    dataset = known_dataset(data)
    if data.path is not None:
        return data.path
    if dataset is None:
        raise ConfigError("data.dataset is 'custom', but data.path is not set", "add --data-path FILE.csv")
    return data_directory() / f"{dataset.name}.csv"


def name_of(data: DataConfig) -> str:
    """The name of the data for people: the dataset's, or the file's where it differs."""
    path = data_path(data)
    return data.dataset if path.stem == data.dataset else path.name


def csv_named(text: str | Path) -> Path:
    """A path; where it does not exist but is a known dataset's name, that dataset's file in the cache."""
    path = Path(text)
    return data_directory() / f"{path}.csv" if str(path) in DATASETS and not path.exists() else path


def description_of(data: DataConfig, description: str | None) -> str:
    """The description in the prompt: the configured one, else the dataset's, else a sentence that fits any CSV."""
    dataset = known_dataset(data)
    if description is not None:
        return description
    return dataset.description if dataset else "Measurements taken at equal steps of time."


def fetch_command(*names: str) -> str:
    """The command line that fetches these."""
    return " ".join(("timellm fetch", *names))


def remedy_for_data(data: DataConfig) -> str:
    """What to do when the CSV of a configuration is absent: the command that fetches it, or what to give instead."""
    if data.path is None and data.dataset in DATASETS:
        return fetch_command(data.dataset)
    return "give the path of an existing CSV: --data-path FILE.csv"
