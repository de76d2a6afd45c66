"""The operations of a decoder layer: the torch ones against independent definitions, the fused ones against those."""

import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm, apply_rotary_pos_emb

from timellm_cli.errors import ModelError
from timellm_cli.model.llm.cuda_ops import CudaOps
from timellm_cli.model.llm.ops import Nf4, TorchOps, choose_ops
from timellm_cli.model.llm.triton_check import find_obstacle

ops = TorchOps()

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
RELATIVE_ERROR = {torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}  # Triton's interpreter truncates bf16
EPS = 1e-6


@pytest.fixture(scope="module", params=["triton", "cuda", "nvrtc"])
def fused(request: pytest.FixtureRequest) -> TorchOps:
    if request.param == "cuda":  # made for GPUs, but PyTorch's operations exist on CPUs as well
        return CudaOps()
    if request.param == "nvrtc":
        if DEVICE == "cpu":
            pytest.skip("needs a GPU; test_nvrtc.py compiles the kernels without one")
        return choose_ops(torch.device(DEVICE), "nvrtc")
    pytest.importorskip("triton", reason="Triton is not installed")
    if DEVICE == "cpu" and not INTERPRETED:
        pytest.skip("runs on a GPU; test_triton_kernels.py runs it in Triton's interpreter")
    if INTERPRETED:
        _make_masks_boolean()
    return choose_ops(torch.device(DEVICE), "triton")


def _make_masks_boolean() -> None:
    """Triton's interpreter (3.7 to 3.9) makes integers of two masks joined by `&`, and then refuses them as a mask."""
    from triton.runtime.interpreter import InterpreterBuilder

    def wrap(name: str, position: int) -> None:
        original = getattr(InterpreterBuilder, name)

        def call(self: Any, *arguments: Any) -> Any:
            arguments[position].data = arguments[position].data.astype(bool)
            return original(self, *arguments)

        setattr(InterpreterBuilder, name, call)

    wrap("create_masked_load", 1)
    wrap("create_masked_store", 2)


