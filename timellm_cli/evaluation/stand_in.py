"""Another CSV of the trained columns in the place of the file that a model was trained on."""

from pathlib import Path

from timellm_cli.config import Config
from timellm_cli.data.columns import target_of
from timellm_cli.data.probe import probe_csv
from timellm_cli.data.source import open_source
from timellm_cli.datasets import Dataset, description_of, known_dataset
from timellm_cli.geometry import BORDERS


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
