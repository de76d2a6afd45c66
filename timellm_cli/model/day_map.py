"""From what is known of the days ahead to a part of the forecast: a small map that starts at zero.

A line of text (or a row of columns) says what a day is like; what this changes depends on the sample's own history: a
holiday lowers the counts of one sensor and raises those of another. So both are mixed to a few numbers each, and a
trained core multiplies them: profile over the day = sum over a, b of line_a x history_b x core_abs. Each step of the
horizon takes the value of its slot in the profile of its day, so a window may start at any hour.

The map learns what the numeric model leaves over, whose forecast it adds to (`training/step.py`). Beside a fitted
shortcut it does not start from nothing: `start` is the days' part of the closed form (`linear_days.py`), one weight for
each number of a line or of a row of columns, by channel and slot, which stays as it is beside the trained map.

Shapes beside those of `time_llm.py`: L lines, E numbers of a line's vector, K of them after `basis_EK`, A mixes of a
line, F columns, J mixes of the history with a constant one, D slots of a day, W slots of the aligned history, C rows of
weights in closed form. Units: window-normalised; standardised in `start`.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from timellm_cli.data.ahead import BESIDE
from timellm_cli.model.day_map_sizes import MOST_MIXES, DayMapSizes


class DayMap(nn.Module):
    """What the text of the days, and columns that are known ahead, add to the forecast."""

    mean_E: Tensor
    basis_EK: Tensor
    column_mean_F: Tensor
    column_std_F: Tensor
    lines_LK: Tensor
    start_CDK: Tensor
    start_CDF: Tensor
    start_CLD: Tensor

    def __init__(self, sizes: DayMapSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width, mixes = sizes.width, sizes.history_mixes
        self.history = nn.Parameter(torch.randn(width, mixes) * width**-0.5)
        self.text = _Core(sizes.mixes, sizes.rank, mixes + 1, sizes.slots) if sizes.mixes else None
        self.columns = _Core(sizes.columns, sizes.rank, mixes + 1, sizes.slots) if sizes.columns else None
        self.register_buffer("mean_E", torch.zeros(sizes.vector))
        self.register_buffer("basis_EK", torch.zeros(sizes.vector, sizes.mixes))
        self.register_buffer("column_mean_F", torch.zeros(sizes.columns))
        self.register_buffer("column_std_F", torch.ones(sizes.columns))
        self.register_buffer("lines_LK", torch.zeros(1, sizes.mixes), persistent=False)
        self.register_buffer("start_CDK", torch.zeros(sizes.rows, sizes.slots, sizes.mixes))
        self.register_buffer("start_CDF", torch.zeros(sizes.rows, sizes.slots, sizes.columns))
        self.register_buffer("start_CLD", torch.zeros(sizes.rows, min(sizes.mixes, 1), sizes.slots), persistent=False)

    @torch.no_grad()
    def fit_vectors(self, mean_E: Tensor, basis_EK: Tensor) -> None:
        """Use this mean and these directions for the vectors of lines (`basis_of`)."""
        self.mean_E.copy_(mean_E)
        self.basis_EK.copy_(basis_EK)

    @torch.no_grad()
    def fit_columns(self, columns_NF: Tensor) -> None:
        """Standardise columns by the mean and deviation of these rows."""
        columns_NF = columns_NF.double()
        std_F = columns_NF.std(dim=0, unbiased=False)
        self.column_mean_F.copy_(columns_NF.mean(dim=0))
        self.column_std_F.copy_(torch.where(std_F > 0, std_F, 1.0))

    @torch.no_grad()
    def set_lines(self, vectors_LE: Tensor) -> None:
        """Read these lines from now on. To be called before a step is recorded: their table gets another address."""
        vectors_LE = vectors_LE.to(self.mean_E)
        self.lines_LK = (vectors_LE - self.mean_E) @ self.basis_EK
        self.look_up_lines()

    @torch.no_grad()
    def start_from(self, weights_CDI: Tensor) -> None:
        """Start from these weights: I = K + F inputs, the line's numbers first. One row is for all channels."""
        rows_CDI = weights_CDI.mean(dim=0, keepdim=True)
        if own := self.sizes.rows - 1:
            rows_CDI = torch.cat([weights_CDI.expand(own, -1, -1), rows_CDI])
        parts = rows_CDI.to(self.start_CDK).tensor_split([self.sizes.mixes], dim=2)
        self.start_CDK, self.start_CDF = (part.contiguous() for part in parts)
        self.look_up_lines()

    @torch.no_grad()
    def take_channels(self, known_C: Tensor) -> None:
        """Start from the weights of these channels, which have the numbers 0, 1 and so on from now on."""
        if self.sizes.rows:
            last = self.sizes.rows - 1
            row_C = torch.where(known_C < 0, last, known_C).clamp(max=last)
            self.sizes = replace(self.sizes, channels=len(known_C))
            self.start_from(torch.cat([self.start_CDK[row_C], self.start_CDF[row_C]], dim=2))

    @torch.no_grad()
    def look_up_lines(self) -> None:
        """Compute what each line adds to begin with. To be called where weights or lines have changed."""
        if self.sizes.mixes:
            self.start_CLD = torch.einsum("lk,cdk->cld", self.lines_LK, self.start_CDK)

    def fixed(self) -> dict[str, Tensor]:
        """What was fitted and is not trained, by its name in the model."""
        names = ("mean_E", "basis_EK", "column_mean_F", "column_std_F", "start_CDK", "start_CDF")
        return {f"day_map.{name}": getattr(self, name) for name in names}

    def parts(
        self, scaled_BT: Tensor, std_B1: Tensor, line_BH: Tensor, slot_BH: Tensor, week_BT: Tensor, columns_BHF: Tensor,
        channel_B: Tensor,
    ) -> tuple[Tensor | None, Tensor]:  # fmt: skip
        """What the closed form adds, and what the trained part does, B x H, standardised; `std_B1` is the window's."""
        added_BH = self(scaled_BT, line_BH, slot_BH, week_BT, columns_BHF) * std_B1
        return self.start(line_BH, slot_BH, columns_BHF, channel_B), added_BH

    def forward(
        self, scaled_BT: Tensor, line_BH: Tensor, slot_BH: Tensor, week_BT: Tensor, columns_BHF: Tensor
    ) -> Tensor:
        """What the trained part adds to the forecast, B x H, window-normalised."""
        history_BJ = self._mix_history(scaled_BT, week_BT)
        added_BH = torch.zeros_like(slot_BH, dtype=scaled_BT.dtype)
        if self.text is not None:
            mixed_LA = self.lines_LK @ self.text.mix
            added_BH = added_BH + self.text(mixed_LA[line_BH], history_BJ, slot_BH)
        if self.columns is not None:
            mixed_BHA = self._standardise(columns_BHF) @ self.columns.mix
            added_BH = added_BH + self.columns(mixed_BHA, history_BJ, slot_BH)
        return added_BH

    def start(self, line_BH: Tensor, slot_BH: Tensor, columns_BHF: Tensor, channel_B: Tensor) -> Tensor | None:
        """What the closed form adds, B x H, standardised; None for a map that starts from nothing.

        A channel that the training did not have (`NEW`) takes the last row, the mean over channels. A column beside the
        target of MS (`BESIDE`) gets nothing: these weights are the target's.
        """
        if not self.sizes.rows:
            return None
        last = self.sizes.rows - 1
        row_B1 = torch.where(channel_B < 0, last, channel_B).clamp(max=last)[:, None]
        added_BH = torch.zeros_like(slot_BH, dtype=self.start_CDK.dtype)
        if self.sizes.mixes:
            added_BH = added_BH + self.start_CLD[row_B1, line_BH, slot_BH]
        if self.sizes.columns:
            added_BH = added_BH + (self._standardise(columns_BHF) * self.start_CDF[row_B1, slot_BH]).sum(dim=2)
        return added_BH * (channel_B != BESIDE)[:, None]

    def _standardise(self, columns_BHF: Tensor) -> Tensor:
        return (columns_BHF - self.column_mean_F) / self.column_std_F

    def _mix_history(self, scaled_BT: Tensor, week_BT: Tensor) -> Tensor:
        """The newest rows, one for each slot of the week (or the day), mixed; and a one. B x J."""
        width = len(self.history)
        recent_BT, place_BT = scaled_BT[:, -width:], week_BT[:, -width:] % width
        empty_BW = scaled_BT.new_zeros(len(scaled_BT), width)
        sums_BW = empty_BW.scatter_add(1, place_BT, recent_BT)
        counts_BW = empty_BW.scatter_add(1, place_BT, torch.ones_like(recent_BT))
        mixed_BJ = (sums_BW / counts_BW.clamp_min(1)) @ self.history
        return torch.cat([mixed_BJ, torch.ones_like(mixed_BJ[:, :1])], dim=1)


