"""A linear way around the LLM."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Shortcut(nn.Module):
    """One linear map for all channels, from how the history differs from its last value to how the future does.

    This is NLinear (Zeng et al., AAAI 2023), a strong forecaster of its own: what is left to the LLM is what is not
    linear. Its weights start at zero, so that training starts from the last value.
    """

    def __init__(self, seq_len: int, pred_len: int) -> None:
        super().__init__()
        self.weight_HT = nn.Parameter(torch.zeros(pred_len, seq_len))
        self.bias_H = nn.Parameter(torch.zeros(pred_len))

    def forward(self, scaled_BT: Tensor) -> Tensor:
        """Window-normalised history, B x T, to window-normalised values, B x H."""
        last_B1 = scaled_BT[:, -1:]
        return last_B1 + functional.linear(scaled_BT - last_B1, self.weight_HT, self.bias_H)
