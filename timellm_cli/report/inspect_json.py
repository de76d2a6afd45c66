"""A plan as plain data: the object that `timellm inspect --json` prints. Light."""

from typing import Any

from timellm_cli.planning.days_ahead import DaysAhead
from timellm_cli.planning.memory_bill import Bill, Memory
from timellm_cli.planning.plan import Plan
from timellm_cli.planning.shared import Shared
from timellm_cli.splits import SPLITS


def plan_record(plan: Plan) -> dict[str, Any]:
    """The stable object of `inspect --json`. Counts are integers, memory is in bytes, what is not known is null.

    - `dataset`, `data_path`, `data_file_present`, `rows`, `series` (null without an id column), `channels`, `columns`,
      `features`
    - `seq_len`, `pred_len`, `window_stride`, `patch_len`, `patch_stride`, `batch_size`, `epochs`, `save_steps`
    - `windows`, `dataset_len` (training), `steps_per_epoch`, `total_steps`, `optimizer_updates`,
      `samples_dropped_per_epoch`, `step_checkpoints_written`, `step_checkpoints_kept`
    - `patch_nums`, `patches_per_step`
    - `splits`: `train`, `val` and `test`, each with `rows`, `windows`, `samples`
    - `tokens`: `prompt_static`, `prompt_per_sample`, `prompt`, `per_sample`, `per_step`, `exact`
    - `prompt`: the text of the first training sample's prompt, with --show-prompt and a file
    - `llm`: `name`, `origin`, `architecture`, `exact`, `layers_used`, `layers`, `hidden_size`, `vocabulary`,
      `parameters_used`, `parameters`, `quantization`, `precision`
    - `path`: `code` ('decoder', 'transformers_two_passes', 'transformers_one_pass', 'transformers' where the
      passes are not known, or 'none' without an LLM; null for an unknown one), `reason` why it is not 'decoder',
      `captured`, `recompute`
    - `memory`: `kind` ('GPU' or 'RAM'), `parts` (bytes by name), `total`, `budget`, `budget_source`, `fits`,
      `largest_batch`, `largest_batch_without_recompute` (null unless that is left to 'auto'), `published_total`,
      `published_parts`; null for an LLM whose size is not known
    - `time`: `card`, `step`, `scoring`, `epoch` (seconds; an epoch includes its scoring), `reading` (of the text of
      the days, once) and `samples_per_second`, all
      estimated; null where no card is named or here, or none whose speed is known
    - `processes`: with --processes: `processes`, `each` (samples of one), `network`, `exchanged_bytes` and `exchange`
      (seconds) of an update, `alone` (the time of one process with as many samples) and `times` its samples a second;
      `memory` is then of one process, `time` of all
    - `savings`: with --explain, or where the run does not fit: `flags`, `before`, `total`, `fits`, `largest_batch`,
      `time` of a sample as a multiple of what it takes without the change, and `same_model`
    - `cpu_memory`: the same for this computer's CPU, where `memory` is of a GPU that is not here
    - `ahead`: what is known of the days ahead, or null: `columns`, `reader`, `reader_bytes`, `lines`, `distinct`,
      `special_days` (by split: days, and those with an event), `shown` (the text of the next days), `notes`
    - `ready`, `checks`: `name`, `ok`, `detail`, `remedy`

    `inspect` adds `answers` (`question`, `answer`) with --explain, and `shapes` and `patches` with --show-patches (see
    `inspect_patches.patches_record`).
    """
    return {**_counts(plan), **_estimates(plan)}


_CONFIGURED = (
    "data.features", "window.seq_len", "window.pred_len", "data.window_stride", "model.patch_len", "model.patch_stride",
    "train.batch_size", "train.epochs", "run.save_steps",
)  # fmt: skip
_COUNTED = (
    "series", "channels", "windows", "dataset_len", "steps_per_epoch", "total_steps", "optimizer_updates",
    "samples_dropped_per_epoch", "step_checkpoints_written", "step_checkpoints_kept", "patch_nums", "patches_per_step",
)  # fmt: skip


def _counts(plan: Plan) -> dict[str, Any]:
    values = plan.config.values()
    return {
        "dataset": values["data.dataset"],
        "data_path": str(plan.data.path),
        "data_file_present": plan.data.read is not None,
        "data_notes": list(plan.data.notes),
        "rows": plan.data.rows,
        "columns": list(plan.data.columns),
        **{key.split(".")[1]: values[key] for key in _CONFIGURED},
        **{name: getattr(plan.counts, name) for name in _COUNTED},
        "splits": {split: vars(getattr(plan.counts, split)) for split in SPLITS},
    }


_SHAPE = {
    "origin": "origin", "architecture": "family", "exact": "exact", "layers": "layers", "hidden_size": "hidden",
    "vocabulary": "vocab",
}  # fmt: skip


def _estimates(plan: Plan) -> dict[str, Any]:
    tokens, shape, config = plan.prompt.tokens, plan.shape, plan.config
    return {
        "tokens": {
            "prompt_static": tokens.static,
            "prompt_per_sample": tokens.per_sample,
            "prompt": tokens.total,
            "per_sample": plan.tokens_per_sample,
            "per_step": plan.tokens_per_step,
            "exact": tokens.exact,
        },
        "prompt": plan.prompt.text if plan.prompt.is_real else None,
        "llm": {
            "name": config.llm.name,
            **{name: getattr(shape, field, None) for name, field in _SHAPE.items()},
            "layers_used": plan.layers if shape else None,
            "parameters_used": shape.parameters(plan.layers) if shape else None,
            "parameters": shape.parameters(shape.layers) if shape else None,
            "quantization": config.llm.quantization,
            "precision": config.train.precision,
        },
        "path": vars(plan.path),
        "memory": _memory(plan.memory) if plan.memory else None,
        "cpu_memory": _memory(plan.cpu_memory) if plan.cpu_memory else None,
        "time": vars(plan.time) if plan.time else None,
        "processes": _shared(plan.shared) if plan.shared else None,
        "savings": [vars(saving) for saving in plan.savings],
        "ahead": None if plan.ahead is None else _ahead(plan.ahead, plan.reader_bytes),
        "ready": plan.ready,
        "checks": [vars(check) for check in plan.checks],
    }


def _ahead(ahead: DaysAhead, reader_bytes: int) -> dict[str, Any]:
    record = {**vars(ahead), "reader_bytes": reader_bytes}
    del record["case"]  # its parts stand in `memory`
    return record


def _shared(shared: Shared) -> dict[str, Any]:
    record = {**vars(shared), "alone": vars(shared.alone) if shared.alone else None, "times": shared.times}
    del record["together"]  # that is `time`
    return record


def _memory(memory: Memory) -> dict[str, Any]:
    return {
        "kind": memory.kind,
        "parts": _parts(memory.bill),
        "total": memory.bill.total,
        "budget": memory.budget,
        "budget_source": memory.source,
        "fits": memory.fits,
        "largest_batch": memory.largest_batch,
        "largest_batch_without_recompute": memory.largest_keeping,
        "published_total": memory.plain.total if memory.plain else None,
        "published_parts": _parts(memory.plain) if memory.plain else None,
    }


def _parts(bill: Bill) -> dict[str, int]:
    return {part.key: part.bytes for part in bill.parts}
