"""Frozen weight matrices, kept in 4, 8 or 16 bits and written out in full for each product.

A layer's matrix serves the prompt and the patches, and in the backward pass recomputation and gradient, so writing it
out costs little. The product is then an ordinary one: it keeps no activations, and no outliers are treated apart, as
LLM.int8() does.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from timellm_cli.model.llm.choice import INT8_AT_ONCE, NF4_BLOCK
from timellm_cli.model.llm.ops import Nf4, TorchOps


class FullMatrix(nn.Module):
    """A matrix in the number format of its products."""

    weight_OI: Tensor

    def __init__(self, weight_OI: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight_OI", weight_OI)
        self.shape = weight_OI.shape

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix, O x I, in `dtype`."""
        return self.weight_OI.to(dtype)


class Int8Matrix(nn.Module):
    """Each output row in 8 bits with a scale of its own: weight = byte x scale / 127."""

    bytes_OI: Tensor
    scale_O: Tensor

    def __init__(self, bytes_OI: Tensor, scale_O: Tensor, ops: TorchOps) -> None:
        super().__init__()
        self.register_buffer("bytes_OI", bytes_OI)
        self.register_buffer("scale_O", scale_O)
        self.shape, self.ops = bytes_OI.shape, ops

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix, O x I, in `dtype`."""
        out_OI = torch.empty(self.shape, dtype=dtype, device=self.bytes_OI.device)
        return self.ops.dequantize_int8(self.bytes_OI, self.scale_O, out_OI)


class Nf4Matrix(nn.Module):
    """Two weights a byte in NormalFloat 4 (Dettmers et al., QLoRA, 2023), each block of 64 with a scale.

    With double quantisation the scales are bytes too, with a float32 for every 256 of them and one offset.
    """

    packed: Tensor
    absmax: Tensor
    code: Tensor
    nested_absmax: Tensor | None
    nested_code: Tensor | None
    offset: Tensor | None

    def __init__(self, shape: Sequence[int], tensors: Mapping[str, Tensor], ops: TorchOps) -> None:
        """`tensors` by the names of the buffers; the nested ones are absent without double quantisation."""
        super().__init__()
        self.shape, self.ops = torch.Size(shape), ops
        for name in ("packed", "absmax", "code", "nested_absmax", "nested_code", "offset"):
            self.register_buffer(name, tensors.get(name))

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix, O x I, in `dtype`."""
        nested = None
        if self.nested_absmax is not None and self.nested_code is not None and self.offset is not None:
            nested = self.nested_absmax, self.nested_code, self.offset
        out_OI = torch.empty(self.shape, dtype=dtype, device=self.packed.device)
        return self.ops.dequantize_nf4(Nf4(self.packed, self.absmax, self.code, nested), out_OI)


FrozenMatrix = FullMatrix | Int8Matrix | Nf4Matrix


def quantise(weight_OI: Tensor, quantization: str, double_quant: bool) -> dict[str, Tensor]:
    """The buffers, by name, of a matrix in this quantisation, on the weight's own device."""
    if quantization == "nf4":
        return _quantise_nf4(weight_OI, double_quant)
    return _quantise_int8(weight_OI) if quantization == "int8" else {"weight_OI": weight_OI}


def make_matrix(shape: Sequence[int], tensors: Mapping[str, Tensor], ops: TorchOps) -> FrozenMatrix:
    """The matrix with these buffers, in the quantisation that they are of."""
    if "packed" in tensors:
        return Nf4Matrix(shape, tensors, ops)
    if "bytes_OI" in tensors:
        return Int8Matrix(tensors["bytes_OI"], tensors["scale_O"], ops)
    return FullMatrix(tensors["weight_OI"])


def _quantise_int8(weight_OI: Tensor) -> dict[str, Tensor]:
    """Round to the nearest of 255 steps between minus and plus the row's largest weight, a few rows at a time."""
    outputs, inputs = weight_OI.shape
    bytes_OI = torch.empty(outputs, inputs, dtype=torch.int8, device=weight_OI.device)
    scale_O = torch.empty(outputs, dtype=torch.float32, device=weight_OI.device)
    count = max(INT8_AT_ONCE // inputs, 1)
    for part in (slice(begin, begin + count) for begin in range(0, outputs, count)):
        wide = weight_OI[part].float()
        torch.amax(wide.abs(), dim=1, out=scale_O[part]).clamp_min_(torch.finfo(torch.float32).tiny)
        bytes_OI[part] = wide.mul_((127 / scale_O[part]).unsqueeze(1)).round_()
    return {"bytes_OI": bytes_OI, "scale_O": scale_O}


def _quantise_nf4(weight_OI: Tensor, double_quant: bool) -> dict[str, Tensor]:
    """By bitsandbytes."""
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(
        weight_OI.contiguous(), blocksize=NF4_BLOCK, compress_statistics=double_quant, quant_type="nf4"
    )
    tensors = {"packed": packed.flatten(), "absmax": state.absmax, "code": state.code}
    if state.nested:
        tensors |= {"nested_absmax": state.state2.absmax, "nested_code": state.state2.code, "offset": state.offset}
    return tensors
