"""The card of a shared run: what it is, its figures beside the baselines', and how to use it. Light."""

from collections.abc import Mapping, Sequence
from typing import Any

from timellm_cli.config import Config
from timellm_cli.datasets import description_of


def model_card(
    name: str, config: Config, metrics: Mapping[str, float], figures: Mapping[str, Any] | None, columns: Sequence[str]
) -> str:
    """The card in Markdown. `figures` are what `timellm eval --json` printed; without them the errors stand alone."""
    window, llm = config.window, config.llm
    lines = [
        "---",
        "library_name: timellm",
        "pipeline_tag: time-series-forecasting",
        "tags: [time-series, time-llm]",
        "---",
        "",
        f"# {name.rpartition('/')[2]}",
        "",
        f"Time-LLM, trained with `timellm`. It reads {window.seq_len} rows and forecasts {window.pred_len}.",
        "",
        f"- Data: {description_of(config.data, config.prompt.description)}",
        f"- Columns: {', '.join(columns)}",
        f"- LLM: {llm.name}, layers {llm.layers}, frozen, not part of this repository",
        f"- Training: {config.train.epochs} epochs at most, loss {config.train.loss}, seed {config.train.seed}",
        "",
        "## How good it is",
        "",
        *(_figures(figures) if figures else _alone(metrics)),
        "",
        "## How to use it",
        "",
        "```",
        f"timellm pull {name}",
        f"timellm predict checkpoints/{name.rpartition('/')[2]}/best.pt INPUT.csv",
        "```",
        "",
    ]
    return "\n".join(lines)


def _figures(figures: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Errors over {figures['samples']:,} samples of the {figures['split']} rows, in standardised units; "
        "the baselines were scored on the same windows.",
        "",
        "| | MSE | MAE |",
        "|---|---|---|",
        *(f"| {entry['name']} | {entry['mse']:.4f} | {entry['mae']:.4f} |" for entry in figures["entries"]),
        "",
    ]
    return [*lines, *(f"- {verdict['sentence']}" for verdict in figures.get("verdicts", ()))]


def _alone(metrics: Mapping[str, float]) -> list[str]:
    shown = [
        f"{key.replace('_', ' ')} {metrics[key]:.4f}" for key in ("val_mse", "test_mse", "test_mae") if key in metrics
    ]
    found = f"Errors of the best epoch, in standardised units: {', '.join(shown)}." if shown else "It was not scored."
    return [found, "", "It was not compared with baselines: these figures alone do not say whether it is good."]
