"""Where configuration comes from, in which order, and what is said about its faults."""

from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from timellm_cli.config import FIELDS, Config, flag_of
from timellm_cli.errors import ConfigError
from timellm_cli.settings import profile_names, profiles_directory, resolve, to_toml_values


def test_later_sources_win_and_every_value_knows_its_source(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('[train]\nbatch_size = 5\nepochs = 5\nseed = 5\n[llm]\nname = "none"\n', encoding="utf-8")
    settings = resolve("etth1-smollm2", file, {"train.epochs": "7", "train.seed": "7"}, ["train.seed=9"])
    assert settings.config.data.dataset == "ETTh1"
    assert (settings.config.train.batch_size, settings.config.train.epochs, settings.config.train.seed) == (5, 7, 9)
    assert settings.config.train.weight_decay == 4
    origins = {key: settings.origins[key] for key in ("window.seq_len", "data.dataset", "llm.name", "train.epochs")}
    assert origins == {
        "window.seq_len": "default",
        "data.dataset": "profile etth1-smollm2",
        "llm.name": str(file),
        "train.epochs": "flag",
    }
    assert settings.origins["train.seed"] == "--set"


def test_all_faults_of_a_file_stand_in_one_message_with_the_nearest_keys(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(
        "batch_size = 8\n[trian]\nepochs = 3\n[train]\nbatchsize = 8\nepochs = 0\n[llm]\nlayers = 'some'\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as raised:
        resolve(config_file=file, assignments=["window.seqlen=4", "nonsense"])
    message = raised.value.message
    for part in (
        "7 faults",
        "'train.batch_size'",
        "did you mean 'train'?",
        "train.batchsize in",
        "train.epochs = 0",
        "llm.layers = 'some'",
        "did you mean 'window.seq_len'?",
        "--set nonsense: write it as section.key=value",
    ):
        assert part in message, part


def test_a_bare_key_is_answered_with_its_section() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'window\.seq_len'\?"):
        resolve(assignments=["seq_len=3"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[train\n", "no valid TOML"),
        (b"\xff\xfe\x00", "no UTF-8 text"),
        (b"train = 3\n", "expected a section"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "my.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        resolve(config_file=file)


def test_a_missing_file_and_an_unknown_profile_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not found"):
        resolve(config_file=tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read") as folder:
        resolve(config_file=tmp_path)
    assert folder.value.hint == "give the path of a TOML file"
    with pytest.raises(ConfigError, match="did you mean 'quickstart'") as raised:
        resolve("quikstart")
    assert "ettm1-qwen3b-6gb" in raised.value.hint


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_is_valid_sparse_and_says_what_it_is_for(name: str) -> None:
    settings = resolve(name)
    for key, origin in settings.origins.items():
        if origin != "default":
            section, field = key.split(".")
            assert getattr(getattr(settings.config, section), field) != FIELDS[key].default, f"{key} is the default"
    first = (profiles_directory() / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and first.endswith(".")


def test_the_six_gigabyte_profile_is_what_its_users_expect() -> None:
    config = resolve("ettm1-qwen3b-6gb").config
    assert (config.window.seq_len, config.window.pred_len) == (512, 96)
    assert (config.model.patch_len, config.model.patch_stride, config.model.d_model, config.model.d_ff) == (
        16,
        8,
        32,
        32,
    )
    assert (config.model.n_heads, config.model.dropout, config.train.batch_size) == (8, 0.1, 8)
    assert (config.data.dataset, config.data.features) == ("ETTm1", "M")
    assert (config.llm.name, config.llm.layers) == ("Qwen/Qwen2.5-3B", 6)
    assert (config.llm.quantization, config.llm.double_quant) == ("nf4", True)
    assert resolve("ettm1-qwen3b-6gb-full").config.llm.layers == "all"


def test_a_configuration_survives_its_toml_file(tmp_path: Path) -> None:
    config = resolve("quickstart", assignments=["data.path=some/folder/file.csv", "prompt.decimals=all"]).config
    file = tmp_path / "config.toml"
    file.write_text(tomli_w.dumps(to_toml_values(config)), encoding="utf-8")
    assert resolve(config_file=file).config == config


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().train.epochs = 3  # type: ignore[misc]


def test_no_two_keys_share_a_flag_and_every_key_says_its_meaning() -> None:
    flags = [flag_of(key) for key in FIELDS]
    assert len(flags) == len(set(flags))
    assert all(field.description and field.description.endswith(".") for field in FIELDS.values())


@given(
    st.dictionaries(
        st.text(max_size=12),
        st.one_of(st.integers(), st.text(max_size=5), st.none(), st.lists(st.integers())),
        max_size=4,
    )
)
def test_any_assignment_either_resolves_or_is_explained(values: dict[str, object]) -> None:
    try:
        resolve(assignments=[f"{key}={value}" for key, value in values.items()])
    except ConfigError as error:
        assert error.message.count("\n") >= 1


@pytest.mark.parametrize("size", ["6GiB", "512 MB", "5.5g", "15gib", "0.5 GiB"])
def test_memory_sizes_are_read_as_people_write_them(size: str) -> None:
    assert resolve(flags={"hardware.vram": size}).config.hardware.vram == size


@pytest.mark.parametrize("size", ["six", "6", "0", "0GiB", "-1GiB"])
def test_nonsense_memory_is_refused(size: str) -> None:
    with pytest.raises(ConfigError, match="no memory size; write it like 6GiB"):
        resolve(flags={"hardware.vram": size})


def test_a_key_that_may_be_unset_is_unset_by_none() -> None:
    assert resolve("ettm1-qwen3b-6gb", flags={"hardware.vram": "none"}).config.hardware.vram is None
    assert resolve(assignments=["train.max_steps=None", "llm.name=none"]).config.llm.name == "none"
    with pytest.raises(ConfigError, match=r"train\.epochs = 'none'"):
        resolve(assignments=["train.epochs=none"])


def test_paths_are_absolute_so_that_a_run_is_found_from_any_folder(
    tmp_path: Path, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_llm.parent)
    config = resolve(flags={"llm.name": tiny_llm.name, "data.path": "my.csv"}).config
    assert config.llm.name == str(tiny_llm)
    assert config.data.path == tiny_llm.parent / "my.csv"
    assert resolve(flags={"llm.name": "Qwen/Qwen2.5-3B"}).config.llm.name == "Qwen/Qwen2.5-3B"


@pytest.mark.parametrize(
    ("assignment", "message"), [("train.clip=inf", "finite number"), ("data.columns=a,b,a", "named twice: a")]
)
def test_values_that_mean_nothing_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(assignments=[assignment])


def test_contradictions_between_keys_are_explained_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"model\.patch_len 64 is longer than the padded window of 28 rows"):
        resolve(flags={"window.seq_len": 20, "model.patch_len": 64})
    with pytest.raises(ConfigError, match=r"train_ratio 0\.9 \+ test_ratio 0\.2 must be below 1"):
        resolve(flags={"data.train_ratio": 0.9})


def test_an_accumulation_beside_an_automatic_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="accumulate 4 cannot be kept with batch_size 'auto', which chooses it"):
        Config.model_validate({"train": {"batch_size": "auto", "accumulate": 4}})
