"""What an evaluation scores.

Another CSV of the trained columns in the place of the file that a model was trained on.

Zero-shot: a trained model forecasts a dataset that it has never seen.

As in the literature (Time-LLM, section 4.4), the other dataset is standardised by its own training rows and scored on
its own test rows. Each channel is forecast alone, so neither their number nor their names have to be those of training.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timellm_cli.config import Config, DataConfig
from timellm_cli.data.columns import target_of
from timellm_cli.data.probe import probe_csv
from timellm_cli.data.source import open_source
from timellm_cli.datasets import DATASETS, Dataset, description_of, known_dataset
from timellm_cli.geometry import BORDERS


@dataclass(frozen=True)
class Task:
    """A split of the trained dataset, or of the CSV `given` in its place, or of another dataset, `zero_shot`.

    `limit` takes the first so many windows of each channel.
    """

    given: Path | None = None
    zero_shot: str | None = None
    split: str = "test"
    limit: int | None = None


def stand_in(config: Config, path: Path) -> Config:
    """The configuration of a trained model with the rows of `path`.

    The borders of a known dataset hold for a file that has all of its columns and rows; any other one is split by
    ratio. What the prompt says of the data stays; gaps are interpolated and counted. Raises DataError for a CSV that
    cannot be read.
    """
    dataset = known_dataset(config.data)
    custom = config.with_values(
        {
            "data.path": path,
            "data.fill": "linear",
            "data.dataset": "custom",
            "data.target": target_of(config.data),
            "prompt.description": description_of(config.data, config.prompt.description),
        }
    )
    if dataset is not None and _is_whole(path, dataset, custom):
        return config.with_values({"data.path": path, "data.fill": "linear"})
    return custom


def _is_whole(path: Path, dataset: Dataset, custom: Config) -> bool:
    header = open_source(path, None, custom.data.date_column).header
    if set(header) != {custom.data.date_column, *dataset.columns}:
        return False
    return dataset.month_rows is None or probe_csv(path, custom.data).rows >= BORDERS[-1] * dataset.month_rows


_DEFAULTS = {f"data.{name}": field.default for name, field in DataConfig.model_fields.items()}


def transfer(config: Config, other: str) -> Config:
    """The configuration of a trained model, with the rows of `other`: a known dataset's name, or a CSV.

    A file that has the name and the columns of a known dataset has its borders, too. The prompt describes the known
    dataset; of any other CSV nothing is known, and the description that the model was trained with stays. Its gaps are
    interpolated and counted, its date column is the first where the trained one is absent, and its target the last.
    Raises DataError for a CSV that cannot be read.
    """
    path = Path(other)
    shared = {"data.columns": (), "data.percent": 100, "data.fill": "linear"}
    if other in DATASETS and not path.exists():
        date_column = _DEFAULTS["data.date_column"]
        return config.with_values({**shared, **_known(other), "data.path": None, "data.date_column": date_column})
    header = open_source(path, None, config.data.date_column).header
    date_column = config.data.date_column if config.data.date_column in header else header[0]
    columns = [name for name in header if name != date_column]
    shared |= {"data.path": path, "data.date_column": date_column}
    if path.stem in DATASETS and set(columns) == set(DATASETS[path.stem].columns):
        return config.with_values({**shared, **_known(path.stem)})
    target = target_of(config.data)
    return config.with_values(
        {
            **shared,
            "data.dataset": "custom",
            "data.target": target if target in columns or not columns else columns[-1],
            "prompt.description": description_of(config.data, config.prompt.description),
        }
    )


def _known(dataset: str) -> dict[str, Any]:
    return {"data.dataset": dataset, "data.target": _DEFAULTS["data.target"], "prompt.description": None}
