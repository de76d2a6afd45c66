"""Forecast many series on a Ray cluster: Parquet in, Parquet out, and a model in each actor.

    pip install 'timellm[ray]'
    python examples/ray_forecast.py checkpoints/RUN/best.pt 'history/*.parquet' forecasts/ --actors 2 --levels 80 95

The checkpoint is one of many series in a long table (`timellm train --id-column ...`). The rows are shared out by their
id, so that each batch holds whole series. `--gpus 1` gives each actor a GPU. A series that cannot be forecast is left
out, and named in `forecasts/skipped/`.
"""

import argparse
from pathlib import Path

import pandas as pd
import ray

from timellm_cli import DataError, Forecaster


class SeriesForecaster:
    """An actor: it loads the model once, then forecasts batch after batch."""

    def __init__(self, checkpoint: str, levels: list[int], skipped: str) -> None:
        self.forecaster = Forecaster.load(checkpoint, offline=True)
        self.levels, self.skipped = levels, Path(skipped)

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The forecasts of a batch of whole series; an empty frame where none can be forecast."""
        try:
            forecast = self.forecaster.predict(frame, levels=self.levels)
        except DataError as error:
            self._note({"(all series of a batch)": error.message})
            return pd.DataFrame()
        self._note(forecast.attrs.pop("skipped"))
        forecast.attrs.clear()
        return forecast

    def _note(self, skipped: dict[str, str]) -> None:
        if skipped:
            table = pd.DataFrame({"series": list(skipped), "why": list(skipped.values())})
            name = f"{table['series'].iloc[0].encode().hex()[:40]}.csv"
            table.to_csv(self.skipped / name, index=False)


def forecast_files(
    checkpoint: str,
    source: str,
    target: str,
    *,
    id_column: str,
    actors: int,
    gpus: float,
    batches: int,
    levels: list[int],
) -> None:
    """Forecast every series in the Parquet files of `source`, and write Parquet files to the folder `target`."""
    skipped = Path(target) / "skipped"
    skipped.mkdir(parents=True, exist_ok=True)
    table = ray.data.read_parquet(source).repartition(batches, keys=[id_column])
    forecasts = table.map_batches(
        SeriesForecaster,
        fn_constructor_args=(str(Path(checkpoint).absolute()), levels, str(skipped.absolute())),
        batch_format="pandas",
        batch_size=None,  # whole blocks, as they were shared out
        concurrency=actors,
        num_cpus=0.5,  # where actors claim every core, none is left to read the files
        num_gpus=gpus,
    )
    forecasts.write_parquet(str(Path(target).absolute()))


def main() -> None:
    """Read the arguments, and forecast."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("source", help="a Parquet file, a folder or a pattern of them")
    parser.add_argument("target", help="a folder for the forecasts")
    parser.add_argument("--id-column", default="unique_id")
    parser.add_argument("--actors", type=int, default=2, help="models at a time")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs for each actor")
    parser.add_argument("--batches", type=int, default=8, help="batches in all; about 500 series each is a good size")
    parser.add_argument("--levels", type=int, nargs="*", default=[])
    options = vars(parser.parse_args())
    forecast_files(options.pop("checkpoint"), options.pop("source"), options.pop("target"), **options)


if __name__ == "__main__":
    main()
