"""Token embeddings for a GPU that does not hold their table."""

import torch
from torch import Tensor, nn

from timellm_cli.model.llm.decoder_support import EMBEDDING_ROOM


class Embedding(nn.Module):
    """Looks tokens up in a table that stays in the computer's memory, or on disk behind it.

    Prompts are numbers and a few words, so a GPU needs some hundred rows of a Qwen's 151,936: a row is copied there
    when a prompt first needs it. On a CPU the table itself is read.
    """

    rows_NE: Tensor
    row_of_V: Tensor

    def __init__(self, table_VE: Tensor, device: torch.device, dtype: torch.dtype, copies: bool | None = None) -> None:
        """`table_VE` lies on the CPU, in any number format; embeddings come out on `device` in `dtype`.

        `copies=None` copies rows where the device is another than the table's.
        """
        super().__init__()
        self.table_VE = table_VE  # no buffer: `.to(device)` must not move it
        self._copies = device.type != "cpu" if copies is None else copies
        self._dtype, self._used = dtype, 0
        words, width = table_VE.shape
        room = EMBEDDING_ROOM if self._copies else 0
        self.register_buffer("rows_NE", torch.zeros(room, width, dtype=dtype, device=device), persistent=False)
        self.register_buffer(
            "row_of_V", torch.full((words if self._copies else 0,), -1, device=device), persistent=False
        )
        self._known = torch.zeros(words, dtype=torch.bool)

    @property
    def room(self) -> int:
        """Rows there is room for. Where it has grown, the rows lie elsewhere."""
        return len(self.rows_NE)

    @torch.inference_mode(False)
    @torch.no_grad()
    def admit(self, ids: Tensor) -> None:
        """Make sure that these tokens (on the CPU) can be looked up."""
        if not self._copies:
            return
        new = ids.unique()
        new = new[~self._known[new]]
        if not len(new):
            return
        self._known[new] = True
        if self._used + len(new) > len(self.rows_NE):
            room = max(2 * len(self.rows_NE), self._used + len(new))
            grown = self.rows_NE.new_zeros(room, self.rows_NE.shape[1])
            grown[: self._used] = self.rows_NE[: self._used]
            self.rows_NE = grown
        places = torch.arange(self._used, self._used + len(new))
        self.rows_NE[places.to(self.rows_NE.device)] = self.table_VE[new].to(self.rows_NE)
        self.row_of_V[new.to(self.row_of_V.device)] = places.to(self.row_of_V)
        self._used += len(new)

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings of admitted tokens, of the ids' shape with E behind."""
        if self._copies:
            return self.rows_NE[self.row_of_V[ids]]
        return self.table_VE[ids].to(self._dtype)
