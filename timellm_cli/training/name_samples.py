"""Which samples of a batch made a loss that is not finite, in the user's words."""

from collections.abc import Sequence

from timellm_cli.data.batch import Batch
from timellm_cli.data.windows import ForecastData
from timellm_cli.errors import listed


def name_samples(data: ForecastData, batch: Batch, positions: Sequence[int], own: range) -> str:
    """Channel and rows of the samples at these positions of the whole batch; rows count from 1 below the header.

    `batch` is this process's part of it, those at the positions `own`; the samples of others are left out.
    """
    rows = data.config.window.seq_len + data.config.window.pred_len
    positions = [position - own.start for position in positions if position in own]
    named = [
        f"'{data.table.channels[channel]}' rows {start + 1:,} to {start + rows:,}"
        for channel, start in zip(batch.channel_B[positions].tolist(), batch.start_B[positions].tolist(), strict=True)
    ]
    return f"; samples: {listed(named, 3)}" if named else ""
