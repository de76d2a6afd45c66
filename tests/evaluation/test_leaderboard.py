from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.untrained import make_config
from timellm_cli.config import Config
from timellm_cli.data.batch import Batch
from timellm_cli.data.cadence import to_text
from timellm_cli.data.windows import load_data
from timellm_cli.evaluation import leaderboard
from timellm_cli.evaluation.baselines import Baseline
from timellm_cli.evaluation.evaluated import Evaluated
from timellm_cli.evaluation.leaderboard import Leaderboard, Published, make_leaderboard
from timellm_cli.evaluation.score import score
from timellm_cli.evaluation.task import Task

PUBLISHED = (
    Published("whole", "A et al.", 0.3, 0.4),
    Published("cut [x]", "B et al.", 0.3, 0.4, dropped_batch=32),
    Published("even", "C et al.", 0.3, 0.4, dropped_batch=23),
)


def nothing(batch: Batch) -> Tensor:
    return torch.zeros(len(batch), 12)


def everything(batch: Batch) -> Tensor:
    return batch.future_BH + 0.1


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The other dataset of every question for published figures."""
    datasets: list[str | None] = []

    def published_for(configs: Sequence[Config], other_dataset: str | None = None) -> tuple[Published, ...]:
        datasets.append(other_dataset)
        return PUBLISHED

    monkeypatch.setattr(leaderboard, "published_for", published_for)
    return datasets


def compared(csv: Path, task: Task) -> Leaderboard:
    data = load_data(make_config(csv))
    cadence = to_text(data.table.cadence)
    checkpoint = Evaluated("run", Path("run/best.pt"), data.config, data.table.columns, data.scaler, cadence)
    checkpoint.scores = score(nothing, data, "test", 32, limit=task.limit)
    baseline = Baseline("oracle", "reads the future", everything)
    return make_leaderboard(data, task, [checkpoint], [(baseline, score(everything, data, "test", 32))])


def test_a_paper_that_left_windows_out_is_met_on_its_own_terms(small_csv: Path, questions: list[str | None]) -> None:
    shown = compared(small_csv, Task())
    data = load_data(make_config(small_csv))
    first = score(nothing, data, "test", 7, limit=64)  # 69 windows are two batches of 32 and 5 more, or three of 23
    (note,) = [note for note in shown.notes if "leave out" in note]
    assert note.startswith("the figures of cut [x] leave out the last 5 of 69 windows, too few for its batch of 32")
    assert note.endswith(f"without them the best model here has {first.mse:.4f} / {first.mae:.4f}")
    assert shown.published == PUBLISHED and questions == [None]


def test_papers_are_quoted_for_the_whole_test_set_of_a_dataset_alone(
    small_csv: Path, questions: list[str | None]
) -> None:
    for task in (Task(limit=9), Task(csv=small_csv)):
        shown = compared(small_csv, task)
        assert shown.published == () and not any("leave out" in note for note in shown.notes)
    assert not questions
    assert compared(small_csv, Task(zero_shot="other.csv")).published == PUBLISHED
    assert questions == ["custom"]
