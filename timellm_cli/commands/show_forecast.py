"""The picture of a forecast, with the notes that its reader needs: what every kind of `predict` shows."""

from pathlib import Path

from timellm_cli.console import print_note
from timellm_cli.files import writing
from timellm_cli.report.forecast import Forecast, plot_forecast


def draw(forecast: Forecast, path: Path) -> None:
    """Write the picture of a forecast, and print what its reader must know."""
    with writing(path):
        notes = plot_forecast(forecast, path)
    for note in notes:
        print_note(note)
