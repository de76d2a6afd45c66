"""fp16 for an LLM that transformers runs: products with its matrices in fp16, everything between them in float32.

fp16 ends at 65,504. LLMs write larger numbers into what passes their layers, and into their MLPs. In float32 nothing
overflows there, whatever the family computes; our own decoder divides such numbers by 64 instead, which has to know
where they are. In a product, each row is divided so that its largest number is a 16th, and so is each row of the
gradient on its way back. A matrix is linear, so the result is multiplied again. Matrices and embeddings stay in fp16.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from timellm_cli.model.llm.transformers_loading import NOT_QUANTISED

_LARGEST = 1 / 16
"""Of a divided row: a sum over 28,672 inputs stays finite for weights of up to 36."""
_LARGEST_INT8 = 64.0
"""LLM.int8() treats numbers above 6 apart, so its rows are divided only where they go far beyond."""


class _Rows:
    """What the rows of one product, and of its gradient, are divided by."""

    forward: Tensor
    backward: Tensor


class _Enter(torch.autograd.Function):
    """Float32 to fp16, each row divided so that its largest number is `most`; unless `always`, at most that."""

    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, rows: _Rows, most: float, always: bool) -> Tensor:
        ctx.rows = rows
        rows.forward = _largest(x_NI) / most
        if not always:
            rows.forward.clamp_min_(1)
        return (x_NI / rows.forward).half()

    @staticmethod
    def backward(ctx: Any, grad_NI: Tensor) -> tuple[Tensor, None, None, None]:
        return grad_NI.float() * ctx.rows.backward, None, None, None


class _Leave(torch.autograd.Function):
    """fp16 to float32, each row multiplied by what it was divided by."""

    @staticmethod
    def forward(ctx: Any, y_NO: Tensor, rows: _Rows) -> Tensor:
        ctx.rows = rows
        wide_NO = y_NO.float().mul_(rows.forward)
        del rows.forward
        return wide_NO

    @staticmethod
    def backward(ctx: Any, grad_NO: Tensor) -> tuple[Tensor, None]:
        ctx.rows.backward = _largest(grad_NO) / _LARGEST
        return (grad_NO / ctx.rows.backward).half(), None


def _largest(x_NI: Tensor) -> Tensor:
    """The largest magnitude of each row, and 1 for a row of zeros, or of no numbers."""
    if not x_NI.numel():
        return x_NI.new_ones(*x_NI.shape[:-1], 1)
    largest_N1 = torch.linalg.vector_norm(x_NI, torch.inf, dim=-1, keepdim=True)
    return largest_N1.masked_fill_(largest_N1 == 0, 1)


def multiply_in_fp16(
    multiply: Callable[[Tensor], Tensor], x_NI: Tensor, most: float = _LARGEST, always: bool = True
) -> Tensor:
    """`multiply` of a float32 tensor, where it takes and gives fp16, works row by row, and is linear; in float32."""
    rows = _Rows()
    wide: Tensor = _Leave.apply(multiply(_Enter.apply(x_NI, rows, most, always)), rows)
    return wide


class _Products(TorchFunctionMode):
    """While active, products of float32 with a matrix in fp16 are those of `multiply_in_fp16`."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in _PRODUCTS and len(args) > 1 and _is_wide_times_half(*args[:2]):
            bias = args[2] if len(args) > 2 else given.get("bias")
            product = multiply_in_fp16(lambda x: func(x, args[1]), args[0])
            return product if bias is None else product + bias
        if func is torch.addmm and len(args) > 2 and _is_wide_times_half(*args[1:3]):
            return multiply_in_fp16(lambda x: x @ args[2], args[1]) + args[0]
        return func(*args, **given)


_PRODUCTS = (F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm)


def _is_wide_times_half(x: Any, matrix: Any) -> bool:
    return isinstance(matrix, Tensor) and matrix.dtype == torch.float16 and x.dtype == torch.float32


def keep_numbers_wide(llm: Any) -> None:
    """Make an LLM in fp16 read, and give, embeddings in float32, as the module says."""
    if llm._can_set_experts_implementation():
        llm.set_experts_implementation("eager")  # the others multiply in one number format alone
    for name, module in llm.named_modules():
        is_small = name.rpartition(".")[2] in NOT_QUANTISED
        for parameter in module.parameters(recurse=False):
            if parameter.dtype == torch.float16 and (is_small or not _is_matrix(module, parameter)):
                parameter.data = parameter.data.float()
        for own, buffer in module.named_buffers(recurse=False):
            if buffer.dtype == torch.float16:
                setattr(module, own, buffer.float())
        if isinstance(module, nn.Linear) and not module.weight.is_floating_point():
            _divide_rows_of(module)
    forward = llm.forward

    def forward_in_float32(*arguments: Any, **given: Any) -> Any:
        with _Products():
            return forward(*arguments, **given)

    llm.forward = forward_in_float32


def _is_matrix(module: nn.Module, parameter: Tensor) -> bool:
    """Whether a parameter stays in fp16: a large matrix, the table of embeddings, or the experts of a layer."""
    if parameter.ndim == 3:
        return not isinstance(module, nn.Conv1d)
    is_matrix = isinstance(module, nn.Linear | nn.Embedding) or type(module).__name__ == "Conv1D"
    return parameter.ndim == 2 and is_matrix


def _divide_rows_of(module: Any) -> None:
    """bitsandbytes' own layers multiply by themselves."""
    multiply, bias = module.forward, module.bias
    module.bias = None
    most, always = (_LARGEST_INT8, False) if type(module).__name__ == "Linear8bitLt" else (_LARGEST, True)

    def forward(x: Tensor) -> Tensor:
        product = multiply_in_fp16(multiply, x, most, always)
        return product if bias is None else product + bias

    module.forward = forward
