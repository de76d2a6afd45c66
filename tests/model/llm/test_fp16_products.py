"""fp16 through transformers: finite where plain fp16 overflows, and float32's results within fp16's rounding."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel

from tests.model.llm.llm_folders import FAMILIES, make
from tests.untrained import CPU, histories, make_config
from timellm_cli.data.batch import PromptTokens
from timellm_cli.model.llm.fp16_products import multiply_in_fp16
from timellm_cli.model.llm.transformers_llm import TransformersLLM
from timellm_cli.model.load import load_model

ENLARGED = 5e5
WRITES = re.compile(r"(o_proj|down_proj|c_proj|out_proj|dense|dense_4h_to_h|fc2|Wo)(\.weight)?$")
"""Matrices that write into what passes the layers, in the families below."""
BEFORE = re.compile(r"(c_fc|Wi)\.weight$|post_feedforward_layernorm\.weight$")
"""What makes those results large in GPT-2, ModernBERT and Gemma, which norms them before it adds them."""
RMS = ("llama", "qwen3_moe", "mixtral", "gemma2", "gemma3_text", "phi3")
LAYER_NORMS = ("gpt2", "gpt_neox", "gpt_neo", "opt", "bloom", "falcon")
AFTER = ("bert", "modernbert")
PREFIX, SUFFIX, PATCHES, BATCH = 6, 10, 12, 3


def build(family: str, is_large: bool) -> Any:
    """An LLM in float32; what it writes between its layers may be large."""
    torch.manual_seed(0)
    model = AutoModel.from_config(FAMILIES[family]()).eval()
    if is_large:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.ndim > 1 and WRITES.search(name):
                    weight.mul_(ENLARGED)
                elif family in ("gpt2", "modernbert", "gemma2", "gemma3_text") and BEFORE.search(name):
                    weight.copy_(weight * 30 if weight.ndim > 1 else torch.full_like(weight, 6e4))
    return model


def prompt() -> PromptTokens:
    ids = torch.arange(PREFIX + BATCH * SUFFIX) * 7 % 1000
    suffix_BK = ids[PREFIX:].view(BATCH, SUFFIX)
    mask_BK = torch.ones_like(suffix_BK)
    mask_BK[1, :4] = 0
    return PromptTokens(suffix_BK, mask_BK, tuple(ids[:PREFIX].tolist()))


def read(model: Any) -> tuple[Tensor, Tensor, TransformersLLM]:
    """Hidden states of the patches, and the gradient of the tokens."""
    llm = TransformersLLM(model)
    llm.choose_reading(PREFIX + SUFFIX, PREFIX, PATCHES, None)
    llm.set_prefix(prompt().prefix)
    torch.manual_seed(1)
    tokens_BPE = (torch.randn(BATCH, PATCHES, llm.hidden_size) * 0.02).requires_grad_()
    hidden_BPE = llm(prompt(), tokens_BPE)
    (grad_BPE,) = torch.autograd.grad(hidden_BPE, tokens_BPE, torch.randn(hidden_BPE.shape))
    return hidden_BPE.detach(), grad_BPE, llm


def distance(found: Tensor, expected: Tensor) -> float:
    found, expected = found.double(), expected.double()
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("family", [*RMS, *LAYER_NORMS, *AFTER])
def test_what_is_too_large_for_fp16_is_read_as_in_float32(family: str, is_large: bool) -> None:
    model = build(family, is_large)
    plain = copy.deepcopy(model).half()
    (hidden, grad, _), (expected, expected_grad, _) = read(copy.deepcopy(model).half()), read(model)
    assert hidden.dtype == torch.float32
    assert distance(hidden, expected) < 0.005
    assert distance(grad, expected_grad) < 0.02
    with torch.no_grad():
        given = torch.randn(1, PATCHES, model.config.hidden_size) * 0.02
        is_finite = bool(plain(inputs_embeds=given.half()).last_hidden_state.isfinite().all())
    assert is_finite != is_large


def test_what_is_too_large_inside_an_mlp_is_read_as_in_float32() -> None:
    model, largest = build("llama_bias", is_large=False), 0.0

    def look(_: object, inputs: tuple[Tensor, ...]) -> None:
        nonlocal largest
        largest = max(largest, float(inputs[0].abs().max()))

    for layer in model.layers:
        layer.mlp.gate_proj.weight.data.mul_(3e3)
        layer.mlp.up_proj.weight.data.mul_(3e3)
        layer.mlp.down_proj.weight.data.mul_(1e-3)
        layer.mlp.down_proj.register_forward_pre_hook(look)
    (expected, *_), (hidden, grad, _) = read(model), read(copy.deepcopy(model).half())
    assert 2**17 < largest < 2**30
    assert distance(hidden, expected) < 0.02
    assert grad.isfinite().all()


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("family", ["opt", "gpt_neox"])
def test_quantised_matrices_multiply_in_fp16_as_in_float32(family: str, quantization: str, tmp_path: Path) -> None:
    """What they write is too large for fp16. Scales are rounded as well, so the results are less alike."""
    make(family, tmp_path)
    build(family, is_large=True).half().save_pretrained(tmp_path)
    results = []
    for precision in ("fp32", "fp16"):
        config = make_config(Path("unread.csv"), tmp_path, train__precision=precision, llm__quantization=quantization)
        torch.manual_seed(0)
        runner = load_model(config, CPU)
        forecast = runner.model.train(False)(histories(3), runner.encoder.encode(histories(3)))
        forecast.square().mean().backward()
        gradients = [weight.grad.flatten() for weight in runner.model.trainable_weights().values()]  # type: ignore[union-attr]
        results.append((forecast.detach(), torch.cat(gradients)))
    for found, expected in zip(results[1], results[0], strict=True):
        assert distance(found, expected) < 0.05


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_product_and_its_gradient_keep_their_size(size: float) -> None:
    torch.manual_seed(0)
    matrix_OI, x_NI = torch.randn(24, 16), size * torch.randn(5, 16)
    x_NI[3] = 0
    x_NI.requires_grad_()
    product_NO = multiply_in_fp16(lambda x: x @ matrix_OI.half().T, x_NI)
    assert distance(product_NO.detach(), x_NI.detach() @ matrix_OI.T) < 1e-3
    assert product_NO[3].eq(0).all()
    grad_NO = torch.randn(5, 24) / size
    grad_NO[4] = 0
    product_NO.backward(grad_NO)
    assert x_NI.grad is not None
    assert distance(x_NI.grad, grad_NO @ matrix_OI) < 1e-3
    assert x_NI.grad[4].eq(0).all()


def test_no_rows_give_no_rows() -> None:
    assert multiply_in_fp16(lambda x: x @ torch.ones(4, 3).half(), torch.zeros(0, 4)).shape == (0, 3)