@pytest.fixture
def bitsandbytes_into_place() -> Iterator[None]:
    """bitsandbytes writes a matrix to a given tensor only on a GPU. Elsewhere, this does the same."""
    if DEVICE == "cuda":
        yield
        return

    def write(*arguments: Any) -> None:
        *inputs, out = arguments
        out.copy_(torch.ops.bitsandbytes.dequantize_4bit.default(*inputs))

    library = torch.library.Library("bitsandbytes", "IMPL")
    library.impl("dequantize_4bit.out", write, "CPU")
    yield
    library._destroy()


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def draw(*shape: int, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Tensor:
    return torch.randn(*shape, dtype=torch.float32).to(device, dtype)


def turns(samples: int, tokens: int, features: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Cosines and sines, B x S x R, of positions that differ from sample to sample."""
    position_BS1 = torch.arange(tokens)[None, :, None] + 3 * torch.arange(samples)[:, None, None]
    angle = position_BS1 * 10000 ** (-torch.arange(features // 2, dtype=torch.float64) / (features // 2))
    angle_BSR = torch.cat((angle, angle), dim=-1)
    return angle_BSR.cos().to(DEVICE, dtype), angle_BSR.sin().to(DEVICE, dtype)


def assert_close(got: Tensor, want: Tensor) -> None:
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    error = (got.double() - want.double()).norm() / want.double().norm()
    assert error.item() <= RELATIVE_ERROR[got.dtype]


def gradient(function: Any, x: Tensor, grad: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x), x, grad)[0]


@pytest.mark.parametrize("theirs", [LlamaRMSNorm, Qwen2RMSNorm])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rms_norm_is_that_of_transformers(theirs: Any, dtype: torch.dtype) -> None:
    norm = theirs(24, eps=EPS).to(dtype)
    norm.weight.data = draw(24, dtype=dtype)
    x_NE = draw(7, 24, dtype=dtype)
    assert_close(ops.rms_norm(x_NE, norm.weight.data, EPS), norm(x_NE).detach())


def test_the_last_tokens_of_each_sample_are_copied_on_the_way() -> None:
    x_BSE, wide_BSI, last_BPE, last_BPI = draw(3, 5, 24), draw(3, 5, 16), draw(3, 2, 24), draw(3, 2, 16)
    ops.rms_norm(x_BSE, draw(24), EPS, last_BPE)
    ops.swiglu(wide_BSI, last_BPI)
    assert torch.equal(last_BPE, x_BSE[:, 3:])
    assert torch.equal(last_BPI, wide_BSI[:, 3:])


def test_the_gradient_of_rms_norm_is_that_of_autograd() -> None:
    x_NE, grad_NE, residual_NE, weight_E = draw(7, 24), draw(7, 24), draw(7, 24), draw(24)
    want = gradient(lambda x: x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt() * weight_E, x_NE, grad_NE)
    torch.testing.assert_close(ops.rms_norm_backward(grad_NE, x_NE, weight_E, EPS, None), want)
    torch.testing.assert_close(ops.rms_norm_backward(grad_NE, x_NE, weight_E, EPS, residual_NE), want + residual_NE)


@pytest.mark.parametrize("prefix_tokens", [0, 5])
@pytest.mark.parametrize(("kv", "groups"), [(1, 1), (3, 1), (2, 3)])
def test_heads_are_split_and_turned_as_transformers_does(kv: int, groups: int, prefix_tokens: int) -> None:
    samples, tokens, features = 2, 7, 6
    qkv_BSW = draw(samples, tokens, (groups + 2) * kv * features, dtype=torch.float32)
    prefix_keys, prefix_values = draw(2, kv, prefix_tokens, features, dtype=torch.float32)
    cos_BSR, sin_BSR = (turn.cpu() for turn in turns(samples, tokens, features))
    query, keys, values = ops.split_heads(qkv_BSW, cos_BSR, sin_BSR, (prefix_keys, prefix_values), groups)

    widths = [kv * groups * features, kv * features, kv * features]
    parts = [part.view(samples, tokens, -1, features).transpose(1, 2) for part in qkv_BSW.split(widths, dim=-1)]
    turned_query, turned_keys = apply_rotary_pos_emb(parts[0], parts[1], cos_BSR, sin_BSR)
    for head in range(kv * groups):
        group, k = divmod(head, kv)
        torch.testing.assert_close(query[:, k, group::groups], turned_query[:, head])
    for got, prefix, want in ((keys, prefix_keys, turned_keys), (values, prefix_values, parts[2])):
        assert torch.equal(got[:, :, :prefix_tokens], prefix.expand(samples, -1, -1, -1))
        torch.testing.assert_close(got[:, :, prefix_tokens:], want)


def test_merging_heads_is_the_backward_of_splitting_them() -> None:
    samples, tokens, prefix_tokens, kv, groups, features = 2, 5, 3, 2, 3, 6
    cos_BSR, sin_BSR = (turn.cpu() for turn in turns(samples, tokens, features, torch.float64))
    nothing = torch.empty(kv, 0, features, dtype=torch.float64)
    query_grad = draw(samples, kv, groups * tokens, features)
    keys_grad, values_grad = draw(2, samples, kv, prefix_tokens + tokens, features)[..., prefix_tokens:, :]
    qkv_BSW = draw(samples, tokens, (groups + 2) * kv * features).requires_grad_()
    parts = ops.split_heads(qkv_BSW, cos_BSR, sin_BSR, (nothing, nothing), groups)
    (want,) = torch.autograd.grad(parts, qkv_BSW, (query_grad, keys_grad, values_grad))
    torch.testing.assert_close(ops.merge_heads(query_grad, keys_grad, values_grad, cos_BSR, sin_BSR), want)


def test_attention_output_goes_back_to_token_rows_and_its_gradient_the_other_way() -> None:
    samples, tokens, kv, groups, features = 2, 5, 2, 3, 4
    out_BkQR = draw(samples, kv, groups * tokens, features)
    rows_BSO = ops.merge_output(out_BkQR, tokens)
    for head in range(kv * groups):
        group, k = divmod(head, kv)
        assert torch.equal(rows_BSO[..., head * features : (head + 1) * features], out_BkQR[:, k, group::groups])
    assert torch.equal(ops.split_output(rows_BSO, kv, features), out_BkQR)


def test_swiglu_and_its_gradient_are_those_of_autograd() -> None:
    gate_up_N2I, grad_NI = draw(7, 20), draw(7, 10)
    torch.testing.assert_close(ops.swiglu(gate_up_N2I), F.silu(gate_up_N2I[:, :10]) * gate_up_N2I[:, 10:])
    torch.testing.assert_close(ops.swiglu(gate_up_N2I, shrink=1 / 64), ops.swiglu(gate_up_N2I) / 64)
    want = gradient(lambda x: F.silu(x[:, :10]) * x[:, 10:], gate_up_N2I, grad_NI)
    torch.testing.assert_close(ops.swiglu_backward(grad_NI, gate_up_N2I), want)
    assert ops.swiglu_backward(grad_NI, gate_up_N2I, gate_up_N2I) is gate_up_N2I
    torch.testing.assert_close(gate_up_N2I, want)


def nf4(rows: int, columns: int, nested: bool, dtype: torch.dtype) -> tuple[Nf4, Tensor]:
    """A matrix on the device, and bitsandbytes' own answer."""
    packed, state = quantize_4bit(draw(rows, columns, dtype=dtype), compress_statistics=nested, quant_type="nf4")
    scales = (state.state2.absmax, state.state2.code, state.offset) if nested else None
    answer = dequantize_4bit(packed, state)
    moved = tuple(scale.to(DEVICE) for scale in scales) if scales else None
    return Nf4(packed.to(DEVICE), state.absmax.to(DEVICE), state.code.to(DEVICE), moved), answer


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nf4_weights_are_those_of_bitsandbytes(nested: bool, dtype: torch.dtype) -> None:
    matrix, want = nf4(300, 64, nested, dtype)  # more than 256 blocks: two scales of scales
    got = ops.dequantize_nf4(matrix, torch.empty_like(want, device=DEVICE)).cpu()
    if dtype == torch.float32:
        assert torch.equal(got, want)
    assert_close(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_int8_weights_are_bytes_times_scales(dtype: torch.dtype) -> None:
    weight_OI, scale_O = torch.randint(-127, 128, (5, 12), dtype=torch.int8), torch.rand(5)
    got = ops.dequantize_int8(weight_OI, scale_O, torch.empty(5, 12, dtype=dtype))
    assert_close(got, (weight_OI.double() * scale_O[:, None].double() / 127).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 24, 300])
def test_fused_norms(fused: TorchOps, width: int, dtype: torch.dtype) -> None:
    whole = draw(3, 6, 2 * width, dtype=dtype, device=DEVICE)
    x_BSE, grad_BSE, residual_BSE = (part[..., width // 2 : width // 2 + width] for part in whole[:, None])
    weight_E = draw(width, dtype=dtype, device=DEVICE)
    assert_close(fused.rms_norm(x_BSE, weight_E, EPS), ops.rms_norm(x_BSE, weight_E, EPS))
    last_BPE = torch.empty(1, 2, width, dtype=dtype, device=DEVICE)
    assert_close(fused.rms_norm(x_BSE, weight_E, EPS, last_BPE), ops.rms_norm(x_BSE, weight_E, EPS))
    assert torch.equal(last_BPE, x_BSE[:, -2:])
    if width == 1:
        return  # its gradient is nothing but rounding
    for beside in (None, residual_BSE):
        arguments = grad_BSE, x_BSE, weight_E, EPS, beside
        out_BSE = torch.empty_like(grad_BSE).contiguous()
        assert_close(fused.rms_norm_backward(*arguments), ops.rms_norm_backward(*arguments))
        assert fused.rms_norm_backward(*arguments, out_BSE) is out_BSE
        assert_close(out_BSE, ops.rms_norm_backward(*arguments))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("samples", "tokens", "prefix_tokens", "kv", "groups", "features"),
    [(2, 7, 0, 2, 3, 6), (1, 1, 1, 1, 1, 2), (3, 70, 45, 1, 3, 64), (2, 20, 37, 2, 1, 80)],
)
def test_fused_heads(
    fused: TorchOps, samples: int, tokens: int, prefix_tokens: int, kv: int, groups: int, features: int,
    dtype: torch.dtype,
) -> None:  # fmt: skip
    """Also from a view of a wider tensor, with turns that all samples share, and gradients within longer ones."""
    width = (groups + 2) * kv * features
    qkv_BSW = draw(samples, tokens, width + 8, dtype=dtype, device=DEVICE)[..., 8:]
    prefix_keys, prefix_values = draw(2, kv, prefix_tokens, features, dtype=dtype, device=DEVICE)
    own = turns(samples, tokens, features)
    for cos_BSR, sin_BSR in (own, [turn[:1].expand(samples, -1, -1) for turn in own]):
        arguments = qkv_BSW, cos_BSR, sin_BSR, (prefix_keys, prefix_values), groups
        for got, want in zip(fused.split_heads(*arguments), ops.split_heads(*arguments), strict=True):
            assert_close(got, want)
        query_grad = draw(samples, groups * tokens, kv, features, dtype=dtype, device=DEVICE).transpose(1, 2)
        longer = draw(2, samples, kv, prefix_tokens + tokens, features, dtype=dtype, device=DEVICE)
        grads = (query_grad, *longer[..., prefix_tokens:, :], cos_BSR, sin_BSR)
        assert_close(fused.merge_heads(*grads), ops.merge_heads(*grads))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 24, 1300])
def test_fused_swiglu(fused: TorchOps, width: int, dtype: torch.dtype) -> None:
    gate_up_BS2I = draw(2, 3, 2 * width + 8, dtype=dtype, device=DEVICE)[..., 8:]
    grad_BSI = draw(2, 3, width, dtype=dtype, device=DEVICE)
    last_BP2I = torch.empty(2, 1, 2 * width, dtype=dtype, device=DEVICE)
    assert_close(fused.swiglu(gate_up_BS2I, last_BP2I), ops.swiglu(gate_up_BS2I))
    assert torch.equal(last_BP2I, gate_up_BS2I[:, -1:])
    assert_close(fused.swiglu(gate_up_BS2I, shrink=1 / 64), ops.swiglu(gate_up_BS2I, shrink=1 / 64))
    want = ops.swiglu_backward(grad_BSI, gate_up_BS2I)
    assert_close(fused.swiglu_backward(grad_BSI, gate_up_BS2I), want)
    assert fused.swiglu_backward(grad_BSI, gate_up_BS2I, gate_up_BS2I) is gate_up_BS2I
    assert_close(gate_up_BS2I, want)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "columns"), [(1, 64), (300, 64), (7, 448)])
