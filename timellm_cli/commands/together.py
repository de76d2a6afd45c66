"""How the processes of one training meet, agree on its configuration, and notice what is wrong between them."""

import os
import socket
from hashlib import sha256

import torch

from timellm_cli.data.windows import ForecastData
from timellm_cli.errors import ConfigError
from timellm_cli.model.runner import Runner
from timellm_cli.processes.group import Group, SeveralProcesses
from timellm_cli.processes.launch import end_with_launcher, is_launched
from timellm_cli.processes.place import Place


def meet(place: Place, device: str) -> Group:
    """The group of a training's processes, each with a card of its own. `device` is `hardware.device`.

    Raises ConfigError where there are fewer cards than processes, ModelError where the processes do not meet.
    """
    if place.size == 1:
        return Group(place)
    if is_launched():
        end_with_launcher()
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(_choose_card(place, torch.cuda.device_count()))
    group = SeveralProcesses(place, torch.device("cuda" if on_gpu else "cpu"))
    if on_gpu:
        _require_own_card(group, f"{socket.gethostname()} {torch.cuda.get_device_properties().uuid}")
    return group


def _choose_card(place: Place, cards: int) -> int:
    if place.local_rank < cards:
        return place.local_rank
    if cards == 1 and os.environ.get("CUDA_VISIBLE_DEVICES"):  # a scheduler may show each process a card of its own
        return 0
    raise ConfigError(
        f"{place.local_size} processes were started on this machine, but it shows {cards} cards",
        f"start {cards} at most, or train on the CPU with --device cpu",
    )


def _require_own_card(group: Group, card: str) -> None:
    """Raise ConfigError where two processes compute on one card."""
    cards = group.texts(card)
    for rank, other in enumerate(cards):
        if (first := cards.index(other)) != rank:
            raise ConfigError(
                f"processes {first} and {rank} would share the card {other}",
                "give each process a card of its own: leave CUDA_VISIBLE_DEVICES out, or name as many different cards "
                "in it as there are processes",
            )


def start_alike(group: Group, data: ForecastData, runner: Runner) -> None:
    """Let all processes begin with the first one's weights. Raises ModelError where LLM or rows differ."""
    group.require_same("LLM", runner.llm_fingerprint)
    group.require_same("table", sha256(repr(data.identity).encode()).hexdigest()[:16])
    group.copy_from_first(runner.model.own_weights())