class _Core(nn.Module):
    """Mixes a line's (or a row's) numbers, and multiplies them with the history's for each slot of the day."""

    def __init__(self, inputs: int, rank: int, history: int, slots: int) -> None:
        super().__init__()
        rank = min(rank, inputs)
        self.mix = nn.Parameter(torch.randn(inputs, rank) * inputs**-0.5)
        self.core_AJD = nn.Parameter(torch.zeros(rank, history, slots))

    def forward(self, mixed_BHA: Tensor, history_BJ: Tensor, slot_BH: Tensor) -> Tensor:
        """B x H."""
        profile_BAD = torch.einsum("bj,ajd->bad", history_BJ, self.core_AJD)
        slot_BAH = slot_BH[:, None, :].expand(-1, profile_BAD.shape[1], -1)
        return (profile_BAD.gather(2, slot_BAH).transpose(1, 2) * mixed_BHA).sum(dim=2)


def basis_of(vectors_LE: Tensor, counts_L: Tensor, most: int = MOST_MIXES) -> tuple[Tensor, Tensor]:
    """Mean (E) of the training days' lines, and the directions (E x K) in which they differ most (PCA).

    `counts_L` says how many training days each line is of. Directions are scaled so that a line's numbers have a mean
    square of one over the training days, the first ones more and the last ones less. Computed in float64.
    """
    vectors_LE = vectors_LE.double()
    share_L1 = (counts_L.double() / counts_L.sum().clamp(min=1))[:, None]
    mean_E = (share_L1 * vectors_LE).sum(dim=0)
    centred_LE = (vectors_LE - mean_E) * share_L1.sqrt()
    _, deviation_K, directions_KE = torch.linalg.svd(centred_LE, full_matrices=False)
    kept = int((deviation_K[:most] > 1e-6 * deviation_K[0].clamp(min=1e-30)).sum()) or 1
    scale = deviation_K[:kept].square().mean().sqrt().clamp(min=1e-30)
    # The sign of a direction is arbitrary: make its largest number positive, the same on every machine.
    basis_EK = directions_KE[:kept].T
    signs_K = basis_EK.gather(0, basis_EK.abs().argmax(dim=0, keepdim=True)).sign()
    return mean_E.float(), (basis_EK * signs_K / scale).float()
