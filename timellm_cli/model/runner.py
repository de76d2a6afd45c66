"""The one way to run the model on windows: encode prompts, move, replay, and halve the batch when out of memory.

Training, scoring and `timellm predict` all use it. `ModelCall` runs any function of the model, such as a training
step's forward and backward pass. `Runner` holds a loaded model and forecasts with it.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from timellm_cli.data.ahead import AheadOfChannels, LearnedDays
from timellm_cli.data.batch import AheadBatch, Batch, PromptTokens
from timellm_cli.data.scale import Floats
from timellm_cli.errors import ModelError
from timellm_cli.llm_files import NO_LLM
from timellm_cli.model.cuda_graphs import Captured, Recorder, forget_recordings
from timellm_cli.model.prompt_tokens import NoPromptEncoder, PromptEncoder
from timellm_cli.model.time_llm import TimeLLM

_OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED")
"""What CUDA and its libraries say where the failing allocation is not torch's own."""

MatmulPrecision = Literal["highest", "high"]


class Runner:
    """A loaded model with what is needed to run it. Calling it forecasts a batch.

    `captures`: calls are recorded as CUDA graphs. `matmul_precision` is that of the trained parts' float32 products
    ("high" allows TF32); it is set at every call, so it does not depend on which model was loaded last. `days` is set
    with a day map, `lines_read` counts the lines that an LLM had to read for it.
    """

    def __init__(
        self,
        model: TimeLLM,
        encoder: PromptEncoder | NoPromptEncoder,
        device: torch.device,
        *,
        captures: bool = False,
        matmul_precision: MatmulPrecision = "highest",
        llm_fingerprint: str = NO_LLM,
    ) -> None:
        self.model, self.encoder, self.device = model, encoder, device
        self.captures, self.matmul_precision, self.llm_fingerprint = captures, matmul_precision, llm_fingerprint
        self.days: LearnedDays | None = None
        self.lines_read = 0
        self._forecast = ModelCall(self, self._forward, fill_short_batches=True)

    @property
    def samples_at_once(self) -> int | None:
        """Set once a batch was too large for the GPU's memory: so many samples are run at a time. Changes no figure."""
        return self._forecast.samples_at_once

    def encode(self, batch: Batch) -> Batch:
        """The batch with its prompts. Raises ModelError where a prompt is too long."""
        return replace(batch, prompt=self.encoder.encode(batch.history_BT, batch.series))

    def __call__(self, batch: Batch) -> Tensor:
        """Forecasts, B x H, standardised, valid until the next call. Prompts are encoded where they are missing.

        Dropout is off: the model is put into `eval()`, until a training loop calls `train()`. Raises
        torch.OutOfMemoryError, or what CUDA raises in its place, where one sample does not fit.
        """
        self.model.eval()
        batch = batch if batch.prompt else self.encode(batch)
        pieces = self._forecast(batch, (batch.history_BT, *batch.ahead_tensors))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def without_day_map(self, batch: Batch) -> Tensor:
        """Forecasts of the numeric model alone, as if nothing were known ahead; else as a call."""
        self.model.eval()
        call = ModelCall(self, self._forward_without)
        call.stop_capturing()
        return torch.cat(call(batch if batch.prompt else self.encode(batch), (batch.history_BT, *batch.ahead_tensors)))

    def roll_forward(
        self,
        history_TC: Floats,
        steps: int,
        batch_size: int = 32,
        *,
        names: Sequence[str] = (),
        ahead: AheadOfChannels | None = None,
        capture: bool = True,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> Floats:
        """Forecast `steps` rows, steps x C, after the last `seq_len` rows, all standardised.

        `names` (C) are those of the channels, for the prompts; `ahead` is what is known of the steps. `on_batch` is
        called with the channels of each batch.
        Each channel is forecast from itself, `batch_size` channels at a time, which changes no figure. Beyond
        `pred_len` the model reads its own forecasts as history. Without `capture` no CUDA graph is recorded, which is
        faster for a few calls.
        """
        if not capture:
            self._forecast.stop_capturing()
        window = self.model.window
        known_CT = torch.from_numpy(history_TC[-window.seq_len :].T.astype(np.float32))
        with torch.inference_mode():
            while known_CT.shape[1] < window.seq_len + steps:
                forecasts = []
                for start in range(0, len(known_CT), batch_size):
                    part = slice(start, start + batch_size)
                    history_BT = known_CT[part, -window.seq_len :].contiguous()
                    moved = known_CT.shape[1] - window.seq_len
                    known = ahead.batch(part, moved, window.seq_len, window.pred_len) if ahead else None
                    forecasts.append(self(_without_future(history_BT, tuple(names[part]), known)).cpu())
                    on_batch(len(history_BT))
                known_CT = torch.cat([known_CT, torch.cat(forecasts)], dim=1)
        return known_CT[:, window.seq_len : window.seq_len + steps].T.double().numpy()

    def _forward(self, prompt: PromptTokens, history_BT: Tensor, *ahead: Tensor) -> Tensor:
        with torch.no_grad():
            forecast_BH: Tensor = self.model(history_BT, prompt, None, *ahead)
            return forecast_BH

    def _forward_without(self, prompt: PromptTokens, history_BT: Tensor, *ahead: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.parts(history_BT, prompt, None, *ahead)[0]


class ModelCall:
    """Calls `function(prompt, *inputs)` on the device, in as few pieces of the batch as memory allows."""

    def __init__(
        self,
        runner: Runner,
        function: Callable[..., Tensor],
        *,
        fill_short_batches: bool = False,
        warm_up: Callable[[Callable[[], object]], object] = lambda call: call(),
        before_retry: Callable[[], None] = lambda: None,
        record: Recorder | None = None,
    ) -> None:
        """`before_retry` undoes what a call that ran out of memory has done; it is called before each retry.

        A recording is of one batch size. `fill_short_batches` fills a short batch with copies of its last sample and
        cuts the output: for functions whose output has a row for each sample. `warm_up` and `record` are `Captured`'s.
        """
        self._runner, self._function, self._before_retry = runner, function, before_retry
        self._captured = Captured(self._call, warm_up, record) if runner.captures else None
        self._fill, self._rows = fill_short_batches and runner.captures, 0
        self.samples_at_once: int | None = None

    def __call__(self, batch: Batch, inputs: Sequence[Tensor], share: float | None = None) -> list[Tensor]:
        """The function's output for each piece of the batch: one piece, unless memory is too small.

        `inputs` have one row for each sample, and may be on the CPU. With `share`, every piece is given one more
        input: `share` times the piece's part of the batch. A single output is valid until the next call.
        """
        assert batch.prompt is not None
        torch.set_float32_matmul_precision(self._runner.matmul_precision)
        while True:
            size = min(self.samples_at_once or len(batch), len(batch))
            try:
                return self._in_pieces(batch.prompt, inputs, share, size)
            except RuntimeError as error:
                if (size == 1 and self._captured is None) or not is_out_of_memory(error):
                    raise
            # Outside of `except`: the error holds the tensors of the functions that it went through.
            if size == 1:
                self.stop_capturing()  # launched without a recording, the allocator can close gaps
            self.samples_at_once, self._rows = -(-size // 2), 0
            free_gpu_memory()
            self._before_retry()

    def stop_capturing(self) -> None:
        """Launch every call from now on."""
        self._captured, self._fill = None, False

    def _in_pieces(
        self, prompt: PromptTokens, inputs: Sequence[Tensor], share: float | None, size: int
    ) -> list[Tensor]:
        self._runner.model.llm.prepare(prompt)
        tensors, outputs = (prompt.ids_BK, prompt.mask_BK, *inputs), []
        total = len(prompt.ids_BK)
        for start in range(0, total, size):
            piece = [tensor[start : start + size] for tensor in tensors]
            rows = len(piece[0])
            if self._fill:
                self._rows = max(self._rows, rows)
                piece = [_fill_up(tensor, self._rows) for tensor in piece]
            if share is not None:
                piece.append(torch.tensor(share * rows / total))
            output = self._run(piece)
            output = output[:rows] if self._fill else output
            outputs.append(output if rows == total else output.clone())
        return outputs

    def _run(self, tensors: Sequence[Tensor]) -> Tensor:
        if self._captured:
            return self._captured(self._runner.model.llm.recording_key, tensors)
        return self._call(*(tensor.to(self._runner.device, non_blocking=True) for tensor in tensors))

    def _call(self, ids_BK: Tensor, mask_BK: Tensor, *inputs: Tensor) -> Tensor:
        return self._function(PromptTokens(ids_BK, mask_BK, self._runner.encoder.prefix), *inputs)


def _fill_up(tensor: Tensor, rows: int) -> Tensor:
    missing = rows - len(tensor)
    return torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])]) if missing else tensor


def _without_future(history_BT: Tensor, names: tuple[str, ...], ahead: AheadBatch | None) -> Batch:
    unknown_B = torch.zeros(len(history_BT), dtype=torch.int64)
    return Batch(history_BT, history_BT.new_zeros(len(history_BT), 0), unknown_B, unknown_B, series=names, ahead=ahead)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that the GPU is out of memory, or was raised while handling one that does.

    A recording that runs out of memory can end in another error.
    """
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY):
            return True
        error = error.__context__
    return False


def free_gpu_memory() -> None:
    """Free all GPU memory that torch holds and does not need, recordings included. Call it outside of `except`."""
    forget_recordings()
    gc.collect()
    torch.cuda.empty_cache()


@contextmanager
def gpu_memory_errors() -> Iterator[None]:
    """Raise ModelError with the remedies where the GPU's memory is too small even for one sample."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        numbers = ". ".join(str(error).splitlines()[0].split(". ")[:3])  # the rest is advice on torch's allocator
        raise ModelError(
            f"the GPU is out of memory: {numbers}",
            "`timellm inspect --explain` shows what needs how much and what would need less; `nvidia-smi` shows what "
            "other programs hold; --device cpu computes without the GPU",
        ) from None
