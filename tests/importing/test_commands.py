"""Scripts of bash, PowerShell and cmd give the commands that these shells would start."""

import pytest

from timellm_cli.errors import ConfigError
from timellm_cli.importing.commands import OldCommand, read_commands

BASH = r"""model_name=TimeLLM
LENGTHS=(96 192)
num_process=8
if [ ! -d "./logs" ]; then
    mkdir ./logs
fi
for pred_len in ${LENGTHS[@]}
do
for seq_len in 336 $((pred_len * 2)); do
CUDA_VISIBLE_DEVICES=0 accelerate launch --multi_gpu --num_processes $num_process --main_process_port 97 run_main.py \
  --model_id ETTh1_$seq_len'_'$pred_len \
  # a comment between
  --pred_len $pred_len --seq_len=$seq_len \
  --model $model_name | tee logs/$model_name.log
done
done
"""
POWERSHELL = """$BATCH = 2  # lower to 4 on OOM
foreach ($pl in 96,192) {
  & python run_main.py `
    --root_path .\\dataset\\ETT-small\\ --data_path ETTm1.csv `
    # a comment between
    --llm_model_path "e:\\timellm\\base models\\Qwen2.5-3B" `
    --batch_size $BATCH --pred_len $pl --load_in_4bit
}
"""
CMD = """@echo off
REM a comment
set BATCH=2
set "SEQ=512"
for %%p in (96 192) do (
  python run_main.py ^
   --batch_size %BATCH% --seq_len %SEQ% ^
   --pred_len %%p > log_%%p.txt 2>&1
)
for %%p in (336 720) do python run_main.py --pred_len %%p
"""


def values(command: OldCommand) -> dict[str, str | None]:
    return {one.name: one.value for one in command.arguments}


def test_bash_gives_its_loops_arrays_sums_and_variables() -> None:
    commands, notes = read_commands(BASH)
    assert notes == []
    lengths = [(values(one)["pred_len"], values(one)["seq_len"]) for one in commands]
    assert lengths == [("96", "336"), ("96", "192"), ("192", "336"), ("192", "384")]
    assert values(commands[3])["model_id"] == "ETTh1_384_192"
    assert values(commands[0])["model"] == "TimeLLM"
    assert commands[0].launched_with("num_processes") == "8"


def test_powershell_keeps_paths_and_comments_beside_variables() -> None:
    commands, _ = read_commands(POWERSHELL)
    assert [values(one)["pred_len"] for one in commands] == ["96", "192"]
    first = values(commands[0])
    assert first["root_path"] == ".\\dataset\\ETT-small\\"
    assert first["llm_model_path"] == "e:\\timellm\\base models\\Qwen2.5-3B"
    assert first["load_in_4bit"] is None
    (batch,) = [one for one in commands[0].arguments if one.name == "batch_size"]
    assert (batch.value, batch.comment) == ("2", "lower to 4 on OOM")


def test_cmd_gives_its_variables_and_both_forms_of_a_loop() -> None:
    commands, notes = read_commands(CMD, ".bat")
    assert notes == []
    assert [values(one)["pred_len"] for one in commands] == ["96", "192", "336", "720"]
    assert values(commands[0]) == {"batch_size": "2", "seq_len": "512", "pred_len": "96"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('python run_main.py --des "a b" --x=1', {"des": "a b", "x": "1"}),
        ("python run_main.py --des 'a $b'", {"des": "a $b"}),
        ("python -u run_main.py --use_amp --seed -1", {"use_amp": None, "seed": "-1"}),
        (r"python run_main.py --root_path .\data\ --data_path E.csv", {"root_path": ".\\data\\", "data_path": "E.csv"}),
        (r"python run_main.py --root_path my\ data --data_path E.csv", {"root_path": "my data", "data_path": "E.csv"}),
        ("python run_main.py --seq_len 96\n  --pred_len 24", {"seq_len": "96", "pred_len": "24"}),
        ("P=24 ; python run_main.py --pred_len ${P} && echo done", {"pred_len": "24"}),
        ("python run_main.py --load_in_4bit True --itr 1", {"load_in_4bit": "True", "itr": "1"}),
        ("\ufeffpython run_main.py --itr 1\r\n", {"itr": "1"}),
        ("python run_main.py --pred_len ${H:-48}", {"pred_len": "48"}),
    ],
)  # fmt: skip
def test_words_are_cut_as_a_shell_cuts_them(text: str, expected: dict[str, str | None]) -> None:
    ((command,), notes) = read_commands(text)
    assert values(command) == expected
    assert notes == []


def test_a_variable_without_a_value_is_noted() -> None:
    _, notes = read_commands("python run_main.py --itr $1")
    assert notes == ["the variable 1 has no value in this text"]


def test_a_text_without_a_command_and_endless_loops_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no command of run_main\.py"):
        read_commands("pip install torch")
    loops = "for a in {1..100}; do for b in {1..100}; do python run_main.py --itr $a; done; done"
    with pytest.raises(ConfigError, match="more than 200 commands"):
        read_commands(loops)
