"""Patches put into the LLM's embedding space: cross-attention to text prototypes (Time-LLM, section 3.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Reprogramming(nn.Module):
    """Queries are patches, keys and values prototypes; `n_heads` heads of width `head_width`, scale 1/sqrt(width).

    `attention_dtype` is the number format of the attention alone: an LLM in 16 bits rounds what comes of it anyway.
    """

    def __init__(self, d_model: int, hidden_size: int, n_heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        inner = n_heads * head_width
        self.n_heads = n_heads
        self.query = nn.Linear(d_model, inner)
        self.key = nn.Linear(hidden_size, inner)
        self.value = nn.Linear(hidden_size, inner)
        self.out = nn.Linear(inner, hidden_size)
        self.dropout = dropout
        self.attention_dtype = torch.float32

    def forward(self, embedded_BPD: Tensor, prototypes_UE: Tensor) -> Tensor:
        """B x P x D and U x E to tokens of B x P x E."""
        batch, patches, _ = embedded_BPD.shape
        # Every patch of every sample attends to the same prototypes, so all of them are queries of one attention.
        query = self._heads(self.query(embedded_BPD.flatten(0, 1)))
        key, value = self._heads(self.key(prototypes_UE)), self._heads(self.value(prototypes_UE))
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout).float()
        return self.out(mixed.squeeze(0).transpose(0, 1).flatten(1)).unflatten(0, (batch, patches))

    def _heads(self, rows: Tensor) -> Tensor:
        """N x (heads * width) to 1 x heads x N x width, in the attention's number format."""
        return rows.to(self.attention_dtype).unflatten(1, (self.n_heads, -1)).transpose(0, 1).unsqueeze(0)
