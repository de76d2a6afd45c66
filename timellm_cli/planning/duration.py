"""How long a step and an epoch will take on a card: an estimate from operations and bytes moved. Light.

The work is counted from `model/llm/decoder_layer.py`; another LLM is assumed to do the same in its own passes.
Elementwise operations are counted as if fused. The constants are calibrated on one H100 and its processor
(benchmarks/memory_grid.csv). On an H100 of another computer, recorded steps were within 12 %; steps whose kernels are
launched one by one took up to 2.3 times the estimate, which depends on the processor. Other cards are not checked. Left
out: start and disk.
"""

from dataclasses import dataclass, replace

from timellm_cli.planning import day_map_bytes
from timellm_cli.planning.case import Case
from timellm_cli.planning.days_case import DaysCase
from timellm_cli.planning.hardware import Card
from timellm_cli.planning.llm_shape import LLMShape
from timellm_cli.planning.weight_bytes import trainable_tensors

TF32 = 2
"""Trainable parts multiply in TF32 beside an LLM in 16 bits: at half the rate of 16-bit numbers, on any card."""

UPDATE_BYTES = 28
"""What an update of one weight by Adam reads and writes: weight and two moments, twice each, and the gradient."""


@dataclass(frozen=True)
class Work:
    """`products` and `attention` are operations in 16-bit numbers, those of attention apart for they are slower."""

    products: float = 0.0
    attention: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.products + other.products, self.attention + other.attention, self.bytes + other.bytes)

    def __mul__(self, times: float) -> "Work":
        return Work(times * self.products, times * self.attention, times * self.bytes)


def step_work(case: Case) -> Work:
    """Forward and backward pass of a batch, and an update of the weights."""
    weights = sum(trainable_tensors(case).values())
    work = _trainable_parts(case, backward=True) + Work(bytes=weights * UPDATE_BYTES / case.accumulate)
    if case.shape is None:
        return work
    patches, all_tokens = case.patches, case.tail + case.patches
    if not case.reads_in_two_passes:
        return work + _forward(case, case.shape, all_tokens) + _backward(case, case.shape, all_tokens)
    if case.decoder:
        forward = _forward(case, case.shape, all_tokens, last=patches)
    else:
        forward = _forward(case, case.shape, case.tail) + _forward(case, case.shape, patches)
    return work + forward + _backward(case, case.shape, patches)


def scoring_work(case: Case) -> Work:
    """The forward pass of a batch."""
    work = _trainable_parts(case, backward=False)
    if case.shape is None:
        return work
    return work + _forward(case, case.shape, case.tail + case.patches, last=case.patches if case.decoder else None)


def _forward(case: Case, shape: LLMShape, tokens: int, last: int | None = None) -> Work:
    """All layers read so many tokens of each sample; after keys and values, the last layer continues with `last`."""
    layer = _layer(case, shape, tokens, tokens)
    return layer * (case.layers - 1) + _layer(case, shape, tokens, tokens if last is None else last)


def _layer(case: Case, shape: LLMShape, tokens: int, rest_tokens: int) -> Work:
    rows, rest = case.batch * tokens, case.batch * rest_tokens
    inside = sum(linear.weights for linear in shape.linears if linear.name in ("q", "k", "v", "qkv"))
    queries, keys = shape.heads * shape.head_dim, 2 * shape.kv_heads * shape.head_dim
    moved = rows * (3 * shape.hidden + 3 * (queries + keys))
    moved += rest * (7 * shape.hidden + 5 * queries + 2 * shape.kept_in_mlp * shape.intermediate)
    return Work(
        products=2 * (rows * inside + rest * (shape.linear_weights - inside)),
        attention=4 * rest * queries * case.context,
        bytes=case.number_bytes * moved + _weights_read(case, shape),
    )


