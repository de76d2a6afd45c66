"""Options and arguments of `train`, `eval` and `predict` that are no configuration. Light."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from timellm_cli import completion

Resume = Annotated[
    str | None,
    typer.Option(
        "--resume",
        metavar="PATH|auto",
        autocompletion=completion.resumable,
        help="Continue a checkpoint; auto: this run's last one.",
    ),
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="CHECKPOINT",
        autocompletion=completion.checkpoints,
        help="Begin with its weights; data, epochs and rates are free.",
    ),
]
WhichScaler = Annotated[
    Literal["auto", "old", "new"],
    typer.Option("--scaler", help="With --from: the checkpoint's scaler, a new one, or the one that scores lower."),
]
Seeds = Annotated[
    int | None,
    typer.Option("--seeds", min=1, help="Train under so many seeds, one run each, and report mean and spread."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress and no notes: the result and errors alone.")]
ReportTo = Annotated[
    Literal["tensorboard", "swanlab", "wandb", "mlflow"] | None,
    typer.Option("--report-to", help="Send losses and scores there as well, where it is installed."),
]

Evaluated = Annotated[
    list[Path],
    typer.Argument(metavar="CHECKPOINT...", autocompletion=completion.checkpoints, help="Checkpoints, or a forecast."),
]
Csv = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        metavar="FILE.csv",
        autocompletion=completion.tables,
        help="Score on this CSV, not the trained one.",
    ),
]
ZeroShot = Annotated[
    str | None,
    typer.Option(
        "--zero-shot",
        metavar="FILE.csv|DATASET",
        autocompletion=completion.tables,
        help="Score on another dataset than the trained one.",
    ),
]
Split = Annotated[Literal["train", "val", "test"], typer.Option("--split", help="Which rows to score.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Score only the first so many windows.")]
AtATime = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Samples at a time; changes no figure. Default: what fits, 256 at most."),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.html", help="Write one page with verdict, table, charts and forecasts."),
]
Metrics = Annotated[
    bool, typer.Option("--metrics", help="Show RMSE, WQL, sMAPE and errors in the CSV's units as well.")
]
Against = Annotated[
    Path | None,
    typer.Option("--against", metavar="ACTUAL.csv", help="Score a file of forecasts on what happened."),
]
Baselines = Annotated[
    str | None,
    typer.Option(
        "--baselines", metavar="auto_ets,auto_arima,theta", help="Fit these as well, on windows at equal distances."
    ),
]
BaselineMinutes = Annotated[
    float, typer.Option("--baseline-minutes", min=0, help="Time for all of --baselines together.")
]

OneCheckpoint = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        autocompletion=completion.checkpoints,
        help="Such as checkpoints/RUN/best.pt.",
    ),
]
History = Annotated[
    str,
    typer.Argument(
        metavar="INPUT.CSV",
        autocompletion=completion.tables,
        help="History to continue: a CSV, a fetched dataset's name, or '-' (standard input).",
    ),
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write the forecast here instead of stdout.")]
At = Annotated[
    str | None, typer.Option("--at", metavar="TIMESTAMP", help="Forecast as if this were the last known row.")
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, max=1_000_000, help="Rows to forecast; beyond pred_len it rolls forward."),
]
Levels = Annotated[
    str | None,
    typer.Option("--levels", metavar="80,95", help="Add bands that hold so many percent of what happens."),
]
Future = Annotated[
    Path | None,
    typer.Option("--future", metavar="FILE.csv", help="The columns that are known ahead (--future-columns)."),
]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw history and forecast.")]
Strict = Annotated[bool, typer.Option("--strict", help="Of many series, stop at the first that cannot be forecast.")]
Lowest = Annotated[
    float | None,
    typer.Option("--min", metavar="NUMBER", help="No value or band goes below this, such as 0 for counts."),
]
IsSum = Annotated[
    bool, typer.Option("--sum", help="One row with the sum of all steps, such as next week's total, and its bands.")
]
