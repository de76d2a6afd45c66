"""Fuzz a reader with atheris, guided by what of the project's code each input reaches.

    python -m pip install atheris
    python -m tests.hostile.fuzz TARGET FOLDER [libFuzzer's flags, such as -max_total_time=1200 -rss_limit_mb=3000]

TARGET is csv, profile, checkpoint, metrics, config (an LLM's config.json) or tokenizer. What a reader does wrong ends
the run and leaves the input in FOLDER: another exception than a `TimellmError`, 20 seconds for one input, or more
memory than the limit.
"""

import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found,unused-ignore]

with atheris.instrument_imports(include=["timellm_cli"]):
    import timellm_cli.data.table
    import timellm_cli.planning.plan
    import timellm_cli.report.training_log
    import timellm_cli.settings
    import timellm_cli.training.checkpoint  # noqa: F401

from tests.hostile.seeds import seeds
from tests.hostile.targets import TARGETS


def main() -> None:
    """Write the seeds, and go on for as long as the flags say."""
    target, folder, *flags = sys.argv[1:]
    corpus = Path(folder) / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds(target)):
        (corpus / f"seed-{number}").write_bytes(content)
    settings = [f"-artifact_prefix={folder}/", "-timeout=20", "-max_len=8192", *flags]
    atheris.Setup([sys.argv[0], str(corpus), *settings], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
