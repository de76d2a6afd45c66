"""How many samples to forecast at a time where nothing is trained. It changes no figure. Light."""

from timellm_cli.config import Config
from timellm_cli.errors import ConfigError, ModelError
from timellm_cli.planning.bill import largest_scoring_batch, our_bill
from timellm_cli.planning.case import Case
from timellm_cli.planning.llm_shape import look_up_llm
from timellm_cli.planning.machine import Machine
from timellm_cli.planning.memory import SAFE_SHARE, find_budget, is_sized
from timellm_cli.planning.prompt_size import read_prompt

_USUAL = 32
"""The fastest on a CPU: 16 to 64 are as fast there, 8 and 256 take 6 % longer."""

_OF_TRAINING = ("gradients", "optimizer_states", "average")
_OF_RECORDED_STEPS = ("reprogramming_activations", "patch_activations", "keys_values", "workspace", "allocator")


def scoring_batch(config: Config, machine: Machine, in_training: bool = False) -> int:
    """The batch for forecasts by the model of a settled configuration; `machine` is as it was before that was loaded.

    On a GPU as many samples as fit, 256 at most. `in_training` leaves room for gradients, optimizer states, averaged
    weights, and what a captured step holds between its replays. On a CPU 32; where the LLM's size is not known the
    training batch, which has to fit, and 32 at least.
    """
    if config.hardware.device == "cpu":
        return _USUAL
    usual = max(config.train.batch, _USUAL)
    shape = look_up_llm(config.llm.name)
    budget, _ = find_budget(config, machine)
    if budget is None or not is_sized(config, shape):
        return usual
    try:
        tokens = read_prompt(config, shape).tokens
    except (ConfigError, ModelError):  # encoding the first batch will say what is wrong with it
        return usual
    if machine.gpu:  # hardware.vram may be of a larger card
        budget = min(budget, machine.gpu.free_bytes)
    case = Case.of(config, shape, tokens, machine.gpu)
    room = int(SAFE_SHARE * budget)
    if in_training:
        stays = _OF_TRAINING + (_OF_RECORDED_STEPS if config.hardware.capture == "on" else ())
        room -= sum(part.bytes for part in our_bill(case).parts if part.key in stays)
    return max(largest_scoring_batch(case, room), 1)
