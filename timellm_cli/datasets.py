"""The datasets that timellm knows by name (`known_datasets.toml`), and where the CSV of a configuration lies. Light."""

import tomllib
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from timellm_cli.config import DataConfig
from timellm_cli.errors import ConfigError, DataError, did_you_mean
from timellm_cli.files import data_directory


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset without opening its file.

    `rows` counts the rows after filling. `sha256` is that of the CSV file. `month_rows` are the rows of a 30-day month
    where the split of 12, 4 and 4 months applies; None where ratios do. `where` says how the user comes by a file that
    timellm does not fetch; its columns have garbled names in some copies, so that they are only counted.
    """

    name: str
    rows: int
    columns: tuple[str, ...]
    target: str
    description: str
    month_rows: int | None = None
    sha256: str | None = None
    url: str | None = None
    where: str = ""

    @property
    def can_be_fetched(self) -> bool:
        """Whether `timellm fetch` gets it."""
        return not self.where


@dataclass(frozen=True)
class M4Part:
    """A part of the M4 competition: the rows to forecast, and those of a season (Makridakis et al., 2020)."""

    horizon: int
    season: int


M4_PARTS = {
    "Yearly": M4Part(6, 1), "Quarterly": M4Part(8, 4), "Monthly": M4Part(18, 12), "Weekly": M4Part(13, 1),
    "Daily": M4Part(14, 1), "Hourly": M4Part(48, 24),
}  # fmt: skip


def _read_known() -> dict[str, Dataset]:
    table = tomllib.loads(Path(__file__).with_name("known_datasets.toml").read_text(encoding="utf-8"))
    known = {}
    for entry in table["dataset"]:
        numbered = map(str, range(entry.pop("numbered", 0)))
        known[entry["name"]] = Dataset(**entry | {"columns": (*numbered, *entry["columns"])})
    return known


DATASETS = _read_known()


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


_ENDINGS = (".csv", ".csv.gz", ".tsv", ".txt", ".parquet")


def holds_several(path: Path) -> bool:
    """Whether a path stands for several files: a folder, or a pattern such as shops/*.csv."""
    return path.is_dir() or (any(sign in str(path) for sign in "*?[") and not path.exists())


def data_files(path: Path) -> list[Path]:
    """The files that a path stands for, by name. Raises DataError where a folder or a pattern has none."""
    if not holds_several(path):
        return [path]
    if path.is_dir():
        found = [file for file in path.iterdir() if file.is_file() and file.name.lower().endswith(_ENDINGS)]
    else:
        found = [Path(name) for name in glob(str(path), recursive=True) if Path(name).is_file()]  # noqa: PTH207
    if not found:
        what = f"the folder '{path}' has no CSV file" if path.is_dir() else f"no file matches '{path}'"
        raise DataError(what, f"names of data files end in {', '.join(_ENDINGS)}")
    return sorted(found)


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
        dataset = DATASETS[data.dataset]
        return (
            fetch_command(dataset.name)
            if dataset.can_be_fetched
            else f"{dataset.where}; then --data-path FILE.csv, or put it there"
        )
    return "give the path of an existing CSV: --data-path FILE.csv"
