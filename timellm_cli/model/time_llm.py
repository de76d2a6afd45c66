"""Time-LLM in one file: from a window of history to its forecast (Jin et al., ICLR 2024, arXiv 2310.01728).

The path of a batch is `TimeLLM.forward`, at the end. A window is normalised and cut into patches. Each patch is
embedded, then reprogrammed: it attends to text prototypes, which puts it into the LLM's embedding space. The frozen LLM
reads the prompt and the patches. A linear head maps what it says at the patches to the forecast.

Shapes: B samples, T rows of history (seq_len), H rows of forecast (pred_len), P patches, L rows in a patch (patch_len),
D width of a patch embedding (d_model), F features that the head reads (d_ff), E hidden size of the LLM, V words of its
vocabulary, U prototypes. Units: standardised in and out; window-normalised between `normalise` and `restore`.

Not here: prompts (`prompt.py`, `prompt_tokens.py`), the LLM (`llm/`), building the model (`load.py`), running it
(`runner.py`). Left out of the original: its unused decoder inputs, and padding that depends on the batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timellm_cli.config import ModelConfig, WindowConfig
from timellm_cli.counts import count_patches
from timellm_cli.data.batch import PromptTokens
from timellm_cli.errors import ModelError
from timellm_cli.model.day_map import DayMap
from timellm_cli.model.dropout import EMBEDDING, HEAD, attend, drop

EPSILON = 1e-5
"""Added to the variance of a window, so that a constant window can be normalised."""


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each history, both B x 1, in standardised units."""

    mean_B1: Tensor
    std_B1: Tensor

    def restore(self, scaled_BH: Tensor) -> Tensor:
        """From window-normalised values to standardised ones; B x H."""
        return scaled_BH * self.std_B1 + self.mean_B1


def normalise(history_BT: Tensor) -> tuple[Tensor, Moments]:
    """Each history at mean 0 and deviation 1, B x T, and the moments that undo it. No module keeps a state.

    x' = (x - mean) / sqrt(variance + EPSILON), with the population variance: RevIN (Kim et al., ICLR 2022) without its
    affine part.
    """
    mean_B1 = history_BT.mean(dim=1, keepdim=True)
    std_B1 = torch.sqrt(history_BT.var(dim=1, keepdim=True, unbiased=False) + EPSILON)
    return (history_BT - mean_B1) / std_B1, Moments(mean_B1, std_B1)


def cut_patches(scaled_BT: Tensor, patch_len: int, patch_stride: int) -> Tensor:
    """Overlapping patches, B x P x L, with P = (T - L) // stride + 2 (PatchTST; Nie et al., ICLR 2023).

    The history is first padded on the right: its last value is repeated `patch_stride` times.
    """
    padded = F.pad(scaled_BT.unsqueeze(1), (0, patch_stride), mode="replicate").squeeze(1)
    return padded.unfold(dimension=1, size=patch_len, step=patch_stride)


