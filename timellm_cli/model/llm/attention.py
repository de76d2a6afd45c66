"""Attention of one layer: the product of the forward pass, and its gradient in the backward pass.

The letters are those of `ops.py`. Query heads of a group are more rows of one key-value head, so keys and values are
not repeated. Only the patches have a gradient: of the keys and values, those of the last P tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

Gradients = tuple[Tensor, Tensor, Tensor]
"""Of the queries, B x k x Q x R, and of the patches' keys and values, B x k x P x R each."""


def attend(query_BkQR: Tensor, keys_BkCR: Tensor, values_BkCR: Tensor, mask_B1QC: Tensor) -> Tensor:
    """Attention of every query to the keys of its key-value head, B x k x Q x R."""
    return F.scaled_dot_product_attention(query_BkQR, keys_BkCR, values_BkCR, attn_mask=mask_B1QC)


class PatchAttention:
    """Attention of the patches, computed again in the backward pass, by autograd."""

    def __init__(self, query_BkQR: Tensor, keys_BkCR: Tensor, values_BkCR: Tensor, mask_B1QC: Tensor) -> None:
        self.query_BkQR, self.keys_BkCR, self.values_BkCR = query_BkQR, keys_BkCR, values_BkCR
        self.mask_B1QC = mask_B1QC
        self._graph: tuple[Tensor, Gradients] | None = None

    def mixed(self) -> Tensor:
        """What attention gives, B x k x Q x R."""
        return self._with_graph()[0].detach()

    def backward(self, grad_BkQR: Tensor, patches: int) -> Gradients:
        """From the gradient of `mixed` to those of what went in."""
        mixed_BkQR, inputs = self._with_graph()
        query_grad, keys_grad, values_grad = torch.autograd.grad(mixed_BkQR, inputs, grad_BkQR)
        return query_grad, keys_grad[:, :, -patches:], values_grad[:, :, -patches:]

    def _with_graph(self) -> tuple[Tensor, Gradients]:
        if self._graph is None:
            query, keys, values = (
                part.detach().requires_grad_() for part in (self.query_BkQR, self.keys_BkCR, self.values_BkCR)
            )
            with torch.enable_grad():
                self._graph = attend(query, keys, values, self.mask_B1QC), (query, keys, values)
        return self._graph
