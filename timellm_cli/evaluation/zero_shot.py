"""Zero-shot: a trained model forecasts a dataset that it has never seen.

As in the literature (Time-LLM, section 4.4), the other dataset is standardised by its own training rows and scored on
its own test rows. Each channel is forecast alone, so neither their number nor their names have to be those of training.
"""

from pathlib import Path
from typing import Any

from timellm_cli.config import Config, DataConfig
from timellm_cli.data.columns import target_of
from timellm_cli.data.source import open_source
from timellm_cli.datasets import DATASETS, description_of

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