def test_fused_nf4(
    fused: TorchOps, bitsandbytes_into_place: None, rows: int, columns: int, nested: bool, dtype: torch.dtype
) -> None:
    matrix, want = nf4(rows, columns, nested, dtype)
    got = fused.dequantize_nf4(matrix, torch.full_like(want, torch.nan, device=DEVICE))
    assert_close(got.cpu(), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 1300])
def test_fused_int8(fused: TorchOps, width: int, dtype: torch.dtype) -> None:
    weight_OI = torch.randint(-127, 128, (5, width), dtype=torch.int8, device=DEVICE)
    scale_O = torch.rand(5, device=DEVICE)
    got, want = (torch.empty(5, width, dtype=dtype, device=DEVICE) for _ in range(2))
    assert_close(fused.dequantize_int8(weight_OI, scale_O, got), ops.dequantize_int8(weight_OI, scale_O, want))


def test_ops_are_chosen_by_device_and_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert type(choose_ops(cpu, "auto")) is type(choose_ops(cpu, "torch")) is TorchOps
    assert type(choose_ops(gpu, "torch")) is CudaOps
    with pytest.raises(ModelError, match="Triton needs an NVIDIA GPU"):
        choose_ops(cpu, "triton")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 6))
    monkeypatch.setattr("timellm_cli.model.llm.triton_check.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="Triton is not installed"):
        choose_ops(gpu, "triton")
    with pytest.raises(ModelError, match="NVRTC needs an NVIDIA GPU"):
        choose_ops(cpu, "nvrtc")


def test_auto_takes_triton_else_nvrtc_else_torch_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, notes = torch.device("cuda"), list[str]()
    found: dict[str, TorchOps | str] = {"triton": TritonStandIn(), "nvrtc": NvrtcStandIn()}
    monkeypatch.setattr("timellm_cli.model.llm.ops._try", lambda name, device: found[name])
    assert type(choose_ops(gpu, "auto", notes.append)) is TritonStandIn
    assert notes == []
    found["triton"] = "Triton is not installed"
    assert type(choose_ops(gpu, "auto", notes.append)) is NvrtcStandIn
    assert type(choose_ops(gpu, "nvrtc", notes.append)) is NvrtcStandIn
    assert notes.pop() == "Triton is not installed: kernels compiled by NVRTC are used"
    found["nvrtc"] = "NVRTC compiles no kernel here (no driver)"
    assert type(choose_ops(gpu, "auto", notes.append)) is CudaOps
    assert notes == [
        "Triton is not installed; NVRTC compiles no kernel here (no driver): torch's own operations are used, which "
        "take longer"
    ]


class TritonStandIn(TorchOps):
    """Stands in for Triton's operations."""


class NvrtcStandIn(TorchOps):
    """Stands in for NVRTC's operations."""


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            RuntimeError("Failed to find C compiler.\nPlease specify"),
            "compiles no kernel here (Failed to find C compiler.)",
        ),
        (ImportError("DLL load failed"), "compiles no kernel here (DLL load failed)"),
        (AssertionError(), "compiles no kernel here (AssertionError)"),
        (torch.tensor([[3.0]]), "computes 3 where torch computes 1.462"),
    ],
    ids=["no compiler", "a foreign build", "a failure without words", "a wrong result"],
)
def test_how_triton_fails_is_the_reason_given(
    monkeypatch: pytest.MonkeyPatch, found: Tensor | Exception, reason: str
) -> None:
    class Broken(TorchOps):
        def swiglu(self, gate_up_N2I: Tensor, last_BP2I: Tensor | None = None) -> Tensor:
            if isinstance(found, Exception):
                raise found
            return found

    monkeypatch.setitem(sys.modules, "timellm_cli.model.llm.triton_ops", SimpleNamespace(TritonOps=Broken))
    monkeypatch.setattr("timellm_cli.model.llm.ops.find_obstacle", lambda capability: None)
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # 'triton' is then allowed on a CPU
    with pytest.raises(ModelError) as raised:
        choose_ops(torch.device("cpu"), "triton")
    assert raised.value.message == f"hardware.kernels is 'triton', but Triton {reason}"


@pytest.mark.parametrize(
    ("capability", "compilers", "cc", "obstacle"),
    [
        ((8, 0), {"gcc"}, None, None),
        ((9, 0), {"clang"}, None, None),
        (None, {"gcc"}, None, None),
        ((8, 6), set(), "/opt/cc", None),
        ((8, 6), set(), None, "Triton finds no C compiler (gcc or clang)"),
        ((7, 5), {"gcc"}, None, "Triton needs a card of capability 8.0, and this one has 7.5"),
    ],
)
def test_what_keeps_triton_from_compiling_is_known_beforehand(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int] | None,
    compilers: set[str],
    cc: str | None,
    obstacle: str,
) -> None:
    monkeypatch.setattr("timellm_cli.model.llm.triton_check.find_spec", lambda name: object())
    monkeypatch.setattr("shutil.which", lambda name: name if name in compilers else None)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("CC", raising=False)
    if cc:
        monkeypatch.setenv("CC", cc)
    assert find_obstacle(capability) == obstacle
    monkeypatch.setattr("sys.platform", "win32")  # triton-windows brings a compiler
    assert (find_obstacle(capability) is None) == (capability != (7, 5))
