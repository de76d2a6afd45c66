"""Memory that stays: equal to what bitsandbytes and torch allocate, and what libraries take beside it."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.cases import known_shape, step, tiny_shape
from timellm_cli.planning.case import Case, Part
from timellm_cli.planning.llm_shape import FAMILIES, Linear
from timellm_cli.planning.memory_bill import our_bill
from timellm_cli.planning.prompt_tokens import TokenCount
from timellm_cli.planning.weight_bytes import (
    CPU_PROCESS,
    allocator,
    context,
    embedding,
    fitted_shortcut,
    frozen_parts,
    linear_weights,
    matrices,
    matrix_products,
    quantization_constants,
    trainable_parts,
    trainable_tensors,
)

NO_TOKENS = TokenCount(0, 0, exact=True, error=0.0)


def by_key(parts: list[Part]) -> dict[str, int]:
    return {part.key: part.bytes for part in parts}


def quantized_bytes(linears: tuple[Linear, ...], double_quant: bool) -> tuple[int, int]:
    """Bytes of the packed weights and of everything else that bitsandbytes keeps for one layer."""
    import torch
    from bitsandbytes.functional import quantize_4bit

    weights = constants = 0
    for linear in linears:
        matrix = torch.randn(linear.outputs, linear.inputs)
        packed, state = quantize_4bit(matrix, quant_type="nf4", compress_statistics=double_quant)
        weights += packed.nbytes
        constants += state.absmax.nbytes + state.code.nbytes
        if double_quant:
            constants += state.offset.nbytes + state.state2.absmax.nbytes + state.state2.code.nbytes
    return weights, constants


@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_nf4_weights_and_constants_are_what_bitsandbytes_keeps(family: str, double_quant: bool) -> None:
    shape = tiny_shape(family)
    case = step(shape, layers=3, double_quant=double_quant)
    weights, constants = quantized_bytes(shape.linears, double_quant)
    assert (linear_weights(case).bytes, quantization_constants(case).bytes) == (3 * weights, 3 * constants)


@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_our_own_decoder_keeps_what_its_matrices_hold(quantization: Any, double_quant: bool) -> None:
    import torch

    from timellm_cli.model.llm.frozen_matrix import quantise

    case = step(tiny_shape("llama"), layers=3, quantization=quantization, double_quant=double_quant, decoder=True)
    kept = 0
    for linear in matrices(case):
        kept_tensors = quantise(torch.randn(linear.outputs, linear.inputs), quantization, double_quant)
        kept += sum(tensor.nbytes for tensor in kept_tensors.values())
    assert len(matrices(case)) == 4
    assert linear_weights(case).bytes + quantization_constants(case).bytes == 3 * kept


def test_our_own_decoder_holds_the_rows_of_its_prompts_on_a_gpu_and_the_files_table_on_a_cpu() -> None:
    import torch

    from timellm_cli.model.llm.decoder import Embedding

    shape = tiny_shape("llama")
    on_gpu = Embedding(torch.zeros(shape.vocab, shape.hidden), torch.device("cpu"), torch.bfloat16, copies=True)
    assert embedding(step(shape, decoder=True)).bytes == sum(buffer.nbytes for buffer in on_gpu.buffers())
    qwen = known_shape("Qwen/Qwen2.5-3B")
    on_cpu = step(qwen, decoder=True, on_gpu=False, precision="fp32", quantization="none")
    assert embedding(on_cpu).bytes == 151_936 * 2048 * 2


@pytest.mark.parametrize(("double_quant", "bits"), [(True, 0.127), (False, 0.5)])
def test_constants_of_nf4_take_the_published_bits_a_weight(double_quant: bool, bits: float) -> None:
    case = step(known_shape("Qwen/Qwen2.5-3B"), double_quant=double_quant)
    constants, weights = quantization_constants(case).bytes, linear_weights(case).bytes
    assert 8 * constants / (2 * weights) == pytest.approx(bits, abs=0.002)


def test_int8_keeps_a_byte_a_weight_and_a_scale_for_each_output() -> None:
    case = step(tiny_shape("llama"), layers=1, quantization="int8")
    # q, k, v, o, gate, up, down of E = 64, I = 160 and two key/value heads of width 16
    assert linear_weights(case).bytes == 64 * 64 * 2 + 64 * 32 * 2 + 64 * 160 * 3
    assert quantization_constants(case).bytes == 4 * (64 + 32 + 32 + 64 + 160 + 160 + 64)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("bf16", 2)])
def test_an_llm_without_quantization_takes_its_parameters_times_their_size(
    family: str, precision: str, size: int
) -> None:
    shape = tiny_shape(family)
    parts = by_key(frozen_parts(step(shape, layers=3, quantization="none", precision=precision)))
    factor = parts.pop("prototype_factor")
    assert sum(parts.values()) == size * shape.parameters(3)
    assert factor == 4 * 64 * 64


def test_trainable_tensors_are_those_of_the_model(tiny_llm: Path) -> None:
    import torch

    from timellm_cli.config import Config
    from timellm_cli.model.load import load_model

    shortcuts: list[dict[str, Any]] = [
        {}, {"shortcut": "linear"}, {"shortcut": "linear", "shortcut_period": 7}, {"shortcut": "fitted"},
    ]  # fmt: skip
    for name, shortcut in product((str(tiny_llm), "none"), shortcuts):
        config = Config.model_validate(
            {
                "window": {"seq_len": 96, "pred_len": 24},
                "llm": {"name": name, "layers": 2, "quantization": "none"},
                "model": {"d_ff": 16, "n_heads": 4, **shortcut},
                "hardware": {"device": "cpu"},
                "train": {"precision": "fp32"},
            }
        )
        forecaster = load_model(config, torch.device("cpu")).model
        sizes = [weights.numel() for weights in forecaster.trainable_weights().values()]
        case = Case.of(config, known_shape(name) if name != "none" else None, NO_TOKENS, None)
        assert sorted(trainable_tensors(case).values()) == sorted(sizes)
        untrained = sum(weights.numel() for weights in forecaster.own_state().values()) - sum(sizes)
        assert fitted_shortcut(case).bytes == 4 * untrained == 4 * 96 * 24 * (shortcut.get("shortcut") == "fitted")


def test_the_qwen_run_trains_four_million_weights_instead_of_a_hundred_and_fifty() -> None:
    tensors = trainable_tensors(step(known_shape("Qwen/Qwen2.5-3B")))
    assert tensors["mapping"] == 1000 * 2048
    assert sum(tensors.values()) == 3_831_112


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_keeps_two_numbers_of_every_weight(optimizer: str) -> None:
    parts = by_key(trainable_parts({"a": 5000, "b": 7}, optimizer))
    assert parts == {"trainable_weights": 20_028, "gradients": 20_028, "optimizer_states": 40_056}


def test_8bit_adam_keeps_what_bitsandbytes_keeps() -> None:
    import torch
    from bitsandbytes.optim import Adam8bit

    small, large = (torch.nn.Parameter(torch.randn(size)) for size in (100, 5000))
    optimizer = Adam8bit([small, large], lr=1e-3)
    small.grad, large.grad = torch.randn(100), torch.randn(5000)
    for parameter in (small, large):
        optimizer.init_state(optimizer.param_groups[0], parameter, 0, 0)
    shared_tables = ("qmap1", "qmap2")
    kept = sum(
        tensor.nbytes
        for state in optimizer.state.values()
        for name, tensor in state.items()
        if isinstance(tensor, torch.Tensor) and name not in shared_tables
    )
    assert by_key(trainable_parts({"small": 100, "large": 5000}, "adam8bit"))["optimizer_states"] == kept


@given(weights=st.integers(1, 10**9))
def test_8bit_states_are_never_larger_than_32bit_ones(weights: int) -> None:
    plain, small = (by_key(trainable_parts({"w": weights}, name))["optimizer_states"] for name in ("adam", "adam8bit"))
    assert small <= plain
    assert small >= plain / 4


QWEN = known_shape("Qwen/Qwen2.5-3B")
MIB = 2**20


def test_the_context_grows_with_the_multiprocessors_of_the_card() -> None:
    small, large = (context(step(QWEN, multiprocessors=count)).bytes for count in (40, 132))
    assert large == 771 * MIB
    assert small < 0.6 * large
    assert context(step(QWEN, multiprocessors=132, decoder=True, captured=True)).bytes == 841 * MIB
    assert context(step(QWEN, multiprocessors=132, quantization="int8")).bytes == 837 * MIB
    assert context(step(QWEN, on_gpu=False)).bytes == CPU_PROCESS


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 2),
        ({"captured": True, "prefix": 89}, 3),
        ({"captured": True, "prefix": 0}, 2),
        ({"on_gpu": False}, 0),
    ],
)
def test_every_stream_and_thread_that_multiplies_has_a_workspace(changes: dict[str, object], count: int) -> None:
    case = step(QWEN, decoder=True, capability=(9, 0), **changes)
    assert matrix_products(case).bytes == count * 32 * MIB
    assert matrix_products(replace(case, capability=(8, 6))).bytes == count * 8_519_680
    if case.on_gpu:
        assert matrix_products(case, trains=False).bytes == (count - 1) * 32 * MIB


def test_a_recorded_step_keeps_its_fragmentation_and_memory_in_one_piece_has_less() -> None:
    case = step(QWEN, decoder=True, captured=True, batch=64)
    parts = list(our_bill(case).parts)
    eager = replace(case, captured=False)
    in_one_piece = allocator(case, parts, in_one_piece=True).bytes
    assert allocator(eager, parts, in_one_piece=True).bytes < in_one_piece
    assert in_one_piece < allocator(case, parts, in_one_piece=False).bytes
    assert allocator(step(QWEN, on_gpu=False), parts).bytes == 0
