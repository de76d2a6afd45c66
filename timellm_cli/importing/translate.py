"""The arguments of an old command as configuration values, with what became of each. Light.

What the command states is kept to the letter. What it leaves to the original's defaults is kept where our default
differs, except for the learning rate and its schedule (`_rate`).
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from timellm_cli.config import FIELDS, Config, flag_of
from timellm_cli.datasets import DATASETS, M4_PARTS, fetch_command
from timellm_cli.errors import did_you_mean
from timellm_cli.importing.commands import Argument, OldCommand
from timellm_cli.importing.old_llms import name_llm, say_layers, say_width
from timellm_cli.importing.values import belie, here, number, rate, whole
from timellm_cli.old_flags import OLD_FLAGS, OldFlag

What = Literal["used", "renamed", "no use", "wrong"]
_DATASETS = {name.lower(): name for name in DATASETS} | {"ecl": "Electricity"}
_SCHEDULES = {"TST": "onecycle", "COS": "cosine", "type1": "type1", "constant": "constant"}
_FIRST_RATE = 25  # OneCycleLR starts at its peak over 25, and only with TST does the original move on from there


@dataclass(frozen=True)
class Outcome:
    """What became of an argument, in a sentence. `key` is the configuration key that has its value now, if one has."""

    argument: Argument
    what: What
    said: str
    key: str | None = None


@dataclass
class Translation:
    """Values by `section.name`, an outcome for each argument in their order, and values the command left open."""

    values: dict[str, Any] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    left_open: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[Outcome]:
        """What needs the user's eye."""
        return [one for one in self.outcomes if one.what == "wrong"]


def translate(command: OldCommand, *, keeps_defaults: bool = True) -> Translation:
    """What a command of the original means here. `keeps_defaults`: also what it leaves to the original's defaults."""
    reader = _Translator(command)
    for argument in command.arguments:
        reader.read(argument)
    if keeps_defaults:
        reader.fill()
    reader.read_launcher(command)
    return reader.result


