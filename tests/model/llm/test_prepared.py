"""What a first start leaves for the next: read instead of made, never out of date, never in the way."""

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.model.llm.test_transformers_llm import forecaster_on, histories, read_llm
from timellm_cli.model import load
from timellm_cli.model.llm import decoder_loading, prepared
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.llm.prepared import PreparedFiles

QUANTISED = pytest.mark.parametrize(
    "settings",
    [{"quantization": "nf4"}, {"quantization": "nf4", "double_quant": False}, {"quantization": "int8"}],
    ids=lambda settings: " ".join(map(str, settings.values())),
)


@pytest.fixture
def folder(tiny_llm: Path, tmp_path: Path) -> Path:
    """A copy of the tiny LLM that a test may change."""
    return Path(shutil.copytree(tiny_llm, tmp_path / "llm"))


def refuse_to_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, what is not in the cache is an error."""

    def refuse(*_: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(decoder_loading, "quantise", refuse)
    monkeypatch.setattr(load, "vocabulary_factor", refuse)


def assert_equal_tensors(first: Decoder, second: Decoder) -> None:
    tensors = second.state_dict()
    assert first.state_dict().keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in first.state_dict().items())


def files_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.glob("prepared/*/*"))


@QUANTISED
def test_a_second_start_reads_what_the_first_made(
    tiny_llm: Path, private_cache: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    first = forecaster_on(tiny_llm, **settings)
    kind = "nf4-double" if settings == {"quantization": "nf4"} else settings["quantization"]
    assert files_in(private_cache) == [
        "factor-float32.safetensors",
        f"{kind}-layer-0.safetensors",
        f"{kind}-layer-1.safetensors",
    ]
    refuse_to_make(monkeypatch)
    second = forecaster_on(tiny_llm, **settings)
    assert_equal_tensors(first.llm, second.llm)
    assert torch.equal(first.prototypes.factor_EE, second.prototypes.factor_EE)
    history = histories(3)
    for model in (first, second):
        model.eval()(history, model.encoder.encode(history)).square().mean().backward()
    for name, weight in first.trainable_weights().items():
        assert torch.equal(weight.grad, second.trainable_weights()[name].grad)


def test_fewer_layers_read_the_same_files_and_more_add_theirs(
    tiny_llm: Path, private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shallow = read_llm(tiny_llm, layers=1, quantization="nf4")
    assert "nf4-double-layer-1.safetensors" not in files_in(private_cache)
    deep = read_llm(tiny_llm, layers=2, quantization="nf4")
    refuse_to_make(monkeypatch)
    assert_equal_tensors(deep, read_llm(tiny_llm, layers="all", quantization="nf4"))
    assert_equal_tensors(shallow, read_llm(tiny_llm, layers=1, quantization="nf4"))


def test_unquantised_layers_are_not_written_a_second_time(tiny_llm: Path, private_cache: Path) -> None:
    forecaster_on(tiny_llm)
    assert files_in(private_cache) == ["factor-float32.safetensors"]


def test_fresh_weights_are_the_same_at_the_first_start_and_the_second(tiny_llm: Path) -> None:
    first, second = (forecaster_on(tiny_llm, "nf4").own_state() for _ in range(2))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())


def test_what_was_made_of_other_weights_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timellm_cli.model.load.fingerprint_llm", lambda *_: "the same for both")
    base = forecaster_on(folder, "nf4")
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors["layers.1.self_attn.q_proj.weight"] += 0.5 * torch.randn(32, 1) @ torch.randn(1, 32)
    tensors["embed_tokens.weight"] *= 1.5
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    tuned = forecaster_on(folder, "nf4")
    monkeypatch.setenv("TIMELLM_CACHE", str(folder / "another cache"))
    assert_equal_tensors(tuned.llm, forecaster_on(folder, "nf4").llm)
    assert torch.equal(base.llm.layers[0].qkv.packed, tuned.llm.layers[0].qkv.packed)
    assert not torch.equal(base.llm.layers[1].qkv.packed, tuned.llm.layers[1].qkv.packed)
    assert not torch.allclose(base.prototypes.factor_EE, tuned.prototypes.factor_EE)


def test_files_of_another_format_are_made_again(tiny_llm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PreparedFiles("some LLM", "stamp", print)
    store.write("thing", {"numbers": torch.arange(3)})
    assert torch.equal(store.read("thing")["numbers"], torch.arange(3))
    assert PreparedFiles("some LLM", "another stamp", print).read("thing") is None
    monkeypatch.setattr(prepared, "_FORMAT", prepared._FORMAT + 1)
    assert PreparedFiles("some LLM", "stamp", print).read("thing") is None


@pytest.mark.parametrize("damage", ["truncated", "empty", "noise", "other tensors"])
def test_a_damaged_file_is_made_again_with_a_note(
    tiny_llm: Path, private_cache: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    first = forecaster_on(tiny_llm, "nf4")
    for path in private_cache.glob("prepared/*/*.safetensors"):
        content = path.read_bytes()
        path.unlink()
        if damage == "other tensors":
            from safetensors import safe_open

            path.write_bytes(content)
            with safe_open(path, framework="pt") as file:
                source = file.metadata()
            path.unlink()
            save_file({"numbers": torch.zeros(3)}, path, source)
        else:
            path.write_bytes({"truncated": content[:-9], "empty": b"", "noise": b"\xff" * 4000}[damage])
    again = forecaster_on(tiny_llm, "nf4")
    assert_equal_tensors(first.llm, again.llm)
    assert torch.equal(first.prototypes.factor_EE, again.prototypes.factor_EE)
    notes = capsys.readouterr().out
    assert damage == "other tensors" or notes.count("is damaged and is made again") == 3, notes
    forecaster_on(tiny_llm, "nf4")
    assert "damaged" not in capsys.readouterr().out


def test_wrong_bytes_in_a_prepared_file_are_seen_and_made_again(
    tiny_llm: Path, private_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = forecaster_on(tiny_llm, "nf4")
    for path in private_cache.glob("prepared/*/*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-5] ^= 4
        path.unlink()
        path.write_bytes(content)
    again = forecaster_on(tiny_llm, "nf4")
    assert_equal_tensors(first.llm, again.llm)
    assert torch.equal(first.prototypes.factor_EE, again.prototypes.factor_EE)
    assert capsys.readouterr().out.count("its checksum is another one") == 3


@pytest.mark.parametrize("refusal", ["no folder", "full", "nearly full"])
def test_a_disk_that_refuses_is_noted_and_the_start_goes_on(
    tiny_llm: Path,
    private_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refusal: str,
) -> None:
    def no_space(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if refusal == "no folder":
        (private_cache / "prepared").write_text("a file in the folder's place", encoding="utf-8")
    elif refusal == "full":
        monkeypatch.setattr(prepared, "replacing", no_space)
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    model = forecaster_on(tiny_llm, "nf4")
    assert isinstance(model.llm, Decoder)
    assert capsys.readouterr().out.count("nothing more is kept") == 1
    assert not list(private_cache.glob("prepared/*/*.safetensors"))


def test_a_start_disturbs_no_seed(tiny_llm: Path) -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    read_llm(tiny_llm, layers=1, quantization="none")
    assert torch.equal(torch.rand(3), expected)
