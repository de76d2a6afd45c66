"""A shortened run of `tests.faults.leaks`; its full figures are in benchmarks/RESULTS.md."""

from pathlib import Path

from tests.faults.leaks import POINTS, make_workshop, read_memory


def test_a_training_without_an_llm_holds_as_much_memory_at_its_end_as_amid_it(tmp_path: Path) -> None:
    """What each step or each score kept would show: 300 steps, 7 epochs of scores, 20 checkpoints."""
    config = make_workshop(tmp_path, llm__name="none")
    readings = list(read_memory(config, 300))
    assert len(readings) == POINTS
    grown = readings[-1].process - readings[POINTS // 2].process
    assert grown < 8, f"MiB over 150 steps: {[reading.process for reading in readings]}"
