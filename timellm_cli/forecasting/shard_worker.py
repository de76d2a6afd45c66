"""A process that forecasts parts of a panel: started by `processes.py` as `python -m`, with a folder of parts.

It reads the number of a part from each line of its input, and answers each with one line of JSON. Its input ends when
the process that started it ends, however that ends.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from timellm_cli.data.columns import date_columns
from timellm_cli.data.forecast_input import read_known_rows
from timellm_cli.errors import ExitCode, as_users_error
from timellm_cli.forecasting.dated_forecast import Shape
from timellm_cli.forecasting.known_ahead import know_ahead
from timellm_cli.forecasting.open_checkpoint import config_for, open_checkpoint
from timellm_cli.forecasting.panel import PanelForecasts, Wanted
from timellm_cli.forecasting.shards import Part, Shards
from timellm_cli.model.runner import gpu_memory_errors
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.report.forecast_file import Layout, parquet_of
from timellm_cli.training.checkpoint import load_checkpoint


class ShardWorker:
    """The model, the rows and the layout of a job, ready to forecast its parts."""

    def __init__(self, shards: Shards) -> None:
        job = self._job = shards.job()
        self._shards = shards
        trained = load_checkpoint(Path(job.checkpoint))
        config = config_for(trained, job.device, Path(job.source), job.llm, job.changes)
        self._rows = read_known_rows(Path(job.source), config, trained.columns, trained.date_format, is_panel=True)
        runner, _ = open_checkpoint(trained, config, look_at_machine(), offline=True)
        wanted = Wanted(job.steps, Shape(tuple(job.levels), job.lowest, job.is_sum), job.at, job.strict)
        future = Path(job.future) if job.future else None
        known = know_ahead(trained, config, Path(job.source), job.steps, future)
        self._panel = PanelForecasts(trained, config, runner, job.batch_size, wanted, job.at_once, known)
        self._layout = Layout(self._rows.csv, date_columns(self._rows.csv, config.data), config.data.is_wide)

    def forecast(self, number: int) -> None:
        """Forecast one part and write it. Raises DataError for a bad series where the job is strict."""
        self._panel.skipped.clear()
        count = 0

        def add(series: int) -> None:
            nonlocal count
            count += series

        with gpu_memory_errors():
            forecasts = list(self._panel.forecasts(self._rows, [number], add))
        header, content = "", b""
        if self._job.suffix == ".parquet" and forecasts:
            content = parquet_of([self._layout.frame(forecast) for forecast in forecasts])
        elif forecasts:
            layout, newline = self._layout, self._layout.csv.newline
            first, rest = (layout.text(forecasts[0], header=header, newline=newline) for header in (True, False))
            header = layout.mark + first.removesuffix(rest)
            content = "".join(layout.text(one, header=False, newline=newline) for one in forecasts).encode()
        rows = sum(len(one.dates) for one in forecasts)
        self._shards.write(number, content, Part(count, rows, dict(self._panel.skipped), header))


def answers(shards: Shards, lines: TextIO) -> Iterator[dict[str, Any]]:
    """One answer for being ready, then one for each part; an error ends them."""
    try:
        worker = ShardWorker(shards)
        yield {"ready": True}
        for line in lines:
            number = int(line)
            worker.forecast(number)
            yield {"done": number}
    except Exception as error:
        known = as_users_error(error)
        if known is None:
            yield {"error": f"{type(error).__name__}: {error}", "hint": "", "code": int(ExitCode.BUG)}
        else:
            yield {"error": known.message, "hint": known.hint, "code": int(known.exit_code)}


def main() -> None:
    """Answer on the stream that was stdout; what libraries print there goes to stderr."""
    replies = sys.stdout
    sys.stdout = sys.stderr
    for answer in answers(Shards(Path(sys.argv[1])), sys.stdin):
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