class PatchEmbedding(nn.Module):
    """B x P x L to B x P x D: a circular convolution of width 3 over the patches, without a bias."""

    def __init__(self, patch_len: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(patch_len, d_model, kernel_size=3, padding=1, padding_mode="circular", bias=False)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.dropout = dropout

    def forward(self, patches_BPL: Tensor, key_B: Tensor | None = None) -> Tensor:
        embedded_BPD = self.convolution(patches_BPL.transpose(1, 2)).transpose(1, 2)
        return drop(embedded_BPD, key_B, self.dropout, EMBEDDING) if self.training else embedded_BPD


class VocabularyPrototypes(nn.Module):
    """U x E text prototypes S, each a weighted sum of all word embeddings, in a compact form.

    Time-LLM learns S = W E + b 1' with W of U x V, which is hundreds of millions of weights. S depends on W only
    through W E, whose rank is at most the hidden size. With E'E = R'R (Cholesky) and Q = E R^-1, whose columns are
    orthonormal, S = (W Q) R + b 1'. Training W' = W Q reaches the same S, and plain gradient descent on W' takes the
    same steps in S as gradient descent on W.
    """

    factor_EE: Tensor

    def __init__(self, factor_EE: Tensor, num_prototypes: int, vocabulary: int) -> None:
        """`factor_EE` is R, from `vocabulary_factor`. W' starts as W ~ U(+-1/sqrt(V)) would: variance 1/(3V)."""
        super().__init__()
        self.weight_UE = nn.Parameter(torch.randn(num_prototypes, len(factor_EE)) * (3 * vocabulary) ** -0.5)
        self.bias_U = nn.Parameter((torch.rand(num_prototypes) * 2 - 1) * vocabulary**-0.5)
        self.register_buffer("factor_EE", factor_EE, persistent=False)

    def forward(self) -> Tensor:
        return torch.addmm(self.bias_U.unsqueeze(1), self.weight_UE, self.factor_EE)


class FreePrototypes(nn.Module):
    """U x E prototypes learned without a vocabulary, for the model without an LLM."""

    def __init__(self, num_prototypes: int, width: int) -> None:
        super().__init__()
        self.weight_UE = nn.Parameter(torch.randn(num_prototypes, width) * 0.02)

    def forward(self) -> Tensor:
        return self.weight_UE


def vocabulary_factor(embedding_VE: Tensor, chunk: int = 2048) -> Tensor:
    """R of `VocabularyPrototypes`: upper triangular, E x E, float32, on the CPU.

    E'E is summed in float64 over chunks of `chunk` words, so the whole table is never copied to float64. Where the
    embeddings do not span their space, a small ridge is added so that R exists. Raises ModelError where they are not
    finite.
    """
    gram_EE = torch.zeros(embedding_VE.shape[1], embedding_VE.shape[1], dtype=torch.float64)
    for rows in embedding_VE.split(chunk):
        rows64 = rows.to("cpu", torch.float64)
        gram_EE += rows64.T @ rows64
    if not gram_EE.isfinite().all():
        raise ModelError(
            "the LLM's table of token embeddings (embed_tokens) holds values that are not finite (NaN)",
            "fetch the LLM again",
        )
    ridge = 0.0
    lower, failed = torch.linalg.cholesky_ex(gram_EE)
    while failed:
        ridge = 10 * ridge or 1e-12 * float(gram_EE.diagonal().mean().clamp_min(1e-30))
        lower, failed = torch.linalg.cholesky_ex(gram_EE + ridge * torch.eye(len(gram_EE), dtype=torch.float64))
    return lower.T.contiguous().float()


def compact_mapping(full_UV: Tensor, embedding_VE: Tensor, factor_EE: Tensor) -> Tensor:
    """W' = (W E) R^-1, U x E, float32: the compact form of a full mapping, as the original's checkpoints hold it."""
    projected_UE = full_UV.double() @ embedding_VE.double()
    return torch.linalg.solve_triangular(factor_EE.double(), projected_UE, upper=True, left=False).float()


class Reprogramming(nn.Module):
    """B x P x D to B x P x E: cross-attention of the patches (queries) to the prototypes (keys, values); section 3.1.

    softmax(q k' / sqrt(F)) v in `n_heads` heads of width F, with dropout on the attention weights. `attention_dtype` is
    the number format of the attention alone: an LLM in 16 bits rounds its result anyway.
    """

    def __init__(self, d_model: int, hidden_size: int, n_heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        inner = n_heads * head_width
        self.n_heads, self.dropout = n_heads, dropout
        self.query = nn.Linear(d_model, inner)
        self.key = nn.Linear(hidden_size, inner)
        self.value = nn.Linear(hidden_size, inner)
        self.out = nn.Linear(inner, hidden_size)
        self.attention_dtype = torch.float32

    def forward(self, embedded_BPD: Tensor, prototypes_UE: Tensor, key_B: Tensor | None = None) -> Tensor:
        batch, patches, _ = embedded_BPD.shape
        # All patches of all samples attend to the same prototypes, so they are the queries of one attention.
        query = self._heads(self.query(embedded_BPD.flatten(0, 1)))
        key, value = self._heads(self.key(prototypes_UE)), self._heads(self.value(prototypes_UE))
        dropout = self.dropout if self.training else 0.0
        mixed = attend(query, key, value, key_B, dropout).float()
        return self.out(mixed.squeeze(0).transpose(0, 1).flatten(1)).unflatten(0, (batch, patches))

    def _heads(self, rows: Tensor) -> Tensor:
        """N x (heads * F) to 1 x heads x N x F, in the attention's number format."""
        return rows.to(self.attention_dtype).unflatten(1, (self.n_heads, -1)).transpose(0, 1).unsqueeze(0)


class ForecastHead(nn.Module):
    """B x P x E to B x H: the first F features at every patch, flattened feature by feature, through one matrix."""

    def __init__(self, d_ff: int, patch_nums: int, pred_len: int, dropout: float) -> None:
        super().__init__()
        self.d_ff = d_ff
        self.projection = nn.Linear(d_ff * patch_nums, pred_len)
        self.dropout = dropout

    def forward(self, hidden_BPE: Tensor, key_B: Tensor | None = None) -> Tensor:
        features_BFP = hidden_BPE[:, :, : self.d_ff].transpose(1, 2)
        scaled_BH: Tensor = self.projection(features_BFP.flatten(1))
        return drop(scaled_BH, key_B, self.dropout, HEAD) if self.training else scaled_BH


class Shortcut(nn.Module):
    """B x T to B x H: a linear forecast beside the LLM, the same for all channels (NLinear; Zeng et al., AAAI 2023).

    It maps how the history differs from its last value to how the future does. A `period` adds a `PeriodicMap`. All
    trained weights start at zero, so training starts from repeating the last value; or, if `fitted`, from the linear
    map in closed form (`data/ridge.py`), which stays as it is beside them: weight decay leads back to it.
    """

    fitted_HT: Tensor | None

    def __init__(self, seq_len: int, pred_len: int, period: int = 0, fitted: bool = False) -> None:
        super().__init__()
        self.weight_HT = nn.Parameter(torch.zeros(pred_len, seq_len))
        self.bias_H = nn.Parameter(torch.zeros(pred_len))
        self.periodic = PeriodicMap(seq_len, pred_len, period) if period else None
        self.register_buffer("fitted_HT", torch.zeros(pred_len, seq_len) if fitted else None)

    def fit(self, weights_TH: Tensor) -> None:
        """Start from the forecast mean + (history - mean) @ weights.

        A constant added to a column changes nothing there, since the centred history sums to zero. With columns that
        sum to one, the same map reads last + (history - last) @ weights.
        """
        assert self.fitted_HT is not None
        weights_TH = weights_TH.double()
        self.fitted_HT.copy_((weights_TH + (1 - weights_TH.sum(dim=0)) / len(weights_TH)).T)

    def forward(self, scaled_BT: Tensor) -> Tensor:
        last_B1 = scaled_BT[:, -1:]
        change_BT = scaled_BT - last_B1
        change_BH = F.linear(change_BT, self.weight_HT, self.bias_H)
        if self.fitted_HT is not None:
            change_BH = change_BH + F.linear(change_BT, self.fitted_HT)
        if self.periodic is not None:
            change_BH = change_BH + self.periodic(change_BT)
        return last_B1 + change_BH


class PeriodicMap(nn.Module):
    """B x T to B x H: one matrix for all phases of a period (SparseTSF; Lin et al., ICML 2024).

    10 a.m. of the coming days is a weighted sum of 10 a.m. of the past days (N whole periods to M), after the history
    is smoothed over a period by learned weights.
    """

    def __init__(self, seq_len: int, pred_len: int, period: int) -> None:
        super().__init__()
        self.period, self.pred_len, self.periods = period, pred_len, seq_len // period
        self.smoothing = nn.Parameter(torch.zeros(1, 1, 1 + 2 * (period // 2)))
        self.weight_NM = nn.Parameter(torch.zeros(self.periods, ceil(pred_len / period)))

    def forward(self, change_BT: Tensor) -> Tensor:
        smooth_BT = F.conv1d(change_BT.unsqueeze(1), self.smoothing, padding=self.period // 2).squeeze(1)
        recent_BT = (change_BT + smooth_BT)[:, -self.periods * self.period :]
        phases_BNP = recent_BT.unflatten(1, (self.periods, self.period))
        return (self.weight_NM.T @ phases_BNP).flatten(1)[:, : self.pred_len]


class NoLLM(nn.Module):
    """The same model without an LLM, for honest comparison: returns the tokens unchanged."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size

    recording_key = None

    def prepare(self, prompt: PromptTokens) -> None:
        """Nothing reads the prompt."""

    def forward(self, prompt: PromptTokens, tokens_BPE: Tensor) -> Tensor:  # noqa: ARG002
        return tokens_BPE


class TimeLLM(nn.Module):
    """Forecasts one channel at a time. `llm` is frozen: a `Decoder`, a `TransformersLLM` or `NoLLM`."""

    llm: Any

    def __init__(
        self, window: WindowConfig, model: ModelConfig, llm: Any, prototypes: VocabularyPrototypes | FreePrototypes
    ) -> None:
        super().__init__()
        self.window, self.model = window, model
        self.patch_nums = count_patches(window.seq_len, model.patch_len, model.patch_stride)
        self.patch_embedding = PatchEmbedding(model.patch_len, model.d_model, model.dropout)
        self.prototypes = prototypes
        self.reprogramming = Reprogramming(model.d_model, llm.hidden_size, model.n_heads, model.d_ff, model.dropout)
        self.llm = llm
        self.head = ForecastHead(model.d_ff, self.patch_nums, window.pred_len, model.dropout)
        self.day_map: DayMap | None = None
        self.shortcut = None
        if model.shortcut != "none":
            fitted = model.shortcut == "fitted"
            self.shortcut = Shortcut(window.seq_len, window.pred_len, model.shortcut_period, fitted)

    @torch.no_grad()
    def start_from(self, weights_TH: Tensor) -> None:
        """Forecast what the linear map with these weights does: a fitted shortcut becomes it, and the head zero."""
        assert self.shortcut is not None
        self.shortcut.fit(weights_TH)
        for weight in self.head.parameters():
            weight.zero_()

    def forward(self, history_BT: Tensor, prompt: PromptTokens, key_B: Tensor | None = None, *ahead: Tensor) -> Tensor:
        """Standardised history, B x T, to standardised forecast, B x H, float32. `ahead`: an `AheadBatch`'s tensors."""
        first_BH, *others = (part for part in self.parts(history_BT, prompt, key_B, *ahead) if part is not None)
        return sum(others, first_BH)

    def parts(
        self, history_BT: Tensor, prompt: PromptTokens, key_B: Tensor | None, *ahead: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The numeric model's forecast, the closed form of the day map, and its trained part, B x H, standardised.

        In training, `key_B` are keys for dropout (`dropout.make_keys`), else torch draws. The trained parts compute in
        float32 (on a GPU beside an LLM in 16 bits: in TF32), the LLM in its own format. An autocast changes nothing.
        """
        with torch.autocast(history_BT.device.type, enabled=False):
            scaled_BT, moments = normalise(history_BT)
            patches_BPL = cut_patches(scaled_BT, self.model.patch_len, self.model.patch_stride)
            tokens_BPE = self.reprogramming(self.patch_embedding(patches_BPL, key_B), self.prototypes(), key_B)
            hidden_BPE = self.llm(prompt, tokens_BPE)
            scaled_BH = self.head(hidden_BPE, key_B)
            if self.shortcut is not None:
                scaled_BH = scaled_BH + self.shortcut(scaled_BT)
            of_days = (None, None) if self.day_map is None else self.day_map.parts(scaled_BT, moments.std_B1, *ahead)
            return moments.restore(scaled_BH), *of_days

    def trainable_weights(self) -> dict[str, nn.Parameter]:
        """The trained weights by name. The LLM's are not among them."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def own_state(self) -> dict[str, Tensor]:
        """Copies on the CPU, by name, of what a training made: the trained weights, and the map that was fitted."""
        return {name: weight.detach().cpu().clone() for name, weight in self.own_weights().items()}

    def load_own_state(self, weights: Mapping[str, Tensor]) -> None:
        """Put such weights in. Raises ModelError naming each one that is missing, unknown or of another shape."""
        own = self.own_weights()
        faults = [f"missing {name}" for name in own.keys() - weights.keys()]
        faults += [f"unknown {name}" for name in weights.keys() - own.keys()]
        faults += [
            f"{name} is {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own.keys() & weights.keys()
            if weights[name].shape != own[name].shape
        ]
        if faults:
            raise ModelError(
                "the weights do not fit the model: " + "; ".join(sorted(faults)),
                "a checkpoint fits only the configuration and the LLM it was trained with",
            )
        with torch.no_grad():
            for name, weight in own.items():
                weight.copy_(weights[name])

    def own_weights(self) -> dict[str, Tensor]:
        """By name, what a training makes: the trained weights, and the map that was fitted."""
        weights: dict[str, Tensor] = dict(self.trainable_weights())
        if self.shortcut is not None and self.shortcut.fitted_HT is not None:
            weights["shortcut.fitted_HT"] = self.shortcut.fitted_HT
        return weights | (self.day_map.fixed() if self.day_map is not None else {})
