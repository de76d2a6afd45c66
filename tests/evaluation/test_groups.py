from pathlib import Path

import pytest

from tests.untrained import make_config
from timellm_cli.config import Config
from timellm_cli.evaluation.seeds import control_of, group_seeds, name_groups


def config(llm: str = "gpt2", **changes: object) -> Config:
    return make_config(Path("a.csv"), llm, **changes)


def test_seeds_of_one_run_are_one_group_wherever_they_were_trained() -> None:
    first = config()
    second = first.with_values({"train.seed": 7, "run.name": "other", "hardware.capture": "on", "train.workers": 2})
    other = config(train__learning_rate=0.1)
    assert group_seeds([first, other, second]) == [[0, 2], [1]]


def test_a_batch_that_a_small_card_takes_in_more_steps_makes_no_group() -> None:
    large = config(train__batch_size=32, train__accumulate=1)
    small = config(train__batch_size=8, train__accumulate=4)
    assert group_seeds([large, small, config(train__batch_size=8)]) == [[0, 1], [2]]
    assert control_of(small, config("none", train__batch_size=32)) == "no LLM"


@pytest.mark.parametrize(
    "changes", [{"llm__layers": 3}, {"train__loss": "mae"}, {"window__seq_len": 72}, {"model__d_ff": 16}]
)
def test_what_was_learned_otherwise_is_a_group_of_its_own(changes: dict[str, object]) -> None:
    assert group_seeds([config(), config(**changes)]) == [[0], [1]]


def test_double_quantization_of_what_is_not_quantised_makes_no_group() -> None:
    plain, without = (config(llm__quantization="none", llm__double_quant=double) for double in (True, False))
    assert group_seeds([plain, without]) == [[0, 1]]


def test_without_an_llm_what_only_an_llm_reads_makes_no_group() -> None:
    assert group_seeds([config("none"), config("none", llm__layers=9, train__precision="bf16")]) == [[0, 1]]


@pytest.mark.parametrize(
    ("ours", "theirs", "control"),
    [
        (config(), config("none"), "no LLM"),
        (config(llm__layers=9), config("none", train__precision="bf16"), "no LLM"),
        (config("none"), config(), None),
        (config(), config("none", train__loss="mae"), None),
        (config(llm__layers=6), config(llm__layers=2), "fewer layers"),
        (config(llm__layers="all"), config(llm__layers=2), "fewer layers"),
        (config(llm__layers=2), config(llm__layers=6), None),
        (config(), config(llm__weights="random"), "random LLM"),
        (config(llm__weights="random"), config(), None),
        (config(llm__layers=6), config(llm__layers=2, llm__weights="random"), None),
        (config(llm__layers=2), config(llm__layers="all"), None),
        (config(), config("other"), None),
        (config(llm__layers=6), config(llm__layers=2, train__loss="mae"), None),
        (config(), config(), None),
    ],
)
def test_a_control_differs_in_the_llm_alone(ours: Config, theirs: Config, control: str | None) -> None:
    assert control_of(ours, theirs) == control


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["only-seed1"], "only-seed1"),
        (["etth1-seed1", "etth1-seed2"], "etth1"),
        (["etth1_seed2021", "etth1_seed2022"], "etth1"),
        (["a/best", "b/best"], "a/best and 1 more"),
        (["run-1", "run-2", "run-3"], "run"),
    ],
)
def test_several_seeds_are_called_by_what_their_names_share(names: list[str], name: str) -> None:
    assert name_groups([names]) == [name]


def test_two_groups_never_have_one_name() -> None:
    names = [["run-seed1", "run-seed2"], ["run-seed3", "run-seed4"], ["other-1", "other-2"], ["other"]]
    assert name_groups(names) == ["run-seed1 and 1 more", "run-seed3 and 1 more", "other-1 and 1 more", "other"]
