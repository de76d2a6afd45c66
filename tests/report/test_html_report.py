"""The page: whole, self-contained, and safe whatever columns and files are called."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.report.test_score_table import leaderboard
from tests.untrained import make_config
from timellm_cli.config import FIELDS
from timellm_cli.data.scale import Scaler
from timellm_cli.evaluation.coverage import Coverage
from timellm_cli.evaluation.evaluated import Evaluated
from timellm_cli.evaluation.examples import Example
from timellm_cli.evaluation.leaderboard import Leaderboard, Published
from timellm_cli.evaluation.seeds import Difference
from timellm_cli.evaluation.verdict import Verdict
from timellm_cli.report.html_report import render_report, write_report

SCALER = Scaler(np.zeros(1), np.ones(1))
VOID = {"meta", "br", "line", "polyline", "polygon"}
STEP = {"event": "step", "step": 10, "epoch": 1, "loss": 0.5}
EPOCH = {"event": "epoch", "step": 20, "epoch": 1, "val_loss": 0.4, "test_loss": 0.45}


class Page(HTMLParser):
    """Collects the text and the tags, and fails where they are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words += data


def example(channel: str) -> Example:
    return Example("worst", channel, 1.25, "2024-01-02", "2024-01-03", (1.0,) * 48, (2.0,) * 12, (3.0,) * 12, {})


def checkpoints_of(
    shown: Leaderboard, channel: str = "OT", training_log: tuple[dict, ...] = (STEP, EPOCH)
) -> list[Evaluated]:
    return [
        Evaluated(
            run.name, Path(run.path), make_config(Path("a.csv"), train__seed=run.seed), (channel,), ("",), SCALER,
            "1h", {}, "id",
            examples=(example(channel),), training_log=list(training_log),
        )
        for entry in shown.models
        for run in entry.runs
    ]  # fmt: skip


def page_of(shown: Leaderboard, **changes: object) -> Page:
    return Page(render_report(shown, checkpoints_of(shown, **changes), "timellm eval run/0/best.pt"))


def test_it_holds_verdict_figures_forecasts_losses_configuration_and_commands() -> None:
    shown = replace(leaderboard(0.3, runs=3), published=(Published("Time-LLM, its paper", "Jin et al.", 0.362, 0.392),))
    words = " ".join(page_of(shown).words.split())
    for text in (
        "The LLM [x] made no difference.", "0.3000± 0.0123", "-25.0%", "Time-LLM, its paper", "0.362",
        "Worst: OT", "2024-01-02 to 2024-01-03", "validation", "window.seq_len", "train.seed0, 1, 2",
        "timellm train --config run/0/config.toml --run-name 0-again", "timellm eval run/0/best.pt",
    ):  # fmt: skip
        assert text in words
    assert all(key in words for key in FIELDS)


def test_a_published_figure_may_be_an_mse_alone() -> None:
    shown = replace(leaderboard(0.3), published=(Published("TTM-r2, zero-shot", "IBM", 0.15, None),))
    assert "0.150as published" in " ".join(page_of(shown).words.split())


def test_it_needs_nothing_else() -> None:
    page = page_of(leaderboard(0.3))
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {"src", "href", "onload", "onclick"} & set(page.attributes)
    text = render_report(leaderboard(0.3), checkpoints_of(leaderboard(0.3)), "timellm eval")
    assert not any(word in text for word in ("http://", "https://", "url(", "@import"))


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><b onmouseover=x>', "负荷 & 油温", "a'b"])
def test_names_are_text_and_never_markup(name: str) -> None:
    shown = replace(leaderboard(0.3, channels=(name,)), data=name, notes=(f"about {name}",))
    page = page_of(shown, channel=name)
    assert page.words.count(name) >= 4
    assert page.tags == page_of(replace(leaderboard(0.3, channels=("OT",)), notes=("about",))).tags
    assert "onmouseover" not in page.attributes


def test_an_interval_is_drawn_on_its_side_of_zero() -> None:
    difference = Difference(-0.02, -0.05, 3, 3, 0.002, -0.03, -0.01)
    verdict = Verdict("LLM", "a", "b", "lower", difference, "It helped.", "by 0.02; 3 seeds")
    text = render_report(
        replace(leaderboard(0.3), verdicts=(verdict,)), checkpoints_of(leaderboard(0.3)), "timellm eval"
    )
    assert "the LLM helped" in text
    assert "by 0.02; 3 seeds" in text
    assert "MSE -5.0%, 95% interval -7.5% to -2.5%" in text
    assert 'class="dot" style="left: 21.01%"' in text
    assert 'class="reach" style="left: 6.52%; width: 28.99%"' in text