def _backward(case: Case, shape: LLMShape, tokens: int) -> Work:
    """The gradient of so many tokens of each sample through all layers; a frozen matrix has none."""
    rows, queries = case.batch * tokens, shape.heads * shape.head_dim
    keys = 2 * shape.kv_heads * shape.head_dim
    down = shape.linears[-1].weights
    moved = rows * (12 * shape.hidden + 14 * queries + 8 * keys + 8 * shape.intermediate)
    layer = Work(
        products=2 * rows * shape.linear_weights,
        attention=4 * 3.5 * rows * queries * case.context,
        bytes=case.number_bytes * moved + _weights_read(case, shape),
    )
    if case.recompute:  # all but the last matrix of the MLP
        layer += Work(products=2 * rows * (shape.linear_weights - down))
    return layer * case.layers


def _weights_read(case: Case, shape: LLMShape) -> float:
    """A quantized matrix is read, written out in full and read again; another is read."""
    full = case.number_bytes * shape.linear_weights
    kept = {"nf4": 0.5, "int8": 1.0, "none": 0.0}[case.quantization] * shape.linear_weights
    return full + (kept + full if case.quantization != "none" else 0)


def _trainable_parts(case: Case, backward: bool) -> Work:
    """Reprogramming with its prototypes, and the head. A backward pass makes two gradients of each product."""
    model, rows = case.model, case.batch * case.patches
    prototypes = model.num_prototypes * case.hidden * ((case.hidden if case.shape else 0) + 2 * case.inner)
    patch = 3 * model.patch_len * model.d_model + model.d_model * case.inner + case.inner * case.hidden
    head = case.batch * model.d_ff * case.patches * case.pred_len
    products = 2 * TF32 * (prototypes + rows * patch + head)
    attention = 4 * rows * case.inner * model.num_prototypes
    moved = 4 * rows * (4 * case.inner + 2 * case.hidden)
    of_map = Work() if case.days is None else _day_map(case, case.days)
    times = (3, 3.5, 3) if backward else (1, 1, 1)
    return Work(times[0] * products, times[1] * attention, times[2] * moved) + of_map * times[0]


def _day_map(case: Case, days: DaysCase) -> Work:
    """The forward pass of the day map: mixes of lines and history, and for each core the profile of a day."""
    sizes = days.sizes(case.seq_len)
    products = case.batch * sizes.width * sizes.history_mixes
    for name, (inputs, mixes) in sizes.cores.items():
        mixed = days.lines if name == "text" else case.batch * case.pred_len
        products += mixed * inputs * mixes + case.batch * (sizes.history_mixes + 1) * mixes * sizes.slots
    return Work(products=2 * TF32 * products, bytes=2 * day_map_bytes.activations(case).bytes)


OF_MATRIX_RATE, OF_BANDWIDTH = 0.79, 0.9
"""Shares of its data sheet that an H100 reaches: in products of 8192 x 8192 numbers, and in copying a GiB."""

_ATTENTION = 0.135
"""Share of the matrix rate that attention with a mask reaches; other products reach it whole."""

_CACHED = 1.3
"""Times the bandwidth at which bytes are moved: some of what a kernel writes, the next reads from the card's cache."""

_KERNEL = 2.7e-6
"""Seconds between two kernels of a captured step."""

_HOST, _SAMPLE, _PROMPT = 2.5e-3, 8e-6, 6e-5
"""Seconds in which Python starts a step, draws a sample, and writes and tokenises a prompt."""

_EAGER = {"none": 1e-3, "decoder": 1e-3, "transformers": 7e-3}
"""Seconds that a step takes longer when it is not recorded; transformers makes masks and a cache."""

_LAYER = {
    ("decoder", "none"): 1.2e-3, ("decoder", "int8"): 1.6e-3, ("decoder", "nf4"): 2.5e-3,
    ("transformers", "none"): 3.5e-3, ("transformers", "int8"): 8.7e-3, ("transformers", "nf4"): 6.9e-3,
}  # fmt: skip
"""Seconds to launch the kernels of a layer, forward and backward, where a step is not captured."""

