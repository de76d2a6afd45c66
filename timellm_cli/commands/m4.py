"""`timellm m4`: a forecast of a part of M4, scored as in the competition: sMAPE, MASE, OWA against Naive2."""

from pathlib import Path

from rich.text import Text

from timellm_cli.console import as_is, out, print_json
from timellm_cli.datasets import M4_PARTS
from timellm_cli.errors import ConfigError, did_you_mean
from timellm_cli.evaluation.m4 import read_series, score_m4
from timellm_cli.report.tables import titled_table


def run(forecast: Path, train: Path, test: Path, part: str | None, *, as_json: bool) -> None:
    """Score a file with a series in each line, as `timellm predict` writes it from M4's training file.

    Raises ConfigError for an unknown part, DataError for a file that cannot be read or lacks a series.
    """
    name = part or test.name.partition("-")[0]
    if name not in M4_PARTS:
        raise ConfigError(
            f"'{name}' is no part of M4{did_you_mean(name, M4_PARTS)}", f"say which: --part {', '.join(M4_PARTS)}"
        )
    found = score_m4(read_series(train), read_series(test), read_series(forecast), M4_PARTS[name].season)
    if as_json:
        figures = {"smape": found.smape, "mase": found.mase, "owa": found.owa}
        naive = {"smape": found.naive2_smape, "mase": found.naive2_mase, "owa": 1.0}
        print_json({"part": name, "series": found.series, "forecast": figures, "naive2": naive})
        return
    table = titled_table(f"M4 {name}, {found.series:,} series")
    table.add_column("forecast")
    for heading in ("sMAPE", "MASE", "OWA"):
        table.add_column(heading, justify="right")
    table.add_row(as_is(forecast.name), f"{found.smape:.3f}", f"{found.mase:.3f}", f"{found.owa:.3f}")
    table.add_row("Naive2", f"{found.naive2_smape:.3f}", f"{found.naive2_mase:.3f}", "1.000")
    out.print(table)
    better = "better than" if found.owa < 1 else "no better than"
    out.print(Text(f"By OWA the forecast is {better} Naive2."))
