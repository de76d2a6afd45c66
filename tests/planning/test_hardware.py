"""What the machine has, with and without a driver; common cards, planned for without one being here."""

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pynvml
import pytest

from timellm_cli.errors import ConfigError
from timellm_cli.planning import hardware as machine
from timellm_cli.planning.hardware import Gpu, find_card, look_at_machine, recognise
from timellm_cli.units import GIB


def install_card(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A driver with one card; returns the identities it is asked for."""
    asked: list[object] = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", asked.append)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", asked.append)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: "NVIDIA GeForce RTX 3060")
    monkeypatch.setattr(
        pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: SimpleNamespace(total=12 << 30, free=11 << 30)
    )
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCudaComputeCapability", lambda handle: (8, 6))
    monkeypatch.setattr(machine, "_driver_may_be_here", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return asked


def no_driver() -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


def test_without_a_driver_there_is_no_gpu_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    install_card(monkeypatch)
    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert look_at_machine().gpu is None


def test_the_first_card_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = install_card(monkeypatch)
    assert look_at_machine().gpu == Gpu("NVIDIA GeForce RTX 3060", 12 << 30, 11 << 30, (8, 6))
    assert asked == [0]


@pytest.mark.parametrize(("visible", "asked_for"), [("2,0", 2), ("GPU-5d5b", "GPU-5d5b")])
def test_the_card_is_the_first_visible_one(monkeypatch: pytest.MonkeyPatch, visible: str, asked_for: object) -> None:
    asked = install_card(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert look_at_machine().gpu is not None
    assert asked == [asked_for]


@pytest.mark.parametrize("visible", ["", "-1"])
def test_a_hidden_card_is_not_seen(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    install_card(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert look_at_machine().gpu is None


def test_ram_is_never_more_than_the_operating_system_has() -> None:
    found = look_at_machine()
    assert 0 < found.ram_free <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("line", "has_cuda"), [("cuda: Optional[str] = '12.8'", True), ("cuda: Optional[str] = None", False)]
)
def test_torch_is_asked_for_cuda_without_importing_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, has_cuda: bool
) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "version.py").write_text(f"__version__ = '2.9.0'\n{line}\nhip: Optional[str] = None\n", encoding="utf-8")
    spec = importlib.machinery.ModuleSpec("torch", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert look_at_machine().torch_has_cuda is has_cuda


def test_what_is_read_of_torch_agrees_with_torch() -> None:
    import torch

    assert look_at_machine().torch_has_cuda == (torch.version.cuda is not None)


def test_a_card_is_usable_only_with_a_torch_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    install_card(monkeypatch)
    found = look_at_machine()
    assert found.can_use_gpu == found.torch_has_cuda


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not show the driver as a device")
def test_without_the_drivers_device_its_library_is_not_imported() -> None:
    program = (
        "import pathlib, sys; pathlib.Path.exists = lambda path: False;"
        "from timellm_cli.planning.hardware import look_at_machine;"
        "print(look_at_machine().gpu, 'pynvml' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["None", "False"]


@pytest.mark.parametrize(
    ("folder", "names", "inactive"),
    [
        ("", ("memory.max", "memory.current"), "inactive_file"),
        ("memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file"),
    ],
)
def test_a_container_has_what_its_limit_leaves(
    tmp_path: Path, folder: str, names: tuple[str, str], inactive: str
) -> None:
    """Of both versions of control groups; the cache of files can be had back."""
    place = tmp_path / folder
    place.mkdir(exist_ok=True)
    (place / "memory.stat").write_text(f"anon 5\n{inactive} 1000\nother 3\n", encoding="ascii")
    for name, value in zip(names, (8000, 6000), strict=True):
        (place / name).write_text(f"{value}\n", encoding="ascii")
    assert machine._free_in_container(tmp_path) == 3000
    (place / names[0]).write_text("max\n", encoding="ascii")
    assert machine._free_in_container(tmp_path) == 2**63


def test_a_computer_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert machine._free_in_container(tmp_path / "absent") == 2**63


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA GeForce RTX 4060 Laptop GPU", "RTX 4060 Laptop"),
        ("NVIDIA GeForce RTX 4060", "RTX 4060"),
        ("Tesla T4", "T4"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("rtx-3060", "RTX 3060"),
    ],
)
def test_a_card_is_known_by_what_the_driver_and_people_call_it(driver: str, name: str) -> None:
    card = recognise(driver)
    assert card is not None
    assert card.name == name


def test_the_common_sizes_are_there_and_give_programs_less_than_is_printed_on_the_box() -> None:
    for name, printed in {
        "RTX 2060": 6, "RTX 4060": 8, "RTX 3060": 12, "T4": 16, "RTX 4080": 16, "RTX 4090": 24,
        "A100 40GB": 40, "H100": 80,
    }.items():  # fmt: skip
        card = find_card(name)
        assert 0.9 * printed * GIB < card.total_bytes < printed * GIB
        assert card.gpu.free_bytes == card.total_bytes - card.desktop_bytes


def test_a_screen_takes_its_share_of_a_desktop_card_alone() -> None:
    assert find_card("RTX 4060").desktop_bytes > 0
    assert find_card("T4").desktop_bytes == 0


def test_an_unknown_card_is_told_the_nearest_and_what_there_is() -> None:
    with pytest.raises(ConfigError) as raised:
        find_card("RTX 4061")
    assert "did you mean 'RTX 40" in raised.value.message
    assert "T4" in raised.value.hint and "--vram" in raised.value.hint
