"""The frozen LLM: every family, both ways to read a prompt, truncation and real quantization."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.conftest import write_byte_tokenizer
from tests.untrained import CPU, histories, small_runner
from timellm_cli.config import Config
from timellm_cli.data.batch import PromptTokens
from timellm_cli.errors import ModelError
from timellm_cli.llm_files import fingerprint_llm, stamp_llm
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.llm.frozen_matrix import FullMatrix, Int8Matrix, Nf4Matrix
from timellm_cli.model.llm.prepared import PreparedFiles
from timellm_cli.model.llm.transformers_llm import TransformersLLM
from timellm_cli.model.load import load_llm
from timellm_cli.model.time_llm import TimeLLM

SMALL: dict[str, Any] = {
    "vocab_size": 257, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 1024, "bos_token_id": None, "eos_token_id": 256,
}  # fmt: skip
FAMILIES: dict[str, transformers.PretrainedConfig] = {
    "llama": transformers.LlamaConfig(**SMALL, pad_token_id=256),
    "qwen2": transformers.Qwen2Config(**SMALL, pad_token_id=256),
    "qwen3": transformers.Qwen3Config(**SMALL, head_dim=16, pad_token_id=256),
    "mistral": transformers.MistralConfig(**SMALL, pad_token_id=256, sliding_window=None),
    "gpt2": transformers.GPT2Config(vocab_size=257, n_embd=64, n_layer=3, n_head=4, n_positions=1024),
    "bert": transformers.BertConfig(
        vocab_size=257, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=1024,
    ),
    "opt": transformers.OPTConfig(
        vocab_size=257, hidden_size=64, word_embed_proj_dim=64, ffn_dim=128, num_hidden_layers=3, num_attention_heads=4,
    ),
    "bloom": transformers.BloomConfig(vocab_size=257, hidden_size=64, n_layer=3, n_head=4),
}  # fmt: skip


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(3)
    transformers.AutoModel.from_config(FAMILIES[request.param]).save_pretrained(folder)
    write_byte_tokenizer(folder)
    return folder


DECODED = ("llama", "qwen2", "qwen3", "mistral")
"""Families that our own decoder reads; the others go through transformers."""


def decodes(folder: Path) -> bool:
    return folder.name.startswith(tuple(f"{name}0" for name in DECODED))


def read_llm(folder: Path, **llm: Any) -> Decoder | TransformersLLM:
    config = Config.model_validate({"llm": {"name": str(folder), **llm}, "train": {"precision": "fp32"}})
    return load_llm(config, folder, CPU, PreparedFiles(fingerprint_llm(folder), stamp_llm(folder), print))


def forecaster_on(folder: Path, *arguments: Any, **llm: Any) -> TimeLLM:
    """The model of `small_runner`, with its encoder beside it."""
    runner = small_runner(folder, *arguments, **llm)
    runner.model.encoder, runner.model.llm_fingerprint = runner.encoder, runner.llm_fingerprint
    return runner.model


def test_every_family_forecasts_and_learns(family: Path) -> None:
    model = forecaster_on(family).train()
    history = histories(4)
    forecast = model(history, model.encoder.encode(history))
    assert forecast.shape == (4, 12)
    forecast.square().mean().backward()
    for name, parameter in model.named_parameters():
        if name.startswith("llm."):
            assert parameter.grad is None and not parameter.requires_grad
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_llama_like_llms_are_read_by_our_decoder_and_all_others_by_transformers(family: Path) -> None:
    assert isinstance(forecaster_on(family).llm, Decoder) == decodes(family)
    assert isinstance(forecaster_on(family, implementation="transformers").llm, TransformersLLM)


def test_our_decoder_forecasts_and_learns_as_transformers_does(family: Path) -> None:
    history = histories(5)
    results = []
    for implementation in ("auto", "transformers"):
        model = forecaster_on(family, implementation=implementation).eval()
        forecast = model(history, model.encoder.encode(history))
        forecast.square().mean().backward()
        results.append((forecast.detach(), {name: weight.grad for name, weight in model.trainable_weights().items()}))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-4, atol=1e-5)
    for name, gradient in results[0][1].items():
        scale = float(results[1][1][name].abs().max())
        torch.testing.assert_close(gradient, results[1][1][name], rtol=1e-3, atol=1e-5 * max(scale, 1.0))


def test_only_models_that_look_ahead_read_in_one_pass(family: Path) -> None:
    assert forecaster_on(family, implementation="transformers").llm.reading.in_two_passes == (
        FAMILIES["bert"].model_type not in family.name
    )


def test_two_passes_give_the_forecast_and_gradients_of_one_pass(family: Path) -> None:
    model = forecaster_on(family, implementation="transformers").eval()
    if not model.llm.reading.in_two_passes:
        model_forecast = model(histories(3), model.encoder.encode(histories(3)))
        assert model_forecast.isfinite().all()
        return
    history = histories(5)
    prompt = model.encoder.encode(history)
    assert prompt.mask_BK.sum(dim=1).unique().numel() > 1, "the prompts should differ in length"
    results = {}
    for two_passes in (True, False):
        model.llm.reading = model.llm.reading._replace(in_two_passes=two_passes)
        model.zero_grad()
        forecast = model(history, prompt)
        forecast.square().mean().backward()
        results[two_passes] = (
            forecast.detach(),
            {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad},
        )
    torch.testing.assert_close(results[True][0], results[False][0], rtol=1e-5, atol=1e-5)
    for name, gradient in results[True][1].items():
        scale = float(results[False][1][name].abs().max())
        torch.testing.assert_close(gradient, results[False][1][name], rtol=1e-4, atol=1e-5 * max(scale, 1.0))


@pytest.mark.parametrize("template", ["", "Forecast.", "{min}", "The same head, then {lags} and {trend}."])
def test_any_template_reads_the_same_in_one_pass_and_in_two(family: Path, template: str) -> None:
    model = forecaster_on(family, template=template, implementation="transformers").eval()
    history = histories(5)
    prompt = model.encoder.encode(history)
    with torch.no_grad():
        forecast = model(history, prompt)
        model.llm.reading = model.llm.reading._replace(in_two_passes=False)
        torch.testing.assert_close(forecast, model(history, prompt), rtol=1e-5, atol=1e-5)


def test_the_prefix_of_the_prompt_is_read_when_the_model_is_loaded_and_never_again(tiny_llm: Path) -> None:
    model = forecaster_on(tiny_llm, implementation="transformers").eval()
    original = model.llm.llm.forward
    tokens_read: list[int] = []
    model.llm.llm.forward = lambda **inputs: (
        tokens_read.append(inputs["inputs_embeds"].shape[0] * inputs["inputs_embeds"].shape[1]),
        original(**inputs),
    )[1]
    prompt = model.encoder.encode(histories(4))
    assert prompt.prefix == model.llm.prefix
    with torch.inference_mode():
        model(histories(4), prompt)
    model(histories(4), prompt).sum().backward()
    suffixes, patches = 4 * prompt.ids_BK.shape[1], 4 * 12
    assert tokens_read == [suffixes, patches, suffixes, patches]


def test_a_forecast_does_not_depend_on_its_batch_mates(family: Path) -> None:
    model = forecaster_on(family).eval()
    history = histories(6)
    with torch.no_grad():
        together = model(history, model.encoder.encode(history))
        alone = torch.cat([model(window, model.encoder.encode(window)) for window in history.split(1)])
    scale = history.std(dim=1, keepdim=True)
    torch.testing.assert_close(together / scale, alone / scale, rtol=1e-4, atol=2e-5)


def test_layers_are_left_out_before_their_weights_are_loaded(family: Path) -> None:
    shallow = read_llm(family, layers=1, quantization="none", implementation="transformers")
    deep = read_llm(family, layers="all", quantization="none", implementation="transformers")
    assert shallow.llm.config.num_hidden_layers == 1
    assert sum(p.numel() for p in shallow.parameters()) < sum(p.numel() for p in deep.parameters())
    first = dict(shallow.named_parameters())
    assert all(torch.equal(first[name], weight) for name, weight in deep.named_parameters() if name in first)
    if decodes(family):
        assert len(read_llm(family, layers=1, quantization="none").layers) == 1
        assert len(read_llm(family, layers="all", quantization="none").layers) == 3


def test_an_encoder_decoder_is_refused_with_what_to_choose(tmp_path: Path) -> None:
    transformers.T5Config(vocab_size=257).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is an encoder-decoder") as refused:
        read_llm(tmp_path, layers=1)
    assert refused.value.hint == "choose an encoder-only or decoder-only LLM"


@pytest.mark.parametrize("implementation", ["auto", "transformers"])
def test_more_layers_than_there_are_is_an_error_with_both_numbers(tiny_llm: Path, implementation: str) -> None:
    with pytest.raises(ModelError, match=r"llm\.layers is 5, but .* has 2 layers"):
        read_llm(tiny_llm, layers=5, implementation=implementation)


IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["auto", "transformers"])


def kept_in(backbone: Decoder | TransformersLLM, quantization: str) -> list[bool]:
    """For each linear weight of a backbone, whether it is kept in this form."""
    import bitsandbytes

    if isinstance(backbone, Decoder):
        kinds = Nf4Matrix if quantization == "nf4" else Int8Matrix
        matrices = (Nf4Matrix, Int8Matrix, FullMatrix)
        return [isinstance(module, kinds) for module in backbone.modules() if isinstance(module, matrices)]
    kinds = bitsandbytes.nn.Linear4bit if quantization == "nf4" else bitsandbytes.nn.Linear8bitLt
    return [isinstance(module, kinds) for module in backbone.modules() if isinstance(module, torch.nn.Linear)]


@IMPLEMENTATIONS
@pytest.mark.parametrize("double_quant", [True, False])
def test_nf4_runs_for_real_on_the_cpu_and_stays_near_full_precision(
    family: Path, double_quant: bool, implementation: str
) -> None:
    full = forecaster_on(family)
    quantized = forecaster_on(family, "nf4", double_quant=double_quant, implementation=implementation)
    linear = kept_in(quantized.llm, "nf4")
    if "gpt2" not in family.name:  # GPT-2's layers are convolutions of width one
        assert linear and all(linear)
    for matrix in quantized.llm.modules():
        if isinstance(matrix, Nf4Matrix):
            assert (matrix.absmax.dtype == torch.uint8) == double_quant
    prompt = full.encoder.encode(histories(3))
    results = []
    for model in (full, quantized):
        tokens = torch.randn(3, 12, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        hidden = model.llm(prompt, tokens)
        (hidden * torch.randn(hidden.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
        results.append((hidden.detach(), tokens.grad))
    for of_full, of_quantized in zip(*results, strict=True):
        difference = float((of_full - of_quantized).norm() / of_full.norm())
        assert (1e-4 if linear else 0) <= difference < 0.4


@IMPLEMENTATIONS
def test_int8_runs_for_real_on_the_cpu_and_learns(tiny_llm: Path, implementation: str) -> None:
    model = forecaster_on(tiny_llm, "int8", implementation=implementation).train()
    linear = kept_in(model.llm, "int8")
    assert linear and all(linear)
    history = histories(3)
    forecast = model(history, model.encoder.encode(history))
    forecast.square().mean().backward()
    assert all(
        weight.grad is not None and weight.grad.isfinite().all() for weight in model.trainable_weights().values()
    )
    full = forecaster_on(tiny_llm).eval()
    scale = history.std(dim=1, keepdim=True)
    with torch.no_grad():
        difference = (
            model.eval()(history, model.encoder.encode(history)) - full(history, full.encoder.encode(history))
        ) / scale
    assert 0 < difference.abs().max() < 0.1


def test_gradients_through_nf4_are_those_of_its_dequantized_weights(tiny_llm: Path) -> None:
    import bitsandbytes

    backbone = read_llm(tiny_llm, layers=1, quantization="nf4", implementation="transformers")
    linear = next(module for module in backbone.modules() if isinstance(module, bitsandbytes.nn.Linear4bit))
    weight = bitsandbytes.functional.dequantize_4bit(linear.weight.data, linear.weight.quant_state).float()
    with torch.no_grad():
        linear(torch.randn(5, linear.in_features))  # what the prompt pass does first
    rows = torch.randn(5, linear.in_features, requires_grad=True)
    outer = torch.randn(5, linear.out_features)
    (linear(rows) * outer).sum().backward()
    torch.testing.assert_close(rows.grad, outer @ weight, rtol=1e-3, atol=1e-4)


def test_the_llms_own_dropout_is_never_on(tmp_path: Path) -> None:
    config = transformers.GPT2Config(vocab_size=257, n_embd=32, n_layer=1, n_head=2, resid_pdrop=0.5, embd_pdrop=0.5)
    backbone = TransformersLLM(transformers.GPT2Model(config)).train()
    prompt = PromptTokens(torch.arange(6).view(1, 6), torch.ones(1, 6, dtype=torch.int64))
    tokens = torch.randn(1, 4, 32)
    assert torch.equal(backbone(prompt, tokens), backbone(prompt, tokens))


def test_another_llm_has_another_fingerprint_and_the_same_files_the_same(tiny_llm: Path, tmp_path: Path) -> None:
    torch.manual_seed(8)
    config = transformers.LlamaConfig.from_pretrained(tiny_llm)
    transformers.LlamaModel(config).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((tiny_llm / "tokenizer.json").read_bytes())
    assert fingerprint_llm(tiny_llm) == fingerprint_llm(tiny_llm) != fingerprint_llm(tmp_path)


def test_nf4_of_matrices_that_are_no_whole_blocks_is_left_to_transformers(tmp_path: Path) -> None:
    odd = {**SMALL, "hidden_size": 36, "intermediate_size": 50, "num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(3)
    transformers.AutoModel.from_config(transformers.LlamaConfig(**odd, pad_token_id=256)).save_pretrained(tmp_path)
    write_byte_tokenizer(tmp_path)
    history = histories(2)
    quantised, whole = (forecaster_on(tmp_path, quantization).eval() for quantization in ("nf4", "none"))
    assert (type(quantised.llm), type(whole.llm)) == (TransformersLLM, Decoder)
    forecasts = [model(history, model.encoder.encode(history)) for model in (quantised, whole)]
    assert torch.isfinite(forecasts[0]).all()
    torch.testing.assert_close(*forecasts, rtol=0.2, atol=0.2)
