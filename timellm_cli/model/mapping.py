"""Text prototypes from the vocabulary, in the compact form that trains what the large form trains.

Time-LLM learns S = W E + b 1' with W of U x V: hundreds of millions of weights. But S depends on W only through W E,
and E (V x hidden) has a rank of at most `hidden`. With E'E = R'R (Cholesky) and Q = E R^-1, whose columns are
orthonormal, S = (W Q) R + b 1'. Training W' = W Q reaches the same S, and plain gradient descent on W' takes the very
steps in S that gradient descent on W takes.
"""

import torch
from torch import Tensor, nn

from timellm_cli.model.llm.prepared import Prepared

_RIDGE = 1e-12
"""Share of the mean squared embedding added where the embeddings do not span their space, so that R exists."""


def vocabulary_factor(embedding_VE: Tensor, chunk: int = 16_384) -> Tensor:
    """R, upper triangular, E x E, float32, on the CPU: the only trace of the vocabulary that prototypes need.

    Summed in float64 over chunks of `chunk` words, so the table itself is never copied to float64 as a whole.
    """
    gram_EE = torch.zeros(embedding_VE.shape[1], embedding_VE.shape[1], dtype=torch.float64)
    for rows in embedding_VE.split(chunk):
        rows64 = rows.to("cpu", torch.float64)
        gram_EE += rows64.T @ rows64
    lower, failed = torch.linalg.cholesky_ex(gram_EE)
    if failed:
        ridge = _RIDGE * gram_EE.diagonal().mean().clamp_min(1e-30)
        while failed:
            lower, failed = torch.linalg.cholesky_ex(gram_EE + ridge * torch.eye(len(gram_EE), dtype=torch.float64))
            ridge *= 10
    return lower.T.contiguous().float()


def prepared_factor(embedding_VE: Tensor, prepared: Prepared) -> Tensor:
    """`vocabulary_factor` of an LLM's table, computed at the first start with the LLM and read at the next."""
    name = f"factor-{str(embedding_VE.dtype).removeprefix('torch.')}"
    found = (prepared.read(name) or {}).get("factor_EE")
    if found is not None and found.shape == (embedding_VE.shape[1],) * 2:
        return found
    factor_EE = vocabulary_factor(embedding_VE)
    prepared.write(name, {"factor_EE": factor_EE})
    return factor_EE


def compact_mapping(full_UV: Tensor, embedding_VE: Tensor, factor_EE: Tensor) -> Tensor:
    """W' = (W E) R^-1, U x E, float32: the compact form of a full mapping, such as the original's checkpoints hold."""
    projected_UE = full_UV.double() @ embedding_VE.double()
    return torch.linalg.solve_triangular(factor_EE.double(), projected_UE, upper=True, left=False).float()


class VocabularyMapping(nn.Module):
    """`num_prototypes` text prototypes in the LLM's embedding space."""

    factor_EE: Tensor

    def __init__(self, factor_EE: Tensor, num_prototypes: int, vocabulary: int) -> None:
        super().__init__()
        self.weight_UE = nn.Parameter(torch.randn(num_prototypes, len(factor_EE)) * (3 * vocabulary) ** -0.5)
        self.bias_U = nn.Parameter((torch.rand(num_prototypes) * 2 - 1) * vocabulary**-0.5)
        self.register_buffer("factor_EE", factor_EE, persistent=False)

    def forward(self) -> Tensor:
        """The prototypes, U x E."""
        return torch.addmm(self.bias_U.unsqueeze(1), self.weight_UE, self.factor_EE)


class FreePrototypes(nn.Module):
    """Prototypes learned without a vocabulary, for the model without an LLM."""

    def __init__(self, num_prototypes: int, width: int) -> None:
        super().__init__()
        self.weight_UE = nn.Parameter(torch.randn(num_prototypes, width) * 0.02)

    def forward(self) -> Tensor:
        """The prototypes, U x E."""
        return self.weight_UE
