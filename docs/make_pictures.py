"""Makes docs/pictures from the tool itself: python docs/make_pictures.py

It trains the quickstart, if checkpoints/quickstart/best.pt is not there. The picture of the report needs a Chromium
(`--browser PATH`; found by its usual names). Beside each picture of a chart or a page stands the text in it.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

PICTURES = Path(__file__).with_name("pictures")
REPOSITORY = PICTURES.parents[1]
INSPECT = "inspect --profile ettm1-qwen3b-6gb"
RESUME = "train examples/sales.csv --llm none --epochs 4 --log-steps 20"
PREDICT = "predict checkpoints/quickstart/best.pt auckland-pedestrians --levels 80,95 --plot forecast.png"
REPORT = "eval checkpoints/quickstart/best.pt --limit 300 --report report.html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")


def environment(**changes: str) -> dict[str, str]:
    """That of a terminal of 80 columns which shows colours, without a GPU."""
    paths = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    plain = {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "xterm-256color", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, "PYTHONPATH": paths, **plain, **changes}


def run(command: str, folder: Path = REPOSITORY) -> str:
    """What a command prints on stdout."""
    words = [sys.executable, "-m", "timellm_cli", *command.split()]
    return subprocess.run(
        words, cwd=folder, env=environment(), stdout=subprocess.PIPE, encoding="utf-8", check=True
    ).stdout


def inspect_svg() -> str:
    """The answer of `inspect`, but for its last lines, which differ from computer to computer."""
    shown = run(INSPECT).partition("On the CPU here")[0].rsplit("\n", 1)[0]
    return terminal_svg(shown, f"timellm {INSPECT}", "inspect")


def terminal_svg(shown: str, title: str, name: str) -> str:
    """A terminal with that text, ANSI colours included."""
    from rich.console import Console
    from rich.text import Text

    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(
            record=True,
            width=110 if name == "resume" else 84,
            file=nowhere,
            force_terminal=True,
            color_system="truecolor",
        )
        console.print(Text.from_ansi(shown))
        return console.export_svg(title=title, unique_id=name)


def resume_lines(folder: Path) -> list[str]:
    """A training that is stopped by Ctrl-C in its second epoch, and continued: commands and what they say."""
    command = [sys.executable, "-m", "timellm_cli", *RESUME.replace("examples/", f"{REPOSITORY}/examples/").split()]
    shown = [f"$ timellm {RESUME}"]
    plain = environment(FORCE_COLOR="", COLUMNS="110")
    first = subprocess.Popen(
        command, cwd=folder, env=plain, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, encoding="utf-8",
    )  # fmt: skip
    for line in first.stderr or ():
        shown.append(line.rstrip())
        if line.startswith("iters:") and "epoch: 2" in line and first.poll() is None and "^C" not in shown:
            shown.append("^C")
            first.send_signal(signal.SIGINT)
    first.wait()
    again = subprocess.run(
        [*command, "--resume", "auto"], cwd=folder, env=plain, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, encoding="utf-8", check=True,
    )  # fmt: skip
    return [*shown, f"$ timellm {RESUME} --resume auto", *map(str.rstrip, again.stderr.splitlines())]


def chosen(lines: Iterable[str]) -> list[str]:
    """The lines about stopping and going on."""
    wanted = re.compile(r"[$^]|Epoch: [12] |Stopping|interrupted|hint|(Resum|Continu)\w+|Finished")
    return [line for line in lines if wanted.match(line) and "untrained" not in line]


class _Texts(HTMLParser):
    """The texts of headings, table heads and legends."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self._inside = tag in ("h1", "h2", "h3", "th")

    def handle_data(self, data: str) -> None:
        if self._inside and data.strip():
            self.found.append(" ".join(data.split()))

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._inside = False


def report_texts(page: str) -> list[str]:
    """The headings and table heads of a report."""
    parser = _Texts()
    parser.feed(page)
    return parser.found


def chart_texts(figure: Any) -> list[str]:
    """The words drawn in a figure of matplotlib: title, names and legend, not the ticks of its axes."""
    from matplotlib.text import Text

    ticks = {
        id(label) for axes in figure.axes for label in (*axes.get_xticklabels(which="both"), *axes.get_yticklabels())
    }  # type: ignore[attr-defined]
    texts = [one.get_text().strip() for one in figure.findobj(Text) if id(one) not in ticks]
    return sorted(
        {
            text
            for text in texts
            if re.search("[A-Za-z]{3}|%", text) and not re.fullmatch(r"(\d{4}-)?\w{3}(-\d\d)*", text)
        }
    )


def masked(text: str) -> str:
    """A text without figures and without the name of a sensor, which differ from run to run."""
    return re.sub(r"[-+]?[\d.,:]*\d", "0", re.sub(r"\d+ (Quay|Queen) Street", "sensor", text))


def draw_forecast(folder: Path) -> list[str]:
    """Run `predict` in this process, so that the words of its chart are known."""
    from matplotlib.figure import Figure

    from timellm_cli import cli

    words: list[str] = []
    save = Figure.savefig

    def save_and_read(figure: Figure, *arguments: object, **options: object) -> None:
        words.extend(chart_texts(figure))
        save(figure, *arguments, **options)  # type: ignore[arg-type]

    Figure.savefig = save_and_read  # type: ignore[method-assign]
    kept = Path.cwd(), sys.argv
    os.chdir(folder)
    sys.argv = ["timellm", *PREDICT.split()]
    try:
        cli.main()
    except SystemExit as ended:
        if ended.code:
            raise
    finally:
        os.chdir(kept[0])
        sys.argv = kept[1]
        Figure.savefig = save  # type: ignore[method-assign]
    return words


def photograph(page: Path, picture: Path, browser: str) -> None:
    """The first screen of a page."""
    subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,1250",
         f"--screenshot={picture}", page.as_uri()],
        check=True, capture_output=True,
    )  # fmt: skip


def main() -> None:
    """Make all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="inspect, resume, forecast, report; nothing: all")
    parser.add_argument("--folder", type=Path, default=REPOSITORY, help="where checkpoints/quickstart is or will be")
    parser.add_argument("--browser", default=next(filter(None, map(shutil.which, BROWSERS)), None))
    options = parser.parse_args()
    names, folder = options.names or ["inspect", "resume", "forecast", "report"], options.folder
    PICTURES.mkdir(exist_ok=True)
    if {"forecast", "report"} & {*names} and not (folder / "checkpoints/quickstart/best.pt").exists():
        run("train --profile quickstart", folder)
    if "inspect" in names:
        _write("inspect.svg", inspect_svg())
    if "resume" in names:
        _write("resume.svg", terminal_svg("\n".join(chosen(resume_lines(folder))), "exact resume", "resume"))
    if "forecast" in names:
        _write("forecast.txt", "\n".join(draw_forecast(folder)) + "\n")
        shutil.move(folder / "forecast.png", PICTURES / "forecast.png")
    if "report" in names:
        run(REPORT, folder)
        _write("report.txt", "\n".join(report_texts((folder / "report.html").read_text(encoding="utf-8"))) + "\n")
        if not options.browser:
            sys.exit("no Chromium was found: give --browser PATH for the picture of the report")
        photograph((folder / "report.html").resolve(), PICTURES / "report.png", options.browser)


def _write(name: str, text: str) -> None:
    (PICTURES / name).write_text(text, encoding="utf-8", newline="\n")
    print(f"wrote docs/pictures/{name}")


if __name__ == "__main__":
    main()
