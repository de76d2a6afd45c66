"""examples/colab.ipynb runs to its last cell, on the CPU, with a tiny LLM and a folder in place of Drive."""

import os
import sysconfig
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import REPOSITORY, write_small_csv

NOTEBOOK = REPOSITORY / "examples" / "colab.ipynb"
MOUNT = """
from pathlib import Path

def mount(folder):
    Path(folder, "MyDrive").mkdir(parents=True)
    print("Mounted at", folder)
"""


def text_of(notebook: nbformat.NotebookNode, start: str) -> str:
    """What the cell that begins with `start` printed."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.startswith(start)]
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.skipif(os.name != "posix", reason="the notebook is for Colab, which is Linux")
def test_the_notebook_trains_is_cut_off_goes_on_and_forecasts(
    tiny_llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small_csv(tmp_path / "small.csv")
    fake = tmp_path / "fake" / "google" / "colab"
    fake.mkdir(parents=True)
    for folder in (fake, fake.parent):
        (folder / "__init__.py").write_text("")
    (fake / "drive.py").write_text(MOUNT)
    paths = [str(tmp_path / "fake"), str(REPOSITORY)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("PATH", sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    settings = next(cell for cell in notebook.cells if cell.source.startswith("SOURCE"))
    settings.source += (
        f"\nDRIVE = {str(tmp_path / 'drive')!r}\nFOLDER = DRIVE + '/MyDrive/timellm'\nTABLE = 'small.csv'"
        "\nSOURCE = '--dry-run --no-index pip'"  # nothing is installed by a test
        f"\nOPTIONS = 'small.csv --target OT --llm {tiny_llm} --layers 2 --seq-len 48 --pred-len 12 --device cpu"
        " --d-model 8 --d-ff 8 --num-prototypes 20 --max-steps 60 --save-steps 2 --run-name colab'"
    )

    ran = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()

    drive = tmp_path / "drive" / "MyDrive" / "timellm"
    assert "step-" in text_of(ran, "import subprocess")
    assert "60 steps" in text_of(ran, "!timellm train")
    epochs = [line for line in (drive / "colab" / "metrics.jsonl").read_text().splitlines() if '"epoch": 0' in line]
    assert len(epochs) == 1  # it went on: the untrained model was scored once
    assert "colab" in text_of(ran, "!timellm predict")
    assert len((drive / "forecast.csv").read_text(encoding="utf-8").splitlines()) == 13
    assert "image/png" in ran.cells[-1].outputs[0]["data"]
