"""How large a day map is. Light: the memory bill counts with it before anything is loaded."""

from dataclasses import dataclass

_DAYS_OF_WEEK = 7
MOST_MIXES = 64
"""So many directions of the lines' vectors are kept, those in which the lines of the training days differ most."""


@dataclass(frozen=True)
class DayMapSizes:
    """What the map of a run is made for. `vector` is E and `mixes` is K, both 0 without text; `columns` is F."""

    slots: int
    vector: int
    mixes: int
    columns: int
    rank: int
    seq_len: int

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
