"""What goes wrong is one clear line and exit 1, and nothing counts as finished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest import mock

import pytest

from tests.home import failed
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import Done, Machine, conversation, difference, facts
from tests.tiny import CONTEXT, TEMPLATE, make_tiny_llama, transformers_folder

LONG = conversation("Say it a hundred times.", "The lamp costs ten euros. " * 100)


def _error(machine: Machine, done: Done) -> str:
    """The one line of a run that failed after it had begun."""
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("fine-tuning: ")]
    assert line.startswith("error: ")
    assert "Fix: " in line
    _check_nothing_finished(machine)
    return line


def _check_nothing_finished(machine: Machine) -> None:
    assert not list(machine.home.path.glob("finetunes/*/result.json"))
    assert "python -m setup finetune" in failed(machine.setup("register"))
    listed = machine.setup("models", options=("--json",)).stdout
    assert json.loads(listed)["versions"] == []


def test_folder_that_cannot_be_written(machine: Machine) -> None:
    blocked = machine.home.path / "finetunes"
    blocked.write_text("no folder")
    line = failed(machine.setup("finetune"))
    blocked.unlink()
    assert f"cannot write to {blocked}" in line
    assert "FINETUNE_PHI_HOME" in line


@pytest.mark.parametrize(
    ("largest_file", "what"),
    [
        (200_000, "cannot write the model to"),
        (150_000, "cannot write the checkpoint"),
        (60_000, "cannot write to"),  # the best adapter
        (1200, "cannot write to"),  # a small file; stderr is one, too, and has the error after it
    ],
)
def test_full_disk(make_machine: MakeMachine, tmp_path: Path, largest_file: int, what: str) -> None:
    machine = make_machine()
    if "model" in what:
        machine.home.models = tmp_path
    else:
        machine.setup("finetune", "finetune.layers=4")  # copies the model, then stops
    process = machine.start("finetune.evaluate_every=1", largest_file=largest_file)
    line = _error(machine, machine.finish(process))
    assert what in line
    assert "free disk space" in line
    assert not list(machine.home.models.glob("*.partial*"))
    if "checkpoint" in what:
        done = machine.setup("finetune", "finetune.evaluate_every=1")
        assert (done.returncode, "damaged" in done.stderr) == (0, False)


def test_loss_that_is_no_number(machine: Machine) -> None:
    line = _error(machine, machine.setup("finetune", "finetune.learning_rate=1e30"))
    assert "loss is nan at step" in line
    assert "finetune.learning_rate" in line


def test_row_that_is_too_long_is_left_out(make_machine: MakeMachine) -> None:
    machine = make_machine([*facts(9), LONG])
    done = machine.setup("finetune", "finetune.epochs=1", "finetune.seed=1")
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if "left out" in line]
    assert line.startswith("1 of 8 conversations of the training part left out; the first, 'Say it")
    assert "longer than 128 tokens" in line
    figures = json.loads(next(machine.home.path.glob("finetunes/*/result.json")).read_text())
    assert figures["data"]["train_rows"] == 7


def test_all_rows_are_too_long(machine: Machine) -> None:
    line = failed(machine.setup("finetune", "finetune.max_tokens=16"))
    assert "no conversation of the training part can be used" in line
    assert "raise finetune.max_tokens" in line
    _check_nothing_finished(machine)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows(make_machine: MakeMachine, count: int) -> None:
    machine = make_machine(facts(count))
    assert f"has {count} conversations, needed are 2" in failed(machine.setup("finetune"))
    _check_nothing_finished(machine)


@pytest.mark.parametrize(
    "row",
    [
        "no JSON",
        "[]",
        '{"text": "no messages"}',
        '{"messages": []}',
        '{"messages": "Hello"}',
        '{"messages": [{"role": "user"}]}',
        '{"messages": [{"role": "user", "content": 5}]}',
    ],
)
def test_bad_row(make_machine: MakeMachine, row: str) -> None:
    machine = make_machine(facts(3))
    train = machine.home.path.parent / "data/train_data.jsonl"
    train.write_text(train.read_text() + f"\n{row}\n")
    assert f"{train}:5 " in failed(machine.setup("finetune"))


def test_no_train_split(make_machine: MakeMachine) -> None:
    machine = make_machine()
    train = machine.home.path.parent / "data/train_data.jsonl"
    train.unlink()
    done = machine.home.run("-m", "setup", *machine.arguments("finetune"))
    line = failed(done)
    assert f"no train split at {train}" in line
    assert "python -m setup data" in line


def test_model_without_chat_template(make_machine: MakeMachine, tmp_path: Path) -> None:
    with mock.patch("gguf.GGUFWriter.add_chat_template"):
        base = make_tiny_llama(tmp_path)
    line = failed(make_machine(base=base).setup("finetune"))
    assert f"{base} has no chat template" in line


def test_other_architecture(machine: Machine, tiny: dict[str, Path], tmp_path: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    base = Path(shutil.copytree(transformers_folder(tiny["llama"]), tmp_path / "qwen"))
    config = Qwen2Config(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    Qwen2ForCausalLM(config).save_pretrained(base)
    line = failed(machine.setup("finetune", f"finetune.base={base}"))
    assert f"{base} is another model than " in line
    assert "its model_type is qwen2, not llama" in line
    assert "Fix: --set finetune.base= to train on the file itself" in line
    emptied = machine.setup("finetune", "finetune.base=", "finetune.epochs=1")
    assert emptied.returncode == 0, emptied.stderr


def test_base_that_is_not_there(machine: Machine, tmp_path: Path) -> None:
    line = failed(machine.setup("finetune", f"finetune.base={tmp_path / 'none'}"))
    assert f"cannot load the base model {tmp_path / 'none'}" in line


def test_more_layers_than_there_are(machine: Machine) -> None:
    line = failed(machine.setup("finetune", "finetune.layers=4"))
    assert "finetune.layers is 4, the model has 3" in line
    assert "--set finetune.layers=3" in line


NO_PROMPT = TEMPLATE.partition("{% if add_generation_prompt %}")[0]
REFUSES_SYSTEM = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% endfor %}" + TEMPLATE
)
DROPS_SYSTEM = "{% set messages = messages | selectattr('role', 'ne', 'system') %}" + TEMPLATE
CHANGES_ANSWERS = TEMPLATE.replace("message['content']", "message['content'] | upper")


def _with_template(make_machine: MakeMachine, folder: Path, template: str) -> Machine:
    rows = [[{"role": "system", "content": "Sell."}, *row] for row in facts(9)]
    with mock.patch("tests.tiny.TEMPLATE", template):
        return make_machine(rows, base=make_tiny_llama(folder))


@pytest.mark.parametrize(
    ("template", "what"),
    [
        (NO_PROMPT, "the chat template has no generation prompt"),
        (CHANGES_ANSWERS, "the chat template changes an answer: it writes 'THE "),
        ("{{ messages[0]['content'] + none }}", "the chat template refuses it"),
    ],
)
def test_template_that_cannot_be_trained_with(
    make_machine: MakeMachine, tmp_path: Path, template: str, what: str
) -> None:
    line = failed(_with_template(make_machine, tmp_path, template).setup("finetune"))
    assert "no conversation of the training part can be used" in line
    assert what in line
    assert "raise finetune.max_tokens" not in line


@pytest.mark.parametrize("template", [REFUSES_SYSTEM, DROPS_SYSTEM])
def test_template_without_system_role(
    make_machine: MakeMachine, tmp_path: Path, template: str
) -> None:
    """It is folded, as ``model.system_role=fold`` does it, and that is said."""
    machine = _with_template(make_machine, tmp_path, template)
    done = machine.setup("finetune", "finetune.epochs=1")
    assert done.returncode == 0, done.stderr
    told = "no place for a system message: that of 9 conversations is put before the first"
    assert told in done.stderr
    asked = machine.setup("finetune", "finetune.epochs=1", "model.system_role=fold")
    assert asked.returncode == 0, asked.stderr
    assert "system message" not in asked.stderr
    native, folded = machine.runs()
    assert difference(native, folded) == 0


def test_max_tokens_that_the_fix_names_is_enough(machine: Machine) -> None:
    line = failed(machine.setup("finetune", "finetune.max_tokens=16"))
    enough = line.rpartition("raise finetune.max_tokens: ")[2].split()[0]
    done = machine.setup("finetune", f"finetune.max_tokens={enough}", "finetune.epochs=1")
    assert done.returncode == 0, done.stderr
    assert "of the training part left out" not in done.stderr


def test_shortened_conversations_are_counted(make_machine: MakeMachine) -> None:
    rows = facts(20)
    machine = make_machine([[*rows[i], *rows[i + 10]] for i in range(10)])
    done = machine.setup("finetune", "finetune.epochs=1", "finetune.max_tokens=60")
    assert done.returncode == 0, done.stderr
    assert "8 of 8 conversations of the training part lost their oldest turns" in done.stderr
    assert "2 of 2 conversations of the held-out part lost their oldest turns" in done.stderr
    figures = json.loads(next(machine.home.path.glob("finetunes/*/result.json")).read_text())
    assert figures["data"]["shortened_rows"] == 10


def test_conversations_beyond_the_context_are_told(make_machine: MakeMachine) -> None:
    machine = make_machine([*facts(9), LONG])
    sets = ["finetune.epochs=1", "finetune.layers=1"]
    done = machine.setup("finetune", *sets, "finetune.max_tokens=4096")
    assert done.returncode == 0, done.stderr
    told = f"1 conversations are longer than the {CONTEXT} tokens the model was made for"
    assert told in done.stderr
    fix = done.stderr.partition(f"{told}; --set ")[2].split()[0]
    assert told not in machine.setup("finetune", *sets, fix).stderr


@pytest.mark.parametrize("count", [2, 12])
def test_identical_conversations(make_machine: MakeMachine, count: int) -> None:
    line = failed(make_machine(facts(1) * count).setup("finetune"))
    assert f"has the same conversation {count} times, needed are 2 different ones" in line
    assert "add conversations to data.source" in line


def test_repeated_conversations_are_told(make_machine: MakeMachine) -> None:
    done = make_machine(facts(2) * 6).setup("finetune", "finetune.epochs=1")
    assert done.returncode == 0
    assert "2 of the 2 held-out conversations are trained on as well" in done.stderr


def test_home_that_cannot_be_written(machine: Machine, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("no folder can be made in a file, not even by root")
    nowhere, home = str(blocked / "home"), str(tmp_path / "home")
    with machine.home.altered(FINETUNE_PHI_HOME=nowhere, FINETUNE_PHI_MODELS=nowhere):
        planned = machine.setup("finetune", options=("--dry-run",))
        assert planned.returncode == 0, planned.stderr
        assert nowhere in planned.stdout
        assert "set FINETUNE_PHI_HOME to a folder of your own" in failed(machine.setup("finetune"))
        assert "Fix: python -m setup finetune" in failed(machine.setup("register"))
    # The copy of a model that loads faster is no more than that.
    with machine.home.altered(FINETUNE_PHI_HOME=home, FINETUNE_PHI_MODELS=nowhere):
        assert machine.setup("finetune", "finetune.epochs=1").returncode == 0
