"""The shapes that `inspect --show-patches` prints, held against the tensors of a forward pass."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.model.llm.llm_folders import make
from tests.untrained import CPU, make_config
from timellm_cli.config import Config
from timellm_cli.data.windows import load_data
from timellm_cli.model import time_llm
from timellm_cli.model.load import load_model
from timellm_cli.planning.hardware import Machine
from timellm_cli.planning.plan import make_plan
from timellm_cli.planning.shapes import model_shapes
from timellm_cli.report.inspect_patches import show_shape

COMPUTER = Machine(gpu=None, ram_free=2**34, torch_has_cuda=False)


def made(folder: Path, family: str) -> Path:
    make(family, folder / family)
    return folder / family


def shapes_of(config: Config) -> dict[str, tuple[int | None, ...]]:
    return {stage.key: stage.shape for stage in model_shapes(make_plan(config, COMPUTER, from_file=True))}


def seen_shapes(config: Config, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, ...]]:
    """Of a training step's forward pass with the first sample as often as a batch has samples."""
    seen: dict[str, tuple[int, ...]] = {}

    def note(key: str, tensor: Tensor) -> Tensor:
        seen[key] = tuple(tensor.shape)
        return tensor

    def watch(module: nn.Module, reads: str, makes: str) -> None:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            if reads:
                note(reads, inputs[0])
            note(makes, output)

        module.register_forward_hook(hook)

    runner = load_model(config, CPU)
    model = runner.model
    watch(model.patch_embedding, "patches", "embedded")
    watch(model.prototypes, "", "prototypes")
    watch(model.reprogramming, "", "reprogrammed")
    watch(model.llm, "", "kept")
    watch(model.head.projection, "head_input", "forecast")
    if model.shortcut is not None:
        watch(model.shortcut, "", "shortcut")
    normalise, pad = time_llm.normalise, torch.nn.functional.pad

    def watched_pad(one: Tensor, sizes: tuple[int, ...], mode: str = "constant") -> Tensor:
        made = pad(one, sizes, mode=mode)
        if mode == "replicate":
            note("padded", made.squeeze(1))
        return made

    def watched_normalise(history_BT: Tensor) -> tuple[Tensor, time_llm.Moments]:
        scaled_BT, moments = normalise(history_BT)
        return note("scaled", scaled_BT), moments

    monkeypatch.setattr(time_llm.F, "pad", watched_pad)
    monkeypatch.setattr(time_llm, "normalise", watched_normalise)
    samples = load_data(config).training_windows().batch([0] * config.train.batch)
    prompt = runner.encoder.encode(samples.history_BT)
    if hasattr(model.llm, "layers"):
        first = model.llm.layers[0]
        read = first.read_and_keep
        first.read_and_keep = lambda tokens, *others: read(note("first_layer", tokens), *others)
        note("prefix", model.llm.embedding(torch.tensor([prompt.prefix], dtype=torch.int64)))
        note("suffix", model.llm.embedding(prompt.ids_BK))
    model.train()
    model(note("history", samples.history_BT), prompt)
    features = seen["head_input"][1] // config.model.d_ff
    return seen | {"features": (config.train.batch, features, config.model.d_ff)}


@pytest.mark.parametrize("shortcut", ["none", "linear"])
def test_shapes_without_an_llm_are_those_of_the_tensors(
    small_csv: Path, monkeypatch: pytest.MonkeyPatch, shortcut: str
) -> None:
    config = make_config(small_csv, train__batch_size=3, model__patch_len=10, model__shortcut=shortcut)
    said, seen = shapes_of(config), seen_shapes(config, monkeypatch)
    kept = seen.pop("kept")
    assert kept == seen["reprogrammed"], "the patches go straight to the head"
    assert said == seen
    assert list(said)[:4] == ["history", "scaled", "padded", "patches"]


@pytest.mark.parametrize("family", ["llama", "llama_headdim"])
def test_shapes_through_our_decoder_are_those_of_the_tensors(
    small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    folder = made(tmp_path, family)
    config = make_config(small_csv, folder, train__batch_size=2, hardware__prepared=False)
    said, seen = shapes_of(config), seen_shapes(config, monkeypatch)
    assert said == seen
    assert said["suffix"][1] + said["patches"][1] == said["first_layer"][1]  # type: ignore[operator]


def test_without_a_kept_prefix_the_whole_prompt_goes_into_the_first_layer(
    small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path, "llama")
    config = make_config(small_csv, folder, train__batch_size=2, hardware__prepared=False, hardware__keep_prefix=False)
    said, seen = shapes_of(config), seen_shapes(config, monkeypatch)
    assert "prefix" not in said and seen.pop("prefix")[1] == 0
    assert (said["suffix"], said["first_layer"]) == (seen["suffix"], seen["first_layer"])


def test_transformers_reads_the_prompt_apart_or_all_at_once(small_csv: Path, tmp_path: Path) -> None:
    apart = shapes_of(make_config(small_csv, made(tmp_path, "gpt2")))
    assert apart["first_layer"] == apart["kept"]
    at_once = shapes_of(make_config(small_csv, made(tmp_path, "bert")))
    assert "prefix" not in at_once
    assert at_once["first_layer"][1] == at_once["suffix"][1] + at_once["patches"][1]  # type: ignore[operator]


def test_the_size_of_an_unknown_llm_is_a_letter(small_csv: Path) -> None:
    shapes = shapes_of(make_config(small_csv, "nobody/knows-it"))
    assert show_shape(shapes["reprogrammed"]) == "8 x 6 x E"
