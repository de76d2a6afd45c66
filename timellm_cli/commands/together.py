"""How the processes of one command meet, agree on what it does, and notice what is wrong between them."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import torch

from timellm_cli import __version__
from timellm_cli.config import Config
from timellm_cli.data.windows import ForecastData
from timellm_cli.errors import ConfigError, ModelError, SaidElsewhere
from timellm_cli.model.runner import Runner
from timellm_cli.processes.group import Group, ProcessLostError, SeveralProcesses
from timellm_cli.processes.launch import end_with_launcher, is_launched
from timellm_cli.processes.place import Place, find_place


@contextmanager
def shared_out(device: str) -> Iterator[Group]:
    """The group of the processes of a command that writes at its end alone: this one, or several.

    Raises what `meet` raises, and one sentence where a process is lost inside.
    """
    place = find_place()
    group = Group(place) if place.size == 1 else meet(place, device)
    try:
        yield group
    except ProcessLostError as error:
        if not place.is_first:
            raise SaidElsewhere from None
        raise ModelError(
            f"one of the {place.size} processes has ended or does not answer ({error}); nothing was written",
            "start again; what the others print says why",
        ) from None
    group.close()


def meet(place: Place, device: str) -> Group:
    """The group of a command's processes, each with a card of its own. `device` is `hardware.device`.

    Raises ConfigError where there are fewer cards than processes, ModelError where the processes do not meet or have
    other versions.
    """
    if place.size == 1:
        return Group(place)
    if is_launched():
        end_with_launcher()
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(choose_card(place, torch.cuda.device_count()))
    group = SeveralProcesses(place, torch.device("cuda" if on_gpu else "cpu"))
    if on_gpu:
        require_own_card(group, f"{socket.gethostname()} {torch.cuda.get_device_properties().uuid}")
    require_same_version(group)
    return group


def choose_card(place: Place, cards: int) -> int:
    """The number of this process's card among those that it sees. Raises ConfigError where there are too few."""
    if place.local_rank < cards:
        return place.local_rank
    if cards == 1 and os.environ.get("CUDA_VISIBLE_DEVICES"):  # a scheduler may show each process a card of its own
        return 0
    raise ConfigError(
        f"{place.local_size} processes were started on this machine, but it shows {cards} cards",
        f"start {cards} at most, or train on the CPU with --device cpu",
    )


def require_own_card(group: Group, card: str) -> None:
    """Raise ConfigError where two processes compute on one card."""
    cards = group.texts(card)
    for rank, other in enumerate(cards):
        if (first := cards.index(other)) != rank:
            raise ConfigError(
                f"processes {first} and {rank} would share the card {other}",
                "give each process a card of its own: leave CUDA_VISIBLE_DEVICES out, or name as many different cards "
                "in it as there are processes",
            )


def require_same_version(group: Group) -> None:
    """Raise ModelError where a process has another version."""
    group.require_same("version", f"timellm {__version__} with torch {torch.__version__}")


def require_same_settings(group: Group, config: Config) -> None:
    """Raise ConfigError where a process was started with another value of a key. The first one's would hold for all."""
    texts = group.texts(config.model_dump_json())
    first = json.loads(texts[0])
    for rank, text in enumerate(texts):
        for section, values in json.loads(text).items():
            for key, value in values.items():
                if value != first[section][key]:
                    raise ConfigError(
                        f"process {rank} was started with another {section}.{key} than process 0: {value}, not "
                        f"{first[section][key]}",
                        "give every process the same arguments and the same profile",
                    )


def start_alike(group: Group, data: ForecastData, runner: Runner) -> None:
    """Let all processes begin with the first one's weights. Raises ModelError where LLM or rows differ."""
    group.require_same("LLM", runner.llm_fingerprint)
    group.require_same("table", sha256(repr(data.identity).encode()).hexdigest()[:16])
    group.copy_from_first(runner.model.own_weights())
    if runner.model.day_map is not None:
        runner.model.day_map.look_up_lines()
