"""The template of a run's name."""

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.config import FIELDS, Config
from timellm_cli.errors import ConfigError
from timellm_cli.planning.run_name import run_name


def name_of(template: str, **sections: dict[str, object]) -> str:
    """The name that a template gives under otherwise default settings."""
    return run_name(Config.model_validate({**sections, "run": {"name": template}}))


def test_the_default_name_says_data_window_and_llm() -> None:
    assert run_name(Config()) == "ETTm1_M_512_96_Qwen2.5-3B"


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("sl{seq_len}-{window.pred_len}", "sl512-96"),
        ("{llm}|{llm.name}", "Qwen2.5-3B-Qwen2.5-3B"),
        ("{layers}_{llm.layers}_{learning_rate}_{double_quant}", "6_6_0.001_True"),
        ("plain", "plain"),
        ("a/b\\c:d", "a-b-c-d"),
        (" ..x.. ", "x"),
        ("../../etc/passwd", "-..-etc-passwd"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
    ],
)
def test_braces_hold_keys_and_the_rest_becomes_a_safe_folder_name(template: str, name: str) -> None:
    assert name_of(template) == name


@pytest.mark.parametrize("llm", ["/models/My Llama/", "C:\\models\\My Llama", "owner/My Llama", "My Llama"])
def test_an_llm_gives_the_last_part_of_its_name_or_path(llm: str) -> None:
    assert name_of("{llm}", llm={"name": llm}) == "My Llama"


def test_columns_are_joined() -> None:
    assert name_of("{columns}", data={"columns": ["a", "b"]}) == "a-b"


@pytest.mark.parametrize(
    "word", ["seq_length", "window.seq_length", "name.__class__", "0", "", "run.name", "directory"]
)
def test_an_unknown_key_is_refused_with_those_there_are(word: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown key \{" + word.replace(".", r"\.")) as caught:
        name_of(f"x{{{word}}}")
    assert "seq_len, pred_len" in caught.value.hint
    assert word != "seq_length" or "did you mean 'seq_len'?" in caught.value.message


@pytest.mark.parametrize("template", ["...", " ", "{description}" * 1 + "x" * 300])
def test_a_name_that_is_no_folder_name_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="which is no folder name"):
        name_of(template)


@given(st.text(max_size=60))
def test_no_text_leads_out_of_the_folder_of_runs(text: str) -> None:
    try:
        name = name_of(text.replace("{", "").replace("}", ""))
    except ConfigError:
        return
    assert PurePosixPath(name).name == name
    assert PureWindowsPath(name).name == name
    assert name not in (".", "..")


def test_every_key_outside_run_can_stand_in_a_name() -> None:
    for key in FIELDS:
        if not key.startswith("run.") and key != "prompt.template":
            assert name_of(f"x{{{key}}}").startswith("x")
