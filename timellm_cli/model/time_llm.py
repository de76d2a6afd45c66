"""Instance normalisation of a window, with no state on any module.

Source: RevIN without its affine part, as Time-LLM uses it; population variance, epsilon under the root.

A history in overlapping patches, each embedded. Source: PatchTST's patching, with Time-LLM's token embedding.

Text prototypes from the vocabulary, in the compact form that trains what the large form trains.

Time-LLM learns S = W E + b 1' with W of U x V: hundreds of millions of weights. But S depends on W only through W E,
and E (V x hidden) has a rank of at most `hidden`. With E'E = R'R (Cholesky) and Q = E R^-1, whose columns are
orthonormal, S = (W Q) R + b 1'. Training W' = W Q reaches the same S, and plain gradient descent on W' takes the very
steps in S that gradient descent on W takes.

Patches put into the LLM's embedding space: cross-attention to text prototypes (Time-LLM, section 3.1).

From the LLM's output at the patches to the forecast.

A linear way around the LLM.

The same model without an LLM, for honest comparison.
"""

from dataclasses import dataclass
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import functional

from timellm_cli.data.batch import PromptTokens
from timellm_cli.model.llm.prepared import Prepared

EPSILON = 1e-5


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each history, in the units that came in. Both are B x 1."""

    mean_B1: Tensor
    std_B1: Tensor

    def restore(self, scaled_BH: Tensor) -> Tensor:
        """From window-normalised values back to the units that came in; B x H."""
        return scaled_BH * self.std_B1 + self.mean_B1


def normalise(history_BT: Tensor) -> tuple[Tensor, Moments]:
    """Each history with mean 0 and (almost) standard deviation 1, and the moments that undo it."""
    mean_B1 = history_BT.mean(dim=1, keepdim=True)
    std_B1 = torch.sqrt(history_BT.var(dim=1, keepdim=True, unbiased=False) + EPSILON)
    return (history_BT - mean_B1) / std_B1, Moments(mean_B1, std_B1)


def cut_patches(scaled_BT: Tensor, patch_len: int, patch_stride: int) -> Tensor:
    """Patches of a history that is padded on the right by repeating its last value `patch_stride` times; B x P x L."""
    padded = F.pad(scaled_BT.unsqueeze(1), (0, patch_stride), mode="replicate").squeeze(1)
    return padded.unfold(dimension=1, size=patch_len, step=patch_stride)


class PatchEmbedding(nn.Module):
    """Each patch with its two neighbours, to `d_model` dimensions: a circular convolution over the patches, no bias."""

    def __init__(self, patch_len: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(patch_len, d_model, kernel_size=3, padding=1, padding_mode="circular", bias=False)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.dropout = nn.Dropout(dropout)

    def forward(self, patches_BPL: Tensor) -> Tensor:
        """B x P x L to B x P x D."""
        return self.dropout(self.convolution(patches_BPL.transpose(1, 2)).transpose(1, 2))


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


class ForecastHead(nn.Module):
    """Flattens the first `d_ff` dimensions of every patch, feature by feature, and projects them to `pred_len`."""

    def __init__(self, d_ff: int, patch_nums: int, pred_len: int, dropout: float) -> None:
        super().__init__()
        self.d_ff = d_ff
        self.projection = nn.Linear(d_ff * patch_nums, pred_len)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_BPE: Tensor) -> Tensor:
        """B x P x E to window-normalised values, B x H."""
        features_BFP = hidden_BPE[:, :, : self.d_ff].transpose(1, 2)
        return self.dropout(self.projection(features_BFP.flatten(1)))


class Shortcut(nn.Module):
    """One linear map for all channels, from how the history differs from its last value to how the future does.

    This is NLinear (Zeng et al., AAAI 2023), a strong forecaster of its own: what is left to the LLM is what is not
    linear. A `period` adds the few weights of a `PeriodicMap`, which lowers validation errors on ETTh1
    (benchmarks/RESULTS.md). All weights start at zero, so that training starts from the last value.
    """

    def __init__(self, seq_len: int, pred_len: int, period: int = 0) -> None:
        super().__init__()
        self.weight_HT = nn.Parameter(torch.zeros(pred_len, seq_len))
        self.bias_H = nn.Parameter(torch.zeros(pred_len))
        self.periodic = PeriodicMap(seq_len, pred_len, period) if period else None

    def forward(self, scaled_BT: Tensor) -> Tensor:
        """Window-normalised history, B x T, to window-normalised values, B x H."""
        last_B1 = scaled_BT[:, -1:]
        change_BT = scaled_BT - last_B1
        change_BH = functional.linear(change_BT, self.weight_HT, self.bias_H)
        if self.periodic is not None:
            change_BH = change_BH + self.periodic(change_BT)
        return last_B1 + change_BH


class PeriodicMap(nn.Module):
    """One matrix for all phases of a period, from the whole periods of the history (N) to those of the future (M).

    This is SparseTSF (Lin et al., ICML 2024), without its own normalisation: 10 a.m. of the coming days is a weighted
    sum of 10 a.m. of the past days, after the history is smoothed over a period by weights that are learned as well.
    """

    def __init__(self, seq_len: int, pred_len: int, period: int) -> None:
        super().__init__()
        self.period, self.pred_len, self.periods = period, pred_len, seq_len // period
        self.smoothing = nn.Parameter(torch.zeros(1, 1, 1 + 2 * (period // 2)))
        self.weight_NM = nn.Parameter(torch.zeros(self.periods, ceil(pred_len / period)))

    def forward(self, change_BT: Tensor) -> Tensor:
        """B x T to B x H."""
        smooth_BT = functional.conv1d(change_BT.unsqueeze(1), self.smoothing, padding=self.period // 2).squeeze(1)
        recent_BT = (change_BT + smooth_BT)[:, -self.periods * self.period :]
        phases_BNP = recent_BT.unflatten(1, (self.periods, self.period))
        return (self.weight_NM.T @ phases_BNP).flatten(1)[:, : self.pred_len]


class NoLLM(nn.Module):
    """Stands in the LLM's place and changes nothing."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size

    def admit(self, prompt: PromptTokens) -> None:
        """Nothing reads a prompt."""

    def forward(self, prompt: PromptTokens, tokens_BPE: Tensor) -> Tensor:  # noqa: ARG002
        """The tokens themselves."""
        return tokens_BPE
