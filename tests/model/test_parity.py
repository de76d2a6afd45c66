"""The model against numbers the original implementation computed with the same weights."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from timellm_cli.config import Config
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.load import load_model
from timellm_cli.model.original import read_original
from timellm_cli.model.original_file import open_original
from timellm_cli.model.prompt_tokens import window_statistics
from timellm_cli.model.runner import Runner
from timellm_cli.model.time_llm import cut_patches, normalise, vocabulary_factor


@dataclass
class Golden:
    """The numbers of one fixture and our model with its weights imported."""

    numbers: dict[str, torch.Tensor]
    prompts: list[dict]
    runner: Runner
    folder: Path


@pytest.fixture(
    scope="module",
    params=[
        *("cut llama auto", "cut llama transformers"),
        *("whole llama auto", "whole llama transformers", "whole gpt2 auto"),
    ],
)
def golden(request: pytest.FixtureRequest, golden_llama: Path) -> Golden:
    """The cut lies in every clone; the whole reference data are used where they are beside it."""
    size, name, implementation = request.param.split()
    folder = golden_llama if size == "cut" else request.getfixturevalue("shared_dir") / "golden" / name
    arguments = json.loads((folder / "args.json").read_text(encoding="utf-8"))
    config = Config.model_validate(
        {
            "data": {"dataset": "custom"},
            "window": {name: arguments[name] for name in ("seq_len", "pred_len")},
            "model": {
                **{name: arguments[name] for name in ("patch_len", "d_model", "d_ff", "n_heads", "dropout")},
                "patch_stride": arguments["stride"],
            },
            "llm": {
                "name": str(folder / "llm"),
                "layers": arguments["llm_layers"],
                "quantization": "none",
                "implementation": implementation,
            },
            "prompt": {"description": arguments["_meta"]["description_used"], "decimals": "all"},
            "train": {"precision": "fp32"},
        }
    )
    runner = load_model(config, torch.device("cpu"))
    assert isinstance(runner.model.llm, Decoder) == ((name, implementation) == ("llama", "auto"))
    runner.model.load_own_state(read_original(open_original(folder / "checkpoint"), runner.model))
    runner.model.eval()
    numbers = {name: torch.from_numpy(values) for name, values in np.load(folder / "golden.npz").items()}
    prompts = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))["samples"]
    return Golden(numbers, prompts, runner, folder)


def _furthest(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    return float((found - expected).abs().max() / expected.abs().max())


def test_a_window_is_normalised_and_described_as_in_the_original(golden: Golden) -> None:
    scaled, moments = normalise(golden.numbers["x"])
    assert torch.equal(scaled, golden.numbers["x_norm"])
    assert torch.equal(moments.mean_B1.squeeze(1), golden.numbers["mean"])
    assert torch.equal(moments.std_B1.squeeze(1), golden.numbers["stdev"])
    statistics = window_statistics(scaled, 5)
    assert torch.equal(torch.tensor([sample.median for sample in statistics]), golden.numbers["x_median"])
    assert torch.equal(torch.tensor([sample.min for sample in statistics]), golden.numbers["x_min"])
    assert torch.equal(torch.tensor([sample.max for sample in statistics]), golden.numbers["x_max"])
    seq_len = scaled.shape[1]
    for sample, lags in zip(statistics, golden.numbers["lags"].tolist(), strict=True):
        # Lags k and T - k tie: the original leaves their order to the FFT's rounding, ours puts the smaller first.
        assert [min(lag, seq_len - lag) for lag in sample.lags] == [min(lag, seq_len - lag) for lag in lags]
        assert set(sample.lags) == set(lags)
    assert [1 if sample.upward else -1 for sample in statistics] == golden.numbers["trend_sign"].tolist()


def test_the_prompt_is_the_originals_to_the_letter_and_to_the_token(golden: Golden) -> None:
    encoder = golden.runner.encoder
    scaled, _ = normalise(golden.numbers["x"])
    for statistics, lags, sample in zip(
        window_statistics(scaled, 5), golden.numbers["lags"].tolist(), golden.prompts, strict=True
    ):
        text = encoder.text.render(replace(statistics, lags=tuple(lags)))
        assert text == sample["prompt"]
        assert text.startswith(encoder.text.prefix)
        assert encoder.encode_texts([text]).joined().ids_BK[0].tolist() == sample["input_ids"]


def test_patches_and_reprogrammed_tokens_equal_the_originals(golden: Golden) -> None:
    model = golden.runner.model
    scaled, _ = normalise(golden.numbers["x"])
    patches = cut_patches(scaled, model.model.patch_len, model.model.patch_stride)
    assert patches.shape[1] == int(golden.numbers["patch_nums"])
    with torch.no_grad():
        embedded = model.patch_embedding(patches)
        tokens = model.reprogramming(embedded, model.prototypes())
    assert _furthest(embedded, golden.numbers["patch_emb"]) < 1e-5
    assert _furthest(tokens, golden.numbers["reprog_out"]) < 1e-5


@pytest.mark.parametrize("batched", [False, True])
def test_forecasts_equal_the_originals_alone_and_in_one_masked_batch(golden: Golden, batched: bool) -> None:
    history = golden.numbers["x"]
    texts = [sample["prompt"] for sample in golden.prompts]
    encode = golden.runner.encoder.encode_texts
    with torch.no_grad():
        if batched:
            forecasts = golden.runner.model(history, encode(texts))
        else:
            alone = zip(history.split(1), texts, strict=True)
            forecasts = torch.cat([golden.runner.model(window, encode([text])) for window, text in alone])
    assert _furthest(forecasts, golden.numbers["out"]) < 1e-5


def test_gradients_of_shared_parameters_equal_the_originals(golden: Golden) -> None:
    model, numbers = golden.runner.model, golden.numbers
    model.zero_grad()
    forecasts = model(numbers["x"], golden.runner.encoder.encode_texts([sample["prompt"] for sample in golden.prompts]))
    loss = (forecasts - numbers["y"]).square().mean()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(numbers["loss"]), rel=1e-5)
    names = {
        "patch_embedding.value_embedding.tokenConv.weight": model.patch_embedding.convolution.weight,
        "reprogramming_layer.query_projection.weight": model.reprogramming.query.weight,
        "reprogramming_layer.query_projection.bias": model.reprogramming.query.bias,
        "reprogramming_layer.key_projection.weight": model.reprogramming.key.weight,
        "reprogramming_layer.value_projection.weight": model.reprogramming.value.weight,
        "reprogramming_layer.value_projection.bias": model.reprogramming.value.bias,
        "reprogramming_layer.out_projection.weight": model.reprogramming.out.weight,
        "reprogramming_layer.out_projection.bias": model.reprogramming.out.bias,
        "output_projection.linear.weight": model.head.projection.weight,
        "output_projection.linear.bias": model.head.projection.bias,
        "mapping_layer.bias": model.prototypes.bias_U,
    }
    assert {f"grad.{name}" for name in names} <= numbers.keys()
    far = {name: _furthest(weight.grad, numbers[f"grad.{name}"]) for name, weight in names.items()}
    assert max(far.values()) < 1e-4, far
    assert model.reprogramming.key.bias.grad.abs().max() < 1e-6  # zero by mathematics: softmax does not see it


def test_the_compact_mapping_gets_the_gradient_that_the_full_one_causes(golden: Golden) -> None:
    model, numbers = golden.runner.model, golden.numbers
    model.zero_grad()
    forecasts = model(numbers["x"], golden.runner.encoder.encode_texts([sample["prompt"] for sample in golden.prompts]))
    (forecasts - numbers["y"]).square().mean().backward()
    embedding = model.llm.embedding_VE.double()
    orthonormal = embedding @ torch.linalg.inv(vocabulary_factor(embedding).double())
    expected = numbers["grad.mapping_layer.weight"].double() @ orthonormal
    found = model.prototypes.weight_UE.grad.double()
    assert _furthest(found[numbers["mapping_rows"]] if "mapping_rows" in numbers else found, expected) < 1e-4
