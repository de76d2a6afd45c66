"""`inspect --show-patches`: the shapes through the model, and the first training sample's patches as numbers. Light."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.text import Text

from timellm_cli.config import ModelConfig
from timellm_cli.console import as_is, translated
from timellm_cli.planning.first_window import FirstHistory, Patch, cut_patches, first_history
from timellm_cli.planning.plan import Plan
from timellm_cli.planning.shapes import Stage, model_shapes
from timellm_cli.report.tables import line_up, section
from timellm_cli.units import format_count

_ENDS = 2
"""So many patches are shown from the start and from the end."""
_WIDTH = 8
"""Of a value, with the blanks before it."""
_MOST_VALUES = 32
"""Of a longer patch, this half from the start and this half from the end."""


def shown_patches(plan: Plan) -> Group:
    """A line for each tensor of a step, and the first sample's patches where the data file is here."""
    batch = plan.shared.each if plan.shared else plan.counts.batch_size
    of_one = " of one process" if plan.shared else ""
    shapes = section(f"Shapes of a step{of_one}, {format_count(batch, 'sample')}", _shapes(model_shapes(plan)))
    if plan.data.table is None:
        why = "training would refuse the data file" if plan.data.fault else "the data file is not here"
        return Group(shapes, section("Patches of the first training sample", Text(f" not shown: {why}")))
    history = first_history(plan.data.table, plan.config)
    patches = cut_patches(history.scaled, plan.config.model)
    lines = [Padding(Text(line), (0, 0, 0, 1)) for line in _how(history, plan.config.model, patches)]
    title = f"Patches of the first training sample: {history.channel}, {history.first} to {history.last}"
    return Group(shapes, section(title, Group(*lines, Text(""), *_shown(patches))))


def patches_record(plan: Plan) -> dict[str, Any]:
    """What `--show-patches` adds to `inspect --json`.

    - `shapes`: `key`, `name`, `shape` (null for a size that is not known), `meaning` of each tensor of a step
    - `patches`: of the first training sample, or null without its file: `channel`, `first` and `last` (timestamps),
      `raw` and `standardised` (T values each), `train_mean`, `train_std`, `window_mean`, `window_std`, and `patches`,
      each with `number`, `first` (its first row, from 1), `padded`, `values` (window-normalised)
    """
    shapes = [vars(stage) for stage in model_shapes(plan)]
    if plan.data.table is None:
        return {"shapes": shapes, "patches": None}
    history = first_history(plan.data.table, plan.config)
    patches = cut_patches(history.scaled, plan.config.model)
    shown: dict[str, Any] = {name: getattr(history, name) for name in ("channel", "first", "last")}
    shown |= {"train_mean": history.of_train.mean, "train_std": history.of_train.std}
    shown |= {"window_mean": history.of_window.mean, "window_std": history.of_window.std}
    shown |= {"raw": list(history.raw), "standardised": list(history.standardised)}
    return {"shapes": shapes, "patches": {**shown, "patches": [vars(patch) for patch in patches]}}


def _shapes(stages: Sequence[Stage]) -> Padding:
    rows = ((stage.name, show_shape(stage.shape), stage.meaning) for stage in stages)
    return line_up((map(Text, row) for row in rows), "left", "right", "left")


def show_shape(shape: Sequence[int | None]) -> str:
    """A shape as '8 x 64 x 2,048'; E for the hidden size of an unknown LLM."""
    return " x ".join("E" if size is None else f"{size:,}" for size in shape)


def _how(history: FirstHistory, model: ModelConfig, patches: Sequence[Patch]) -> Iterator[str]:
    """From the first value in the file to that of the first patch, and where the patches end."""
    raw, standard, train, window = history.raw[0], history.standardised[0], history.of_train, history.of_window
    decimals = ",.3f" if 0.1 <= train.std < 1e7 else ".6g"
    value, mean, std = (format(number, decimals) for number in (raw, train.mean, train.std))
    yield f"1. As in the file: row 1 is {value}."
    yield f"2. Standardised, by mean and deviation of the training rows: ({value} - {mean}) / {std} = {standard:.3f}."
    of_window = f"({standard:.3f} - {window.mean:.3f}) / {window.std:.3f} = {show_value(history.scaled[0])}"
    yield f"3. Normalised, by mean and deviation of this history: {of_window}."
    rows, last = len(history.raw), patches[-1]
    yield (
        f"4. Padded: row {rows:,} is repeated {format_count(model.patch_stride, 'time')} (patch_stride). Patch "
        f"{last.number:,} reads {last.padded:,} of them, marked *."
    )
    yield (
        f"5. Cut into patches of {format_count(model.patch_len, 'row')} (patch_len); the next one begins "
        f"{format_count(model.patch_stride, 'row')} later (patch_stride)."
    )


def _shown(patches: Sequence[Patch]) -> Iterator[RenderableType]:
    """The first and the last patches."""
    left_out = max(len(patches) - 2 * _ENDS, 0)
    first, last = (patches[:_ENDS], patches[-_ENDS:]) if left_out else (patches, ())
    names = {patch.number: _names(patch) for patch in (*first, *last)}
    margin = max(12, *(cell_len(name) for pair in names.values() for name in pair)) + 2
    yield from (_PatchLines(patch, names[patch.number], margin) for patch in first)
    if left_out:
        yield Text(f" … {left_out:,} more {'patch' if left_out == 1 else 'patches'}", style="dim")
    yield from (_PatchLines(patch, names[patch.number], margin) for patch in last)


def _names(patch: Patch) -> tuple[str, str]:
    """Its number, and the rows of the history that it has."""
    known = len(patch.values) - patch.padded
    rows = f"rows {patch.first:,}-{patch.first + known - 1:,}" if known else "padding"
    return translated(f"patch {patch.number:,}"), translated(rows)


def show_value(value: float) -> str:
    """A window-normalised value with three decimals; zero has no sign."""
    return f"{value:.3f}".replace("-0.000", "0.000")


class _PatchLines:
    """The values of a patch behind its names, as many on a line as fit and divide the patch."""

    def __init__(self, patch: Patch, names: tuple[str, str], margin: int) -> None:
        self._patch, self._names, self._margin = patch, names, margin

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lines of equal length, so that overlapping patches show the same lines."""
        patch, length = self._patch, len(self._patch.values)
        known = length - patch.padded
        cells = [show_value(value) + " *"[place >= known] for place, value in enumerate(patch.values)]
        if length > _MOST_VALUES:
            cells = [*cells[: _MOST_VALUES // 2], "… ", *cells[-_MOST_VALUES // 2 :]]
        fit = max((options.max_width - self._margin) // _WIDTH, 1)
        most = next((count for count in range(fit, fit // 2, -1) if length % count == 0), fit)
        lines = [cells[start : start + most] for start in range(0, len(cells), most)]
        names = [*self._names, *[""] * (len(lines) - 2)]
        lines += [[]] * (len(names) - len(lines))
        for name, line in zip(names, lines, strict=True):
            blank = " " * (self._margin - 1 - cell_len(name))
            yield as_is(f" {name}{blank}" + "".join(f"{cell:>{_WIDTH}}" for cell in line))
