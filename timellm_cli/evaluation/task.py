"""What an evaluation scores: the trained dataset, another CSV with the same columns, or another dataset (zero-shot).

As in the literature (Time-LLM, section 4.4), the other dataset of a zero-shot evaluation is standardised by its own
training rows, and its own test rows are scored. Each channel is forecast from itself, so the number and the names of
the channels may differ from those of training.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timellm_cli.config import Config, DataConfig
from timellm_cli.data.columns import target_of
from timellm_cli.data.open_csv import open_csv
from timellm_cli.data.rows import read_rows
from timellm_cli.datasets import DATASETS, Dataset, description_of, known_dataset
from timellm_cli.splits import BORDERS


@dataclass(frozen=True)
class Task:
    """A split of the trained dataset, of the file `csv` that replaces it, or of another dataset, `zero_shot`.

    With `limit`, only the first so many windows of each channel are scored.
    """

    csv: Path | None = None
    zero_shot: str | None = None
    split: str = "test"
    limit: int | None = None


def stand_in(config: Config, path: Path) -> Config:
    """The configuration of a trained model for the rows of another file with the same columns.

    A file with all columns and rows of a known dataset is split at that dataset's borders, any other file by ratio. The
    prompt's description stays. Gaps are interpolated and counted. Raises DataError for a CSV that cannot be read.
    """
    dataset = known_dataset(config.data)
    shared = {"data.path": path, "data.fill": "linear"}
    custom = config.with_values({**shared, **_custom(config, target_of(config.data))})
    return config.with_values(shared) if dataset is not None and _is_whole(path, dataset, custom) else custom


def _is_whole(path: Path, dataset: Dataset, custom: Config) -> bool:
    csv = open_csv(path, None, custom.data)
    if set(csv.header) != {custom.data.date_column, *dataset.columns}:
        return False
    return dataset.month_rows is None or len(read_rows(csv, custom.data).stamps) >= BORDERS[-1] * dataset.month_rows


_DEFAULTS = {f"data.{name}": field.default for name, field in DataConfig.model_fields.items()}


def transfer(config: Config, other: str) -> Config:
    """The configuration of a trained model for the rows of `other`: the name of a known dataset, or a CSV.

    A file with the name and the columns of a known dataset counts as that dataset: it has the dataset's borders, and
    the prompt describes it. For any other CSV, the description of training stays. If the trained date column is absent,
    the first column has the dates; if the trained target is absent, the last column is the target. Gaps are
    interpolated and counted. Raises DataError for a CSV that cannot be read.
    """
    path = Path(other)
    shared = {"data.columns": (), "data.percent": 100, "data.fill": "linear", "data.folds": 1, "data.fold": None}
    if other in DATASETS and not path.exists():
        date_column = _DEFAULTS["data.date_column"]
        return config.with_values({**shared, **_known(other), "data.path": None, "data.date_column": date_column})
    header = open_csv(path, None, config.data).header
    date_column = config.data.date_column if config.data.date_column in header else header[0]
    columns = [name for name in header if name != date_column]
    shared |= {"data.path": path, "data.date_column": date_column}
    if path.stem in DATASETS and set(columns) == set(DATASETS[path.stem].columns):
        return config.with_values({**shared, **_known(path.stem)})
    target = target_of(config.data)
    return config.with_values(
        {**shared, **_custom(config, target if target in columns or not columns else columns[-1])}
    )


def _custom(config: Config, target: str) -> dict[str, Any]:
    description = description_of(config.data, config.prompt.description)
    return {"data.dataset": "custom", "data.target": target, "prompt.description": description}


def _known(dataset: str) -> dict[str, Any]:
    return {"data.dataset": dataset, "data.target": _DEFAULTS["data.target"], "prompt.description": None}