_LAYER_NORM = 0.5
"""Share of that for layers as GPT-2 has them: PyTorch has fused layer norms, and no gate or rotary position follows."""

_LAUNCH = 1e-5
"""Seconds to launch one kernel of the day map, where a step is not captured: assumed."""

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
    """Seconds of a step, of an epoch with its scoring of validation and test, and of reading the text once."""

    card: str
    step: float
    scoring: float
    epoch: float
    samples_per_second: float
    reading: float = 0.0


def epoch_time(case: Case, card: Card, steps: int, scored: int) -> EpochTime | None:
    """The time of an epoch of so many steps that scores so many samples.

    None in float32, on a CPU, and for a mixture of experts.
    """
    is_mixture = case.shape is not None and case.shape.expert_parameters > 0
    if not case.on_gpu or case.precision == "fp32" or is_mixture:
        return None
    speed = Speed.of(card)
    step, scoring = step_seconds(case, speed), scoring_seconds(case, speed, scored)
    epoch, reading = steps * step + scoring, reading_seconds(case, speed)
    return EpochTime(card.name, step, scoring, epoch, case.batch / step, reading)


def step_seconds(case: Case, speed: Speed) -> float:
    """Of a step: what the GPU needs, or Python where it needs longer."""
    kernels = 150 + case.layers * (38 if case.quantization != "none" else 30) + _kernels_of_day_map(case)
    host = _HOST + _launches(case) + case.batch * _SAMPLE
    return max(_on_gpu(step_work(case), kernels, speed), host)


def scoring_seconds(case: Case, speed: Speed, samples: int, at_a_time: int = 64) -> float:
    """Of forecasts of so many samples, so many at a time: prompts are written before the GPU can begin."""
    case = replace(case, batch=at_a_time)
    launches = _FORWARD[_kind(case)] * _launches(case)
    batch = max(_on_gpu(scoring_work(case), 60 + 12 * case.layers, speed), launches)
    return samples * (batch / at_a_time + _SAMPLE + (_PROMPT if case.shape else 0.0))


def reading_seconds(case: Case, speed: Speed) -> float:
    """Of the lines of all days, which an LLM reads once, some of one length at a time; loading it is left out."""
    reader = day_map_bytes.reader_case(case)
    if reader is None or case.days is None:
        return 0.0
    work = _forward(reader, reader.shape, reader.patches) if reader.shape else Work()
    kernels, launches = 12 * reader.layers, _FORWARD[_kind(reader)] * _launches(reader)
    return -(-case.days.lines // reader.batch) * max(_on_gpu(work, kernels, speed), launches)


def _on_gpu(work: Work, kernels: int, speed: Speed) -> float:
    products = (work.products + work.attention / _ATTENTION) / speed.matrix_rate
    return products + work.bytes / (_CACHED * speed.bandwidth) + kernels * _KERNEL


def _launches(case: Case) -> float:
    if case.captured:
        return 0.0
    kind = _kind(case)
    of_map = _LAUNCH * _kernels_of_day_map(case)
    if case.shape is None:
        return _EAGER[kind] + of_map
    layer = _LAYER[kind, case.quantization] * (1.0 if case.shape.rms_norms else _LAYER_NORM)
    return _EAGER[kind] + of_map + case.layers * layer


def _kernels_of_day_map(case: Case) -> int:
    """Operations of its forward and backward pass, and of the closed form: counted."""
    if case.days is None:
        return 0
    sizes = case.days.sizes(case.seq_len)
    return 20 + 20 * len(sizes.cores) + (sum(2 if name == "text" else 6 for name in sizes.cores) + 3) * bool(sizes.rows)


def _kind(case: Case) -> str:
    """What runs the LLM."""
    if case.shape is None:
        return "none"
    return "decoder" if case.decoder else "transformers"
