"""What decides how much memory and time the day map of a run needs, and the reading of its lines. Light."""

from dataclasses import dataclass, replace

from timellm_cli.config import Config, LLMConfig
from timellm_cli.model.day_map_sizes import MOST_MIXES, DayMapSizes
from timellm_cli.planning.code_path import why_not_decoder
from timellm_cli.planning.llm_shape import LLMShape, look_up_llm

_SLOTS = 288
"""Where the data are not known: a day of five-minute steps, the finest that a day map tells apart."""
_CHANNELS = 100
_LINES, _TOKENS = 1000, 40
"""Where the data are not known: different lines, and tokens of the longest."""

_OF_SIZES = ("slots", "vector", "mixes", "columns", "channels")


@dataclass(frozen=True)
class DaysCase:
    """The day map of a run. Its sizes are those of `DayMapSizes`; `lines` are the different ones it knows.

    `reader` is the LLM that reads them, `reader_layers` of it, run by our own decoder or not; None without one, where
    its size is not known, and where no line is left to read. The longest line has `tokens`.
    """

    slots: int
    vector: int
    mixes: int
    columns: int
    rank: int
    lines: int
    tokens: int
    reader: LLMShape | None = None
    reader_layers: int = 0
    reader_is_decoder: bool = False
    channels: int = 0

    @classmethod
    def usual(cls, config: Config) -> "DaysCase | None":
        """That of a configuration whose data are not known: at most about so large. None where nothing is known."""
        if not config.reads_ahead:
            return None
        name = config.text_llm
        reader = look_up_llm(name) if name else None
        mixes = MOST_MIXES if config.ahead.has_text else 0
        return cls(
            slots=_SLOTS,
            vector=reader.hidden if reader else mixes,
            mixes=mixes,
            columns=len(config.data.future_columns),
            rank=config.ahead.rank,
            lines=_LINES if config.ahead.has_text else 0,
            tokens=_TOKENS,
            channels=_CHANNELS if config.model.shortcut == "fitted" else 0,
            reader=reader,
            reader_layers=reader.used_layers(config.ahead.layers) if reader else 0,
            reader_is_decoder=name is not None and why_not_decoder(LLMConfig(name=name)) is None,
        )

    @classmethod
    def built(cls, config: Config, sizes: DayMapSizes, lines: int, reads: bool) -> "DaysCase | None":
        """That of a day map that is there and knows so many lines; `reads` says whether an LLM had to read some."""
        usual = cls.usual(config)
        if usual is None:
            return None
        own = replace(usual, **{name: getattr(sizes, name) for name in _OF_SIZES})
        own = replace(own, lines=lines)
        return own if reads else replace(own, reader=None, reader_layers=0)

    def sizes(self, seq_len: int) -> DayMapSizes:
        """Of the map that reads so many rows of history."""
        own = {name: getattr(self, name) for name in _OF_SIZES}
        return DayMapSizes(rank=self.rank, seq_len=seq_len, **own)

    def trained(self, seq_len: int) -> dict[str, int]:
        """Weights of every trained tensor, by name."""
        sizes = self.sizes(seq_len)
        tensors = {"day map history": sizes.width * sizes.history_mixes}
        for name, (inputs, mixes) in sizes.cores.items():
            tensors[f"day map {name} mix"] = inputs * mixes
            tensors[f"day map {name} core"] = mixes * (sizes.history_mixes + 1) * sizes.slots
        return tensors
