"""How large a day map is. Light: the memory bill counts with it before anything is loaded."""

from dataclasses import dataclass

_DAYS_OF_WEEK = 7
_MOST_PRODUCTS = 2**24
"""Channels share their weights in closed form where their own need more sums of products: C x D x (K + F)^2."""
MOST_MIXES = 64
"""So many directions of the lines' vectors are kept, those in which the lines of the training days differ most."""


@dataclass(frozen=True)
class DayMapSizes:
    """What the map of a run is made for. `vector` is E and `mixes` is K, both 0 without text; `columns` is F.

    `channels` are those whose weights in closed form it starts from; 0 for a map that starts from nothing.
    """

    slots: int
    vector: int
    mixes: int
    columns: int
    rank: int
    seq_len: int
    channels: int = 0

    @property
    def rows(self) -> int:
        """Rows of weights in closed form: one for each channel and their mean, or one for all."""
        if self.channels < 2:
            return self.channels
        return self.channels + 1 if has_own_weights(self.channels, self.slots, self.mixes + self.columns) else 1

    @property
    def days(self) -> int:
        """Days that the history is aligned to: a week where it is that long, else one."""
        return _DAYS_OF_WEEK if self.seq_len >= _DAYS_OF_WEEK * self.slots else 1

    @property
    def width(self) -> int:
        """W: slots of the aligned history."""
        return self.days * self.slots

    @property
    def history_mixes(self) -> int:
        """Mixes of the history, without the constant one."""
        return 2 * self.rank

    @property
    def cores(self) -> dict[str, tuple[int, int]]:
        """What each core reads: how many numbers of a line or of a row of columns, and how many mixes of them (A)."""
        inputs = {"text": self.mixes, "columns": self.columns}
        return {name: (count, min(self.rank, count)) for name, count in inputs.items() if count}


def has_own_weights(channels: int, slots: int, known: int) -> bool:
    """Whether each channel may have weights of its own, for `known` numbers at each slot of the day."""
    return channels > 1 and channels * slots * known**2 <= _MOST_PRODUCTS
