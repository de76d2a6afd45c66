"""The random LLM: nothing learned is left in it, and the same one comes back wherever its checkpoint goes."""

from pathlib import Path

import pytest
import torch
import transformers

from tests.conftest import write_byte_tokenizer
from tests.model.llm.test_transformers_llm import FAMILIES, forecaster_on, histories
from tests.untrained import CPU, make_config, save_untrained
from timellm_cli.errors import ModelError
from timellm_cli.files import prepared_directory
from timellm_cli.llm_files import fingerprint_llm, read_llm_config
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.llm.random_weights import draw_tensors
from timellm_cli.model.llm.transformers_llm import TransformersLLM
from timellm_cli.model.load import load_model
from timellm_cli.model.runner import Runner
from timellm_cli.model.time_llm import TimeLLM
from timellm_cli.planning.readiness import Check, _check_llm
from timellm_cli.training.checkpoint import load_checkpoint, load_runner


def folder_of(family: str, folder: Path) -> Path:
    torch.manual_seed(3)
    transformers.AutoModel.from_config(FAMILIES[family]).save_pretrained(folder)
    write_byte_tokenizer(folder)
    return folder


def forecast(model: TimeLLM) -> torch.Tensor:
    history_BT = histories(3)
    with torch.no_grad():
        return model.eval()(history_BT, model.encoder.encode(history_BT))


def forecast_of(runner: Runner) -> torch.Tensor:
    history_BT = histories(3)
    with torch.no_grad():
        return runner.model.eval()(history_BT, runner.encoder.encode(history_BT))


@pytest.mark.parametrize("family", ["qwen2", "gpt2", "bert"])
def test_it_is_another_llm_and_always_the_same_one(family: str, tmp_path: Path) -> None:
    folder = folder_of(family, tmp_path)
    pretrained, first, again = (forecaster_on(folder, weights=kind) for kind in ("pretrained", "random", "random"))
    assert isinstance(first.llm, Decoder) == (family == "qwen2")
    assert torch.equal(forecast(first), forecast(again))
    assert not torch.allclose(forecast(first), forecast(pretrained))
    assert first.llm_fingerprint == again.llm_fingerprint != pretrained.llm_fingerprint
    assert not torch.allclose(first.prototypes.factor_EE, pretrained.prototypes.factor_EE)
    names = [name for name, weight in first.named_parameters() if weight.requires_grad]
    assert not any(name.startswith("backbone") for name in names)


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_our_decoder_and_transformers_draw_the_same(family: str, tmp_path: Path) -> None:
    folder = folder_of(family, tmp_path)
    ours, theirs = (
        forecaster_on(folder, weights="random", implementation=implementation)
        for implementation in ("auto", "transformers")
    )
    assert isinstance(ours.llm, Decoder) and isinstance(theirs.llm, TransformersLLM)
    torch.testing.assert_close(forecast(ours), forecast(theirs), rtol=1e-4, atol=1e-4)
    assert ours.llm_fingerprint == theirs.llm_fingerprint


@pytest.mark.parametrize("implementation", ["auto", "transformers"])
def test_it_can_be_quantised(implementation: str, tmp_path: Path) -> None:
    model = forecaster_on(folder_of("llama", tmp_path), "nf4", weights="random", implementation=implementation)
    assert forecast(model).isfinite().all()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_it_needs_no_weights_on_disk(family: str, tmp_path: Path) -> None:
    folder = folder_of(family, tmp_path)
    expected = forecast(forecaster_on(folder, weights="random"))
    left = [path.suffix for path in (prepared_directory() / fingerprint_llm(folder, 2021)).glob("*")]
    assert ".safetensors" not in left, "every seed would leave an LLM"
    (folder / "model.safetensors").unlink()
    assert torch.equal(forecast(forecaster_on(folder, weights="random")), expected)
    assert readiness_of(folder, "random").ok and not readiness_of(folder, "pretrained").ok


def readiness_of(folder: Path, weights: str) -> Check:
    return _check_llm(make_config(Path("unread.csv"), folder, llm__weights=weights))


def test_its_numbers_are_those_of_a_fresh_llm(tiny_llm: Path) -> None:
    keys = read_llm_config(tiny_llm)
    assert keys["initializer_range"] == 0.02
    read = draw_tensors(keys | {"initializer_range": 0.5}, seed=1)
    for name in ("embed_tokens.weight", "layers.0.self_attn.q_proj.weight", "layers.1.mlp.down_proj.weight"):
        tensor = read(name).float()
        assert tensor.std().item() == pytest.approx(0.5, rel=0.1)
        assert tensor.mean().item() == pytest.approx(0, abs=0.1)
        assert torch.equal(tensor, draw_tensors(keys | {"initializer_range": 0.5}, seed=1)(name).float())
        assert not torch.equal(tensor, draw_tensors(keys | {"initializer_range": 0.5}, seed=2)(name).float())
    assert not torch.equal(read("layers.0.mlp.up_proj.weight"), read("layers.1.mlp.up_proj.weight"))
    assert read("norm.weight").unique().tolist() == [1]
    biased = draw_tensors(keys | {"model_type": "qwen2"}, seed=1)
    assert biased("layers.0.self_attn.q_proj.bias").unique().tolist() == [0]


def test_a_checkpoint_of_one_llm_refuses_the_other(tiny_llm: Path, small_csv: Path, tmp_path: Path) -> None:
    drawn = make_config(small_csv, tiny_llm, llm__weights="random")
    checkpoint = load_checkpoint(save_untrained(tmp_path / "drawn.pt", drawn))
    torch.manual_seed(0)
    fresh, restored = load_model(drawn, CPU), load_runner(checkpoint, drawn, CPU)
    assert torch.equal(forecast_of(restored), forecast_of(fresh))
    for changes in ({"llm.weights": "pretrained"}, {"train.seed": 7}):
        with pytest.raises(ModelError, match="is not the one of the checkpoint"):
            load_runner(checkpoint, drawn.with_values(changes), CPU)


def test_more_layers_than_there_are_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"llm.layers is 4, but .* has 3 layers"):
        forecaster_on(folder_of("gpt2", tmp_path), weights="random", layers=4)