def test_every_seed_stands_on_one_track_with_the_baseline() -> None:
    several = leaderboard(0.3, runs=3)
    text = render_report(several, checkpoints_of(several), "timellm eval")
    assert text.count('<i class="dot" style="left: 4.0%"></i>') == 3
    assert '<i class="zero" style="left: 96.0%"></i>' in text
    assert "MSE of every seed" not in page_of(leaderboard(0.3)).words


def test_of_many_channels_the_first_have_bars_and_all_have_figures() -> None:
    names = tuple(f"sensor {number}" for number in range(40))
    text = render_report(leaderboard(0.3, names), checkpoints_of(leaderboard(0.3, names), names[0]), "timellm eval")
    assert text.count('class="channel"') == 24
    assert "All 40 channels" in text
    assert all(f"<td>{name}</td>" in text for name in names)


@pytest.mark.parametrize("mse", [math.nan, math.inf])
def test_a_diverged_model_has_a_page_as_well(mse: float) -> None:
    assert f"{mse:.4f}" in page_of(leaderboard(mse, runs=2)).words


def test_bands_are_counted_and_drawn_around_the_forecasts() -> None:
    channels = {"load": 79.0, "OT": 77.5}
    held = tuple(Coverage(level, level - 1.5, 0.9, channels, (80.0, 79.0, 78.0, 77.0), 0.4) for level in (50, 80, 95))
    plain = leaderboard(0.3)
    shown = replace(plain, entries=(replace(plain.entries[0], coverage=held), plain.entries[1]))
    (run,) = checkpoints_of(shown)
    banded = replace(
        run, examples=(replace(run.examples[0], bands={80: (0.5,) * 12, 95: (1.0,) * 12, 99: (2.0,) * 12}),)
    )
    text = render_report(shown, [banded], "timellm eval")
    words = " ".join(Page(text).words.split())
    for figure in (
        "80 % bands held78.5 %",
        "80 %78.5 ± 0.4 %0.90",
        "95 %93.5 ± 0.4 %0.90",
        "steps 1 to 3",
        "OT77.5 %77.5 %",
        "as promised",
    ):
        assert figure in words
    assert [label in words for label in ("80 % band", "95 % band", "99 % band")] == [True, True, False]
    areas = re.findall(r'class="area (.*?)" points="(.*?)"', text)
    assert [style for style, _ in areas] == ["model-1 band-1", "model-1 band-2"]
    heights = [{point.split(",")[1] for point in points.split()} for _, points in areas]
    wide, narrow = (sorted(map(float, values)) for values in heights)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_a_margin_of_what_bands_held_that_is_not_known_is_left_out() -> None:
    channels = {"load": 79.0, "OT": 77.5}
    held = tuple(Coverage(level, 79.0, 0.9, channels, (80.0, 79.0, 78.0, 77.0), math.inf) for level in (50, 80, 95))
    plain = leaderboard(0.3)
    page = page_of(replace(plain, entries=(replace(plain.entries[0], coverage=held), plain.entries[1])))
    assert "80 %79.0 %0.90" in " ".join(page.words.split())


def test_without_bands_it_says_so() -> None:
    assert "None of these checkpoints has bands" in page_of(leaderboard(0.3)).words


def test_memory_is_shown_predicted_against_measured() -> None:
    record = {
        "event": "memory", "step": 9, "device": "A card", "predicted": 2**30, "parts": {"linear_weights": 2**29},
        "allocated": 2**31, "reserved": 2**31,
    }  # fmt: skip
    text = render_report(
        leaderboard(0.3), checkpoints_of(leaderboard(0.3), training_log=(STEP, record)), "timellm eval"
    )
    words = " ".join(Page(text).words.split())
    assert "A card. Memory of a step: 1.00 GiB predicted (50% too little), 2.00 GiB reserved by torch" in words
    assert "linear weights512 MiB" in words
    assert re.findall(r'width: (\S+)%"></i><span>(\S+) GiB', text) == [("50.0", "1.00"), ("100.0", "2.00")]
    assert "There is no record of it beside the checkpoint." in page_of(leaderboard(0.3)).words


def test_without_the_files_of_its_run_it_says_so_and_repeats_no_training() -> None:
    words = page_of(leaderboard(0.3), training_log=()).words
    assert "There is no metrics.jsonl beside the checkpoint." in words
    assert "timellm train --config" not in words, "its config.toml is not there either"


def test_one_step_and_one_channel_make_a_page_as_well() -> None:
    shown = replace(leaderboard(0.3, ("OT",)), pred_len=1)
    assert "MSE by step" not in page_of(shown).words


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "报告.html"
    write_report(path, leaderboard(0.3), checkpoints_of(leaderboard(0.3)), "timellm eval")
    before = path.read_bytes()
    assert before.startswith(b"<!doctype html>")
    with pytest.raises(KeyError):
        write_report(path, leaderboard(0.3), [], "timellm eval")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
