"""The text behind each picture of the documentation is what the tool still prints."""

import html
import re
from pathlib import Path

import pytest

from docs.make_pictures import (
    INSPECT,
    PICTURES,
    PREDICT,
    REPORT,
    chart_texts,
    chosen,
    masked,
    report_texts,
    resume_lines,
)
from tests.conftest import Cli
from tests.docs.test_commands_run import home, run_in

__all__ = ["home"]


def svg_lines(name: str) -> list[str]:
    """The lines of text in a picture of a terminal."""
    drawn = (PICTURES / name).read_text(encoding="utf-8")
    rows: dict[float, str] = {}
    for x, y, text in re.findall(r'<text [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', drawn):
        rows[float(y)] = rows.get(float(y), "").ljust(round(float(x) / 12.2)) + html.unescape(text).replace("\xa0", " ")
    return [line.rstrip() for _, line in sorted(rows.items()) if line.strip()]


@pytest.fixture(scope="module")
def quickstart(home: Path) -> Path:
    """A folder with a checkpoint of the quickstart with a tiny LLM."""
    run_in(home, "train", "--profile", "quickstart", "--max-steps", "2", "--window-stride", "2")
    return home


def test_the_picture_of_inspect_has_its_text(cli_process: Cli) -> None:
    printed = cli_process(*INSPECT.split(), COLUMNS="80", CUDA_VISIBLE_DEVICES="").stdout
    lines = [line.rstrip() for line in printed.partition(" On the CPU here")[0].splitlines() if line.strip()]
    assert len(lines) > 40
    assert [line.strip() for line in svg_lines("inspect.svg") if line.strip() in map(str.strip, lines)] == [
        line.strip() for line in lines
    ]


def test_the_picture_of_a_resumed_training_has_its_text(tmp_path: Path) -> None:
    said = {masked(line)[:100] for line in chosen(resume_lines(tmp_path))}
    shown = [masked(line)[:100] for line in svg_lines("resume.svg") if line.strip() != "exact resume"]
    assert len(shown) >= 8
    assert [line for line in shown if line not in said] == []


def test_the_picture_of_a_forecast_has_its_words(quickstart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    words: list[str] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (words.extend(chart_texts(self)), save(self, *a, **k)))
    run_in(quickstart, *PREDICT.split())
    shown = (PICTURES / "forecast.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(map(masked, words)) == sorted(map(masked, shown))
    assert (PICTURES / "forecast.png").stat().st_size > 20_000


def test_the_picture_of_the_report_has_its_headings(quickstart: Path) -> None:
    run_in(quickstart, *REPORT.split())
    page = (quickstart / "report.html").read_text(encoding="utf-8")
    shown = (PICTURES / "report.txt").read_text(encoding="utf-8").splitlines()
    assert list(map(masked, report_texts(page))) == list(map(masked, shown))
    assert (PICTURES / "report.png").stat().st_size > 20_000