class _Translator:
    def __init__(self, command: OldCommand) -> None:
        self.result = Translation()
        self._is_m4 = "m4" in command.script.lower()
        self._given = {one.name: (one.value or "").strip("'\"") for one in command.arguments}

    def read(self, argument: Argument) -> None:
        """Find what became of an argument."""
        flag = OLD_FLAGS.get(argument.name)
        if flag is None:
            self._take_own(argument)
        elif argument.value is None and not flag.switch:
            self._say(argument, "wrong", "it has no value")
        elif flag.no_use:
            self._say(argument, *self._check_channels(argument, flag))
        elif flag.key == "llm.layers" and (fault := say_layers(self._llm(), self._given[argument.name])):
            self.result.values[flag.key] = "all"
            self._say(argument, "wrong", fault, flag.key)
        elif flag.key:
            self._take(argument, flag.key, argument.value if argument.value is not None else True)
        else:
            getattr(self, f"_{flag.name}", self._part)(argument, self._given[argument.name])

    def fill(self) -> None:
        """Take the original's defaults for what the command leaves open, where ours differ."""
        for flag in OLD_FLAGS.values():
            if flag.key and flag.default is not None and flag.name not in self._given and not self._is_set(flag.key):
                default = FIELDS[flag.key].default
                if str(default) != flag.default:
                    self.result.left_open[flag.key] = number(flag.default)
        if "llm_model" not in self._given and "llm_model_path" not in self._given:
            self.result.left_open["llm.name"] = name_llm("LLAMA", "", None)[0]
        if not {"learning_rate", "lradj"} & self._given.keys():
            self.result.notes.append(
                "no learning rate is stated: timellm's own is taken (onecycle up to 0.001); run_main.py by its own "
                "defaults trains at 4e-06 (1e-4, over 25 under lradj type1), which hardly moves the weights"
            )
        if "data" not in self._given and "data_path" not in self._given:
            self.result.notes.append("no --data is stated, so the dataset is ETTm1")

    def read_launcher(self, command: OldCommand) -> None:
        """What accelerate, torchrun and the environment say."""
        processes = command.launched_with("num_processes") or command.launched_with("nproc_per_node")
        if processes and processes.isdecimal() and int(processes) > 1:
            accumulate = int(processes) * int(self.result.values.get("train.accumulate", 1))
            self.result.values["train.accumulate"] = accumulate
            self.result.notes.append(
                f"{processes} processes took a batch each for one update of the weights: accumulate = {accumulate} "
                "does that in one process; started as several processes again, set it to 1"
            )
        mixed = command.launched_with("mixed_precision")
        if mixed in ("bf16", "fp16"):
            self.result.notes.append(f"mixed_precision {mixed}: precision 'auto' takes it where the card has it")

    def _say(self, argument: Argument, what: What, said: str, key: str | None = None) -> None:
        if key and (fault := belie(argument)):
            what, said = "wrong", f"{said}; {fault}"
        self.result.outcomes.append(Outcome(argument, what, said, key))

    def _is_set(self, key: str) -> bool:
        return key in self.result.values

    def _take(self, argument: Argument, key: str, value: Any, said: str = "") -> None:
        """Set a key, or say why its value cannot be."""
        text = value.strip("'\"") if isinstance(value, str) else value
        try:
            Config().with_values({key: text})
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            self._say(argument, "wrong", f"{flag_of(key)} cannot be {text!r}: {fault[0].lower()}{fault[1:]}; left out")
            return
        self.result.values[key] = number(text)
        renamed = flag_of(key) != f"--{argument.name.replace('_', '-')}"
        self._say(argument, "renamed" if renamed else "used", said or f"{flag_of(key)} {text}", key)

    def _take_own(self, argument: Argument) -> None:
        """A flag that no original has: one of ours under its own name, else unknown."""
        key = next((key for key in FIELDS if flag_of(key) == f"--{argument.name.replace('_', '-')}"), None)
        if key is None or argument.value is None:
            said = f"neither run_main.py nor timellm has it; left out{did_you_mean(argument.name, OLD_FLAGS)}"
            self._say(argument, "wrong", said)
        else:
            self._take(argument, key, argument.value)

    def _check_channels(self, argument: Argument, flag: OldFlag) -> tuple[What, str]:
        dataset = DATASETS.get(_DATASETS.get(self._given.get("data", "").lower(), ""))
        if argument.name not in ("enc_in", "dec_in", "c_out") or dataset is None or not argument.value:
            return "no use", flag.no_use
        channels = len(dataset.columns)
        if argument.value != str(channels) and self._given.get("features", "M") != "S":
            return "wrong", f"{dataset.name} has {channels} channels, not {argument.value}; {flag.no_use}"
        return "no use", flag.no_use

    def _part(self, argument: Argument, _value: str) -> None:
        self._say(argument, "no use", OLD_FLAGS[argument.name].answer)

    def _task_name(self, argument: Argument, value: str) -> None:
        if value == "long_term_forecast":
            self._say(argument, "used", "it is what `timellm train` does")
        elif value == "short_term_forecast":
            self._say(argument, "used", "the M4 set-up: windows of three horizons, SMAPE loss, OWA")
        else:
            self._say(argument, "wrong", f"timellm forecasts; it has no task {value}")

    def _is_training(self, argument: Argument, value: str) -> None:
        known = {"1": ("used", "it is `timellm train`"), "0": ("wrong", "to score a model: `timellm eval CHECKPOINT`")}
        what, said = known.get(value, ("wrong", "1 or 0 is expected"))
        self._say(argument, what, said)  # type: ignore[arg-type]

    def _model(self, argument: Argument, value: str) -> None:
        if value.lower().replace("-", "").startswith("timellm"):
            self._say(argument, "used", "Time-LLM is the only model")
            return
        self._say(argument, "wrong", f"timellm trains Time-LLM, not {value}; `timellm eval` scores simple baselines")

    def _name_run(self, argument: Argument, _value: str) -> None:
        self._say(argument, "renamed", "part of the run's name (--run-name)", "run.name")
        self.result.values["run.name"] = self._run_name()

    _model_id = _model_comment = _des = _name_run

    def _run_name(self) -> str:
        given = {"model_comment": "none", "model_id": "test", "des": "test", **self._given}
        fixed = {name: given.get(name) or default for name, default in _NAMED.items()}
        return (
            "{task_name}_{model_id}_{model}_{data}_ft{{features}}_sl{{seq_len}}_ll{label_len}_pl{{pred_len}}_"
            "dm{{d_model}}_nh{{n_heads}}_el{e_layers}_dl{d_layers}_df{{d_ff}}_fc{factor}_eb{embed}_{des}_0-{model_comment}"
        ).format(**{name: re.sub(r"[{}]", "", text) for name, text in fixed.items()})

    def _data(self, argument: Argument, value: str) -> None:
        if value.lower() == "m4":
            self._set_m4(argument)
            return
        name = _DATASETS.get(value.lower(), "custom")
        self.result.values["data.dataset"] = name
        also = "" if name.lower() in (value.lower(), "electricity") else f" ('{value}' is not a known dataset)"
        self._say(argument, "renamed", f"--dataset {name}{also}", "data.dataset")

    _data_pretrain = _data

    def _seasonal_patterns(self, argument: Argument, value: str) -> None:
        if self._given.get("data", "").lower() != "m4":
            self._say(argument, "no use", "it chooses a part of M4, and the data are others")
        elif value in M4_PARTS:
            horizon = M4_PARTS[value].horizon
            self._say(argument, "renamed", f"--pred-len {horizon} and --seq-len {2 * horizon}", "window.pred_len")
        else:
            self._say(argument, "wrong", f"M4 has {', '.join(M4_PARTS)}")

    def _set_m4(self, argument: Argument) -> None:
        """The set-up of run_m4.py: a line for each series, windows of three horizons, SMAPE."""
        part = self._given.get("seasonal_patterns", "Monthly")
        horizon = M4_PARTS[part].horizon if part in M4_PARTS else M4_PARTS["Monthly"].horizon
        path = here(f"{self._given.get('root_path', './dataset/m4')}/{part}-train.csv")
        self.result.values |= {
            "data.dataset": "custom", "data.path": path, "data.date_column": "none", "data.split_by": "ratio",
            "data.train_ratio": 0.6, "data.test_ratio": 0.2,
            "window.pred_len": horizon, "window.seq_len": 2 * horizon, "train.loss": "smape",
        }  # fmt: skip
        what: What = "renamed" if Path(path).exists() else "wrong"
        missing = "" if what == "renamed" else ", which is not here"
        said = f"--data-path {path}{missing}; `timellm m4` scores its forecast"
        self._say(argument, what, said, "data.path")

    def _root_path(self, argument: Argument, _value: str) -> None:
        pair = "data_path_pretrain" if argument.name.endswith("pretrain") else "data_path"
        joined = "it is joined with " + pair if pair in self._given else "no " + pair + " stands beside it"
        self._say(argument, "renamed", f"--data-path: {joined}", "data.path")

    _root_path_pretrain = _root_path

    def _data_path(self, argument: Argument, value: str) -> None:
        if self._given.get("data", "").lower() == "m4":
            return self._say(argument, "no use", "run_m4.py does not read it")
        end = "_pretrain" if argument.name.endswith("pretrain") else ""
        root = self._given.get(f"root_path{end}", "")
        path = here(f"{root.rstrip('/').rstrip(chr(92))}/{value}" if root else value)
        name = _DATASETS.get(self._given.get(f"data{end}", "").lower(), "custom")
        if Path(path).exists() or name == "custom":
            self.result.values |= {"data.dataset": name, "data.path": path}
            missing = "" if Path(path).exists() else ", which is not here"
            return self._say(argument, "wrong" if missing else "renamed", f"--data-path {path}{missing}", "data.path")
        fetched = fetch_command(name) if DATASETS[name].can_be_fetched else f"put it into the cache as {name}.csv"
        return self._say(argument, "renamed", f"{path} is not here; {name} from the cache is read ({fetched})")

    _data_path_pretrain = _data_path

    def _llm_model(self, argument: Argument, value: str) -> None:
        name, said = name_llm(value, self._given.get("llm_model_path", ""), whole(self._given.get("llm_dim")))
        if name is None:
            return self._say(argument, "wrong", said)
        self.result.values["llm.name"] = name
        if argument.name == "llm_model" and self._given.get("llm_model_path"):
            said = ", by --llm_model_path"
        return self._say(argument, "renamed", f"--llm {name}{said}", "llm.name")

    _llm_model_path = _llm_model

    def _llm(self) -> str | None:
        """The LLM that the command names, wherever in it that stands."""
        family, folder = self._given.get("llm_model", "LLAMA"), self._given.get("llm_model_path", "")
        return name_llm(family, folder, whole(self._given.get("llm_dim")))[0]

    def _llm_dim(self, argument: Argument, value: str) -> None:
        is_wrong, said = say_width(self._llm(), value)
        self._say(argument, "wrong" if is_wrong else "no use", said)

    def _load_in_4bit(self, argument: Argument, value: str) -> None:
        kind = "nf4" if argument.name.endswith("4bit") else "int8"
        if value.lower() in ("false", "0"):
            self._say(argument, "no use", "it is off; --quantization auto decides")
        else:
            self._take(argument, "llm.quantization", kind)

    _load_in_8bit = _load_in_4bit

    def _prompt_domain(self, argument: Argument, value: str) -> None:
        bank = (
            Path("dataset/prompt_bank")
            / f"{'ETT' if 'ETT' in self._given.get('data', '') else self._given.get('data', '')}.txt"
        )
        if value == "1" and bank.is_file():
            text = " ".join(bank.read_text(encoding="utf-8", errors="replace").split())
            self._take(argument, "prompt.description", text, f"--description has the text of {bank}")
        elif value == "1":
            self._say(argument, "wrong", f"no text '{bank}' is here: write a sentence about the data into description")
        else:
            self._say(argument, "no use", "the description is the dataset's own; --description sets another")

    def _itr(self, argument: Argument, value: str) -> None:
        many = whole(value) or 1
        what, said = ("used", "one run") if many == 1 else ("renamed", f"train with --seeds {many}")
        self._say(argument, what, said)  # type: ignore[arg-type]

    def _loss(self, argument: Argument, value: str) -> None:
        kind = "smape" if self._is_m4 or self._given.get("data", "").lower() == "m4" else "mse"
        if value.lower() == kind:
            self._take(argument, "train.loss", kind)
        else:
            self.result.values["train.loss"] = kind
            says = f"the original minimises {kind.upper()} whatever it says; --loss {value.lower()} would change that"
            self._say(argument, "wrong", says, "train.loss")

    def _learning_rate(self, argument: Argument, value: str) -> None:
        if self._given.get("lradj", "type1") in ("TST", "COS"):
            return self._take(argument, "train.learning_rate", value)
        stated = rate(value)
        if stated is None:
            return self._take(argument, "train.learning_rate", value)  # says what is wrong with it
        self.result.values |= {"train.learning_rate": stated / _FIRST_RATE}
        if "lradj" not in self._given:
            self.result.left_open["train.schedule"] = "type1"
        return self._say(
            argument,
            "wrong",
            f"unless lradj is TST or COS, the original trains with {stated:g} / {_FIRST_RATE} = "
            f"{stated / _FIRST_RATE:g}, and so does this profile; "
            f"what you mean is perhaps --learning-rate {stated:g} --schedule onecycle",
            "train.learning_rate",
        )

    def _lradj(self, argument: Argument, value: str) -> None:
        schedule = _SCHEDULES.get(value)
        if schedule is None:
            self.result.values["train.schedule"] = "constant"
            return self._say(argument, "wrong", f"--schedule has no {value}; constant is taken", "train.schedule")
        near = {"cosine": " over the whole run; the original's takes 20 epochs", "type1": ", from the second epoch on"}
        return self._take(argument, "train.schedule", schedule, f"--schedule {schedule}{near.get(schedule, '')}")

    def _pct_start(self, argument: Argument, value: str) -> None:
        if rate(value) == 0.2:
            self._say(argument, "used", "onecycle rises over a fifth of the run")
        else:
            self._say(argument, "wrong", f"onecycle rises over 0.2 of the run, not {value}")

    def _use_amp(self, argument: Argument, _value: str) -> None:
        self._say(argument, "renamed", "--precision auto takes the card's 16-bit format")

    def _resume_from_checkpoint(self, argument: Argument, value: str) -> None:
        self._say(argument, "renamed", f"first `timellm import {value}`, then `timellm train --resume`")


_NAMED = {
    "task_name": "long_term_forecast", "model_id": "test", "model": "TimeLLM", "data": "ETTm1", "label_len": "48",
    "e_layers": "2", "d_layers": "1", "factor": "1", "embed": "timeF", "des": "test", "model_comment": "none",
}  # fmt: skip
"""What stands in the original's name of a run besides our keys, with the original's defaults."""
