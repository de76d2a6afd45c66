"""From the LLM's output at the patches to the forecast."""

from torch import Tensor, nn


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
