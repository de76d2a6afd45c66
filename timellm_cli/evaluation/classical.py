"""Classical forecasters of the package statsforecast, fitted anew on the history of every window. Light but for numpy.

They are slow: a fit takes from milliseconds to minutes. So they run in processes of their own under a deadline, and on
windows at equal distances: first `LEAST_ORIGINS` a channel, then twice as many as long as time allows.
"""

import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from timellm_cli.errors import ConfigError, did_you_mean

MODELS = {"theta": "Theta", "auto_ets": "AutoETS", "auto_arima": "AutoARIMA"}
"""Their names in `--baselines` and in statsforecast, the fastest first."""
LEAST_ORIGINS = 50
"""So many windows of each channel at least; all, where a channel has fewer."""

Rows = NDArray[np.float64]
Curves = NDArray[np.float64]
"""Forecasts of one window, 1 + 2 L x H: the mean, then the lower and the upper end of the band of each level."""


def choose_classical(text: str | None) -> tuple[str, ...]:
    """The names in a text such as 'auto_ets,theta', the fastest first; none for None.

    Raises ConfigError for a name that is none, and where statsforecast is not installed.
    """
    names = [part.strip().lower() for part in (text or "").split(",") if part.strip()]
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise ConfigError(
            f"--baselines '{unknown[0]}' is no baseline{did_you_mean(unknown[0], MODELS)}",
            f"they are {', '.join(MODELS)}; last value, seasonal naive and linear are always there",
        )
    if names and find_spec("statsforecast") is None:
        raise ConfigError(
            "--baselines needs the package statsforecast, which is not installed",
            "pip install 'timellm[baselines]' (in an environment with pandas below 3), or leave --baselines out",
        )
    return tuple(name for name in MODELS if name in names)


@dataclass
class ClassicalForecasts:
    """Forecasts by name and window, with bands of `levels` (percent); and what was left out, with the reason."""

    by_name: dict[str, dict[int, Curves]] = field(default_factory=dict)
    levels: tuple[int, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)

    def rows(self, name: str, windows: Sequence[int]) -> Rows:
        """The forecasts of a baseline for these windows, one a row."""
        return np.stack([self.by_name[name][window][0] for window in windows])

    def ends(self, name: str, windows: Sequence[int]) -> dict[int, tuple[Rows, Rows]]:
        """Of each level the lower and the upper ends of the bands, one a row."""
        curves = np.stack([self.by_name[name][window] for window in windows])
        return {level: (curves[:, 1 + 2 * at], curves[:, 2 + 2 * at]) for at, level in enumerate(self.levels)}


class Classical:
    """Runs classical forecasters within `seconds` in all; with bands of these `levels` (percent), their own."""

    def __init__(
        self, names: Sequence[str], season: int, pred_len: int, seconds: float, levels: Sequence[int] = ()
    ) -> None:
        self._names, self._season, self._pred_len, self._levels = names, season, pred_len, tuple(levels)
        self._ends = time.monotonic() + seconds

    def run(
        self,
        grids: Iterable[Sequence[int]],
        histories: Callable[[Sequence[int]], Rows],
        on_window: Callable[[str, int], None] = lambda *_: None,
    ) -> tuple[Sequence[int], ClassicalForecasts]:
        """Forecast the windows of the first grid, and of further ones as long as time allows.

        Each grid contains the one before it. `histories` gives the rows that windows read, one a row. `on_window` is
        called with the name of a baseline and how many of its windows are done. Returns the windows that all
        baselines have, which are not left out.
        """
        found = ClassicalForecasts(levels=self._levels)
        done: Sequence[int] = ()
        took: dict[str, float] = {}
        for grid in grids:
            new = sorted(set(grid) - set(done))
            if not new or (done and sum(took.values()) * len(new) / len(done) > self._ends - time.monotonic()):
                break
            rows = histories(new)
            waiting = [name for name in self._names if name not in found.left_out]
            results = {}
            for place, name in enumerate(waiting):
                began = time.monotonic()
                share = (self._ends - began) / (len(waiting) - place)
                results[name] = self._forecast(name, rows, share, partial(on_window, name))
                took[name] = took.get(name, 0.0) + time.monotonic() - began
            late = {name: len(own) for name, own in results.items() if len(own) < len(new)}
            if done and late:
                break
            for name, count in late.items():
                found.left_out[name] = f"{count:,} of {len(new):,} windows in {took.pop(name) / 60:.1f} minutes"
            for name in waiting:
                if name not in late:
                    self._keep(found, name, new, rows, results[name])
            done = sorted({*done, *new})
            if not took:
                break
        return done, found

    def _keep(
        self, found: ClassicalForecasts, name: str, windows: Sequence[int], rows: Rows, own: dict[int, Curves | None]
    ) -> None:
        """Add the forecasts of these windows; where a fit failed the last value is repeated, with bands of no width."""
        kept = found.by_name.setdefault(name, {})
        for place, forecast in own.items():
            last = np.full((1 + 2 * len(self._levels), self._pred_len), rows[place, -1])
            kept[windows[place]] = last if forecast is None else forecast
        failed = sum(forecast is None for forecast in own.values())
        found.failed[name] = found.failed.get(name, 0) + failed

    def _forecast(
        self, name: str, rows: Rows, seconds: float, on_window: Callable[[int], None]
    ) -> dict[int, Curves | None]:
        """The forecasts by place in `rows`; fewer where time ran out, None where a fit failed."""
        how = self._season, self._pred_len, self._levels
        tasks = ((place, MODELS[name], row, *how) for place, row in enumerate(rows))
        ends, found = time.monotonic() + seconds, dict[int, Curves | None]()
        # A pool of its own: what is left of a baseline that is late ends with it.
        with multiprocessing.get_context("spawn").Pool(os.cpu_count() or 1, _ignore_interrupts) as pool:
            results = pool.imap_unordered(_fit, tasks)
            while len(found) < len(rows):
                try:
                    place, forecast = results.next(timeout=max(ends - time.monotonic(), 0.0))
                except multiprocessing.TimeoutError:
                    break
                found[place] = forecast
                on_window(1)
        return found


def _ignore_interrupts() -> None:
    """Only the main process answers Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _fit(task: tuple[int, str, Rows, int, int, tuple[int, ...]]) -> tuple[int, Curves | None]:
    """Fit one forecaster to one history; None where it fails or gives no finite numbers."""
    place, model, history_T, season, pred_len, levels = task
    wanted = ["mean", *(f"{end}-{level}" for level in levels for end in ("lo", "hi"))]
    try:
        with warnings.catch_warnings(action="ignore"):
            found = getattr(import_module("statsforecast.models"), model)(season_length=season)
            curves = found.forecast(y=history_T, h=pred_len, level=list(levels) or None)
            forecast = np.array([curves[name] for name in wanted], dtype=np.float64)
    except Exception:  # whatever a fit raises, the window is forecast otherwise and counted
        return place, None
    return place, forecast if np.isfinite(forecast).all() else None
