"""Frozen weight matrices, kept in 4, 8 or 16 bits and written out in full for the moment they are needed.

A layer's matrix serves the prompt and the patches, and in the backward pass recomputation and gradient, so writing it
out costs little. The matrix product is then an ordinary one: no activations are kept for it, and no outliers are
treated apart, as LLM.int8() does.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor, nn

from timellm_cli.model.llm.choice import NF4_BLOCK

Quantization = Literal["nf4", "int8", "none"]


class FullMatrix(nn.Module):
    """A matrix in the numbers it is multiplied in."""

    weight_OI: Tensor

    def __init__(self, weight_OI: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight_OI", weight_OI)
        self.shape = weight_OI.shape

    def dense(self, ops: ModuleType, dtype: torch.dtype) -> Tensor:  # noqa: ARG002
        """The matrix, O x I, in `dtype`."""
        return self.weight_OI.to(dtype)


class Int8Matrix(nn.Module):
    """Each output row in 8 bits with a scale of its own: weight = byte x scale / 127."""

    bytes_OI: Tensor
    scale_O: Tensor

    def __init__(self, bytes_OI: Tensor, scale_O: Tensor) -> None:
        super().__init__()
        self.register_buffer("bytes_OI", bytes_OI)
        self.register_buffer("scale_O", scale_O)
        self.shape = bytes_OI.shape

    @classmethod
    def quantize(cls, weight_OI: Tensor) -> "Int8Matrix":
        """Round to the nearest of 255 steps between minus and plus the row's largest weight."""
        scale_O = weight_OI.float().abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        bytes_OI = (weight_OI.float() * (127 / scale_O).unsqueeze(1)).round().to(torch.int8)
        return cls(bytes_OI, scale_O)

    def dense(self, ops: ModuleType, dtype: torch.dtype) -> Tensor:
        """The matrix, O x I, in `dtype`."""
        out_OI = torch.empty(self.shape, dtype=dtype, device=self.bytes_OI.device)
        return ops.dequantize_int8(self.bytes_OI, self.scale_O, out_OI)


class Nf4Matrix(nn.Module):
    """Two weights a byte in NormalFloat 4 (Dettmers et al., QLoRA, 2023), each block of 64 with a scale.

    Under double quantization the scales are bytes themselves, with a float32 for every 256 of them and one offset.
    """

    packed: Tensor
    absmax: Tensor
    code: Tensor
    nested_absmax: Tensor | None
    nested_code: Tensor | None
    offset: Tensor | None

    def __init__(self, shape: Sequence[int], tensors: dict[str, Tensor]) -> None:
        """`tensors` by the names of the buffers; the nested ones are absent without double quantization."""
        super().__init__()
        self.shape = torch.Size(shape)
        for name in ("packed", "absmax", "code", "nested_absmax", "nested_code", "offset"):
            self.register_buffer(name, tensors.get(name))

    @classmethod
    def quantize(cls, weight_OI: Tensor, double_quant: bool) -> "Nf4Matrix":
        """By bitsandbytes, on the matrix's own device."""
        from bitsandbytes.functional import quantize_4bit

        packed, state = quantize_4bit(
            weight_OI.contiguous(), blocksize=NF4_BLOCK, compress_statistics=double_quant, quant_type="nf4"
        )
        tensors = {"packed": packed.flatten(), "absmax": state.absmax, "code": state.code}
        if state.nested:
            tensors |= {"nested_absmax": state.state2.absmax, "nested_code": state.state2.code, "offset": state.offset}
        return cls(weight_OI.shape, tensors)

    def dense(self, ops: ModuleType, dtype: torch.dtype) -> Tensor:
        """The matrix, O x I, in `dtype`."""
        out_OI = torch.empty(self.shape, dtype=dtype, device=self.packed.device)
        return ops.dequantize_nf4(
            self.packed, self.absmax, self.code, self.nested_absmax, self.nested_code, self.offset, out_OI
        )


FrozenMatrix = FullMatrix | Int8Matrix | Nf4Matrix


def freeze(weight_OI: Tensor, quantization: Quantization, double_quant: bool) -> FrozenMatrix:
    """A matrix in its kept form."""
    if quantization == "nf4":
        return Nf4Matrix.quantize(weight_OI, double_quant)
    return Int8Matrix.quantize(weight_OI) if quantization == "int8" else FullMatrix(weight_OI)
