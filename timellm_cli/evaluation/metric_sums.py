"""Sums of errors that metrics are computed from: they add up over folds, and are averaged over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from timellm_cli.data.scale import Floats


@dataclass(frozen=True, eq=False)
class MetricSums:
    """Sums over the known targets of each scored channel (C), in its own standardised units but for `symmetric_C`.

    `scaled_C` is the absolute error divided by the seasonal naive one of the training rows, NaN where that is 0 or not
    known. `quantile_C` is twice the pinball loss, a mean over the quantiles; NaN without bands. `raw_` sums are in the
    CSV's units.
    """

    known_C: Floats
    scaled_C: Floats
    symmetric_C: Floats
    quantile_C: Floats
    target_C: Floats
    raw_squared_C: Floats
    raw_absolute_C: Floats
    raw_quantile_C: Floats
    raw_target_C: Floats


def join_sums(parts: Sequence[MetricSums]) -> MetricSums:
    """The sums over several folds."""
    return replace(parts[0], **{one.name: sum(getattr(part, one.name) for part in parts) for one in fields(MetricSums)})


def mean_sums(seeds: Sequence[MetricSums]) -> MetricSums:
    """The mean of the sums over several seeds."""
    total = join_sums(seeds)
    return replace(total, **{one.name: getattr(total, one.name) / len(seeds) for one in fields(MetricSums)})
