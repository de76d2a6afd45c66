"""Runs a function in several processes that gloo connects.

They are forked from one that has imported torch, but started no threads.
"""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch

from timellm_cli.processes.group import Group, SeveralProcesses
from timellm_cli.processes.place import Place


def together(size: int, function: Callable[..., Any], *arguments: Any, **named: Any) -> list[Any]:
    """What `function(group, *arguments, **named)` returns in each process; what it raises is returned as text."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.conftest"])
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    processes = [
        context.Process(
            target=_work, args=(Place(rank, size, rank, size), port, pipes[rank][1], function, arguments, named)
        )
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    for _, sender in pipes:
        sender.close()
    results = [_receive(receiver) for receiver, _ in pipes]
    for process in processes:
        process.join()
    return results


def _receive(receiver: Any) -> Any:
    try:
        return receiver.recv()
    except EOFError:
        return "gone"


def _work(
    place: Place, port: str, sender: Any, function: Callable[..., Any], arguments: Any, named: dict[str, Any]
) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    try:
        several = place.size > 1
        group = SeveralProcesses(place, torch.device("cpu"), timedelta(hours=1)) if several else Group(place)
        result = function(group, *arguments, **named)
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    sender.send(result)
    sender.close()
    os._exit(0)
