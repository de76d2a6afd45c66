"""What processes exchange, and that the loss of one is noticed."""

import math
import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from tests.processes.together import together
from timellm_cli.errors import ConfigError
from timellm_cli.processes.faults import FOLDER, report_loss
from timellm_cli.processes.group import Group, ProcessLostError, SeveralProcesses
from timellm_cli.processes.place import Place, find_place


def exchange(group: Group) -> dict[str, object]:
    rank = group.place.rank
    numbers = torch.full((3,), float(rank + 1))
    group.sum_(numbers)
    copied = {"a": torch.full((2,), float(rank))}
    group.copy_from_first(copied)
    return {
        "sum": numbers.tolist(),
        "joined": group.join(torch.full((rank, 2), rank)).tolist(),
        "any": [group.any(rank == 2), group.any(False)],
        "copied": copied["a"].tolist(),
        "text": group.text_of_first(f"from {rank}"),
        "texts": group.texts(str(rank)),
    }


def test_three_processes_exchange_sums_rows_facts_and_texts() -> None:
    results = together(3, exchange)
    assert (
        results
        == [
            {
                "sum": [6.0] * 3,
                "joined": [[1, 1], [2, 2], [2, 2]],
                "any": [True, False],
                "copied": [0.0, 0.0],
                "text": "from 0",
                "texts": ["0", "1", "2"],
            }
        ]
        * 3
    )


def compare(group: Group) -> None:
    group.require_same("LLM", "a" if group.place.rank < 2 else "b")


def test_a_process_with_another_llm_is_named() -> None:
    assert all("process 2 has another LLM than process 0: b, not a" in text for text in together(3, compare))


def leave(group: Group) -> str:
    if group.place.rank == 1:
        os._exit(1)
    with pytest.raises(ProcessLostError) as caught:
        group.sum_(torch.zeros(5))
    return type(caught.value).__name__


def test_the_others_notice_that_a_process_is_gone() -> None:
    assert together(2, leave) == ["ProcessLostError", "gone"]


class Event:
    """One of a GPU that is done when it has been asked so often."""

    def __init__(self, left: float) -> None:
        self.left = left

    def query(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> SeveralProcesses:
    """One of two processes that look around often and wait for minutes."""
    monkeypatch.setattr("timellm_cli.processes.group._BETWEEN_LOOKS", 0.001)
    monkeypatch.setattr("timellm_cli.processes.group._TO_STOP", 0.01)
    group = object.__new__(SeveralProcesses)
    Group.__init__(group, Place(0, 2, 0, 2))
    group._patience = timedelta(minutes=10)
    return group


def test_a_gpu_is_waited_for_until_it_is_there_or_a_process_is_known_to_be_lost(
    waiting: SeveralProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting.wait_for(Event(50))
    monkeypatch.setenv(FOLDER, str(tmp_path))
    waiting.wait_for(Event(50))
    report_loss(tmp_path, "process 1 was ended by SIGKILL")
    with pytest.raises(ProcessLostError, match="process 1 was ended by SIGKILL"):
        waiting.wait_for(Event(math.inf))


def test_after_a_request_to_stop_a_gpu_is_not_waited_for_long(waiting: SeveralProcesses) -> None:
    waiting.is_stopping = lambda: True
    waiting.wait_for(Event(2))
    with pytest.raises(ProcessLostError, match="no step ended within 0 seconds of a request to stop"):
        waiting.wait_for(Event(math.inf))


def test_patience_ends_a_wait(waiting: SeveralProcesses) -> None:
    waiting._patience = timedelta(milliseconds=1)
    with pytest.raises(ProcessLostError, match=r"a step took longer than 0:00:00\.001000"):
        waiting.wait_for(Event(math.inf))


def test_a_batch_is_cut_into_parts_in_order() -> None:
    parts = [list(Place(rank, 3).part(8)) for rank in range(3)]
    assert parts == [[0, 1], [2, 3, 4], [5, 6, 7]]


def test_the_place_is_read_from_the_launchers_variables() -> None:
    variables = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    assert find_place(variables) == Place(5, 8, 1, 4)
    assert find_place({}) == find_place({"WORLD_SIZE": "1", "RANK": "0"}) == Place()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": ""}, "8 processes were started \\(WORLD_SIZE\\), but RANK is '' here"),
        ({"RANK": "8"}, "RANK=8, WORLD_SIZE=8"),
        ({"LOCAL_RANK": "4"}, "LOCAL_RANK=4"),
    ],
)
def test_variables_that_make_no_sense_are_named(changes: dict[str, str], message: str) -> None:
    variables = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    with pytest.raises(ConfigError, match=message):
        find_place(variables | changes)
