"""How long a step and an epoch will take on a card: an estimate. Light.

The few constants are calibrated on one H100 and its computer's processor (benchmarks/memory_grid.csv). Measured
afterwards on an H100 of another computer, captured steps were within 12 %; steps whose kernels are launched one by one
took up to 2.3 times as long, for that is up to the processor. Other cards are not checked. Left out: start and disk.
"""

from dataclasses import dataclass, replace

from timellm_cli.planning.cards import Card
from timellm_cli.planning.case import Case
from timellm_cli.planning.work import Work, scoring_work, step_work

OF_MATRIX_RATE, OF_BANDWIDTH = 0.79, 0.9
"""What an H100 reaches of its data sheet: in products of 8192 x 8192 numbers, and in copying a GiB."""

_ATTENTION = 0.135
"""Share of the matrix rate that attention with a mask reaches; other products reach it whole."""

_CACHED = 1.3
"""Times the bandwidth at which bytes are moved: some of what a kernel writes, the next reads from the card's cache."""

_KERNEL = 2.7e-6
"""Seconds between two kernels of a captured step."""

_HOST, _SAMPLE, _PROMPT = 2.5e-3, 8e-6, 6e-5
"""Seconds in which Python starts a step, draws a sample, and writes and tokenises a prompt."""

_EAGER = {"none": 1e-3, "decoder": 1e-3, "transformers": 7e-3}
"""Seconds that it takes more for a step that is not captured; transformers makes masks and a cache."""

_LAYER = {
    ("decoder", "none"): 1.2e-3, ("decoder", "int8"): 1.6e-3, ("decoder", "nf4"): 2.5e-3,
    ("transformers", "none"): 3.5e-3, ("transformers", "int8"): 8.7e-3, ("transformers", "nf4"): 6.9e-3,
}  # fmt: skip
"""Seconds to launch the kernels of a layer, forward and backward, where a step is not captured."""

_LAYER_NORM = 0.5
"""Share of that for layers as GPT-2 has them: PyTorch has fused layer norms, and no gate or rotary position follows."""

_FORWARD = {"none": 0.4, "decoder": 0.4, "transformers": 0.65}
"""Share of these that a forward pass needs; transformers makes two, for prompt and patches."""


@dataclass(frozen=True)
class Speed:
    """Operations a second in products of 16-bit numbers, and bytes a second: as measured, not as advertised."""

    matrix_rate: float
    bandwidth: float

    @classmethod
    def of(cls, card: Card) -> "Speed":
        """What to expect of a card by its data sheet."""
        return cls(OF_MATRIX_RATE * card.matrix_rate, OF_BANDWIDTH * card.bandwidth)


@dataclass(frozen=True)
class EpochTime:
    """Seconds of a step, and of an epoch with its scoring of validation and test."""

    card: str
    step: float
    scoring: float
    epoch: float
    samples_per_second: float


def epoch_time(case: Case, card: Card, steps: int, scored: int) -> EpochTime | None:
    """The time of an epoch of so many steps that scores so many samples; None in float32 or on a CPU."""
    if not case.on_gpu or case.precision == "fp32":
        return None
    speed = Speed.of(card)
    step, scoring = step_seconds(case, speed), scoring_seconds(case, speed, scored)
    return EpochTime(card.name, step, scoring, steps * step + scoring, case.batch / step)


def step_seconds(case: Case, speed: Speed) -> float:
    """Of a step: what the GPU needs, or Python where it needs longer."""
    kernels = 150 + case.layers * (38 if case.quantization != "none" else 30)
    host = _HOST + _launches(case) + case.batch * _SAMPLE
    return max(_on_gpu(step_work(case), kernels, speed), host)


def scoring_seconds(case: Case, speed: Speed, samples: int, at_a_time: int = 64) -> float:
    """Of forecasts of so many samples, so many at a time: prompts are written before the GPU can begin."""
    case = replace(case, batch=at_a_time)
    launches = _FORWARD[_kind(case)] * _launches(case)
    batch = max(_on_gpu(scoring_work(case), 60 + 12 * case.layers, speed), launches)
    return samples * (batch / at_a_time + _SAMPLE + (_PROMPT if case.shape else 0.0))


def _on_gpu(work: Work, kernels: int, speed: Speed) -> float:
    products = (work.products + work.attention / _ATTENTION) / speed.matrix_rate
    return products + work.bytes / (_CACHED * speed.bandwidth) + kernels * _KERNEL


def _launches(case: Case) -> float:
    if case.captured:
        return 0.0
    kind = _kind(case)
    if case.shape is None:
        return _EAGER[kind]
    layer = _LAYER[kind, case.quantization] * (1.0 if case.shape.rms_norms else _LAYER_NORM)
    return _EAGER[kind] + case.layers * layer


def _kind(case: Case) -> str:
    """What runs the LLM."""
    if case.shape is None:
        return "none"
    return "decoder" if case.decoder else "transformers"
