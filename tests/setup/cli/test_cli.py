"""``python -m setup`` as a user types it, on machines that lack something."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evaluation.__main__ import main as evaluation_main
from evaluation.ask.watch import Interrupted
from evaluation.cli import demo as demo_command
from setup.azure import path as azure_steps
from setup.azure.client.session import AzureSession
from setup.cli import main as cli
from setup.cli.main import app
from setup.common import console
from setup.common.checks import Check
from setup.local import steps
from setup.recipe.load import load_any_recipe, load_recipe
from tests.conftest import MakeHome
from tests.home import ROOT, Home, failed

RECIPES = sorted((ROOT / "setup" / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def bare(make_home: MakeHome) -> Home:
    """A machine where nothing runs."""
    return make_home()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_says_how_it_is_launched(path: Path) -> None:
    assert load_any_recipe(path.stem, []).name == path.stem
    header = path.read_text(encoding="utf-8").split("\nname:")[0]
    assert "# Launch:" in header
    assert "--set " in header


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("endpoint.port=hot", "endpoint.port: Input should be a valid integer"),
        ("endpoint.slots=0", "endpoint.slots: Input should be greater than or equal to 1, got 0"),
        ("model.precision=q4", "'f16' or 'keep', got 'q4'"),
        ("model.colour=red", "model.colour: unknown field"),
        ("target=moon", "target: Input should be 'local', got 'moon'"),
        ("nonsense", "is not section.field=value"),
        ("name.first=x", "name is not a section"),
    ],
)
def test_bad_override_is_one_line(bare: Home, override: str, says: str) -> None:
    assert says in failed(bare.run("-m", "setup", "deploy", "--set", override))


def test_unknown_recipe_names_the_known_ones(bare: Home) -> None:
    line = failed(bare.run("-m", "setup", "deploy", "--recipe", "nope"))
    assert "laptop" in line
    broken = bare.path / "broken.yaml"
    broken.write_text("name: [", encoding="utf-8")
    assert "is not YAML" in failed(bare.run("-m", "setup", "deploy", "--recipe", str(broken)))


def test_wrong_usage_is_exit_2(bare: Home) -> None:
    assert bare.run("-m", "setup", "deploy", "--nope").returncode == 2
    assert bare.run("-m", "setup", "nope").returncode == 2


def test_every_command_has_help_with_an_example(bare: Home) -> None:
    listed = bare.run("-m", "setup", "--help").stdout.partition("Commands:")[2]
    commands = re.findall(r"^  (\w+) ", listed, re.MULTILINE)
    path = {"data", "finetune", "register", "deploy", "connect"}
    assert path | {"doctor", "status", "logs", "stop", "up", "models", "export"} <= set(commands)
    assert path | {"provision", "upload", "quota", "run", "rollback", "teardown"} <= set(commands)
    for command in commands:  # in this process: a new one each would take 20 seconds
        done = CliRunner().invoke(app, [command, "--help"])
        assert f"Example: python -m setup {command}" in done.stdout


def test_dry_run_changes_nothing(bare: Home) -> None:
    before = sorted(bare.path.rglob("*"))
    done = bare.setup("up", "--dry-run")
    assert done.returncode == 0
    assert "start it on port" in done.stdout
    assert sorted(bare.path.rglob("*")) == before


def test_commands_on_a_machine_where_nothing_runs(bare: Home) -> None:
    assert "is not running" in failed(bare.setup("connect"))
    assert "no log at" in failed(bare.setup("logs"))
    status = bare.setup("status", "--json")
    assert status.returncode == 1
    assert json.loads(status.stdout)["running"] is False
    assert bare.setup("stop").returncode == 0
    error = json.loads(bare.setup("connect", "--json").stdout)
    assert error["ok"] is False
    assert error["fix"] == f"python -m setup deploy --set endpoint.port={bare.port}"


@pytest.mark.slow
@pytest.mark.minutes
def test_whole_path_twice_then_logs_and_status(make_home: MakeHome) -> None:
    home = make_home(
        "finetune.epochs=0.01", "finetune.layers=1", "finetune.held_out_rows=4", "endpoint.slots=1"
    )
    first = home.setup("up")
    assert first.returncode == 0, first.stderr
    results = [json.loads(line) for line in home.setup("up", "--json").stdout.splitlines()]
    path = ["data", "finetune", "register", "deploy", "connect"]
    assert [result["step"] for result in results] == path
    assert not any(result["changed"] for result in results)
    status = json.loads(home.setup("status", "--json").stdout)
    assert status["healthy"] is True
    assert {name: row["traffic"] for name, row in status["deployments"].items()} == {
        "base": 0,
        "tuned": 100,
    }
    assert "tuned" in home.setup("status").stdout
    logged = home.setup("logs", "--lines", "5").stdout.splitlines()
    assert 0 < len(logged) <= 5
    assert all(json.loads(line)["message"] for line in logged)
    assert home.key() not in home.setup("status", "--json").stdout
    assert "champion" in home.setup("models").stdout
    doctor = json.loads(home.setup("doctor", "--json").stdout)
    assert doctor["ok"] is True


def test_interrupt_says_how_to_go_on(make_home: MakeHome) -> None:
    home = make_home()
    home.folder.mkdir(parents=True)
    (home.folder / "endpoint.log").write_text("first\n")
    command = [sys.executable, "-m", "setup", "logs", "--follow"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=home.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "first\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.startswith("interrupted; run the same command again")


def _end_of_main(
    monkeypatch: pytest.MonkeyPatch, *arguments: str, main: Callable[[], None] = cli.main
) -> object:
    """The exit code of the command, run in this process."""
    monkeypatch.setattr(console.err, "file", sys.stderr)
    monkeypatch.setattr(console.out, "file", sys.stdout)
    monkeypatch.setattr(sys, "argv", ["setup", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_interrupted_demo_ends_in_one_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise Interrupted

    monkeypatch.setattr(demo_command, "run_demo", stop)
    monkeypatch.setattr(demo_command, "require_healthy", lambda *_, **__: None)
    monkeypatch.setattr(demo_command, "answer_first", lambda _: None)
    monkeypatch.setattr(steps, "STEPS", [])
    assert _end_of_main(monkeypatch, "demo", main=evaluation_main) == 130
    assert capsys.readouterr().err.splitlines() == [
        "an endpoint that was started goes on: python -m setup stop",
        "interrupted; go on with: python -m evaluation run --resume",
    ]


def test_doctor_and_plan_name_an_azure_recipe_as_it_was_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(_: object) -> Iterator[Check]:
        yield Check("quota", "none", "python -m setup quota --recipe NAME --request 24")

    def plan(session: AzureSession) -> list[str]:
        return [f"costs until {session.recipe.command('teardown')}"]

    monkeypatch.setattr("setup.azure.doctor.findings.run_azure_checks", check)
    monkeypatch.setattr(azure_steps, "STEPS", [replace(azure_steps.STEPS[0], plan=plan)])
    sets = "--set azure.resource_group=mine"
    assert _end_of_main(monkeypatch, "doctor", "--target", "azure", *sets.split()) == 1
    fix = f"python -m setup quota --recipe phi-azure {sets} --request 24\n"
    assert capsys.readouterr().out.endswith(fix)
    planned = ["up", "--recipe", "phi-azure", *sets.split(), "--dry-run"]
    assert _end_of_main(monkeypatch, *planned) == 0
    assert capsys.readouterr().out.endswith(f"teardown --recipe phi-azure {sets}\n")


def test_changed_recipe_replaces_the_deployment(make_home: MakeHome) -> None:
    home = make_home("model.context_window=512")
    assert home.setup("deploy").returncode == 0
    home.sets = ["model.context_window=768"]
    assert json.loads(home.setup("deploy", "--json").stdout)["changed"] is True
    assert json.loads(home.setup("deploy", "--json").stdout)["changed"] is False
    row = json.loads(home.setup("status", "--json").stdout)["deployments"]["base"]
    assert row["context_window"] == 768


def test_data_of_ones_own_names_what_it_rejects(bare: Home) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    source = bare.path / "mine.jsonl"
    lines = [
        json.dumps({"messages": [{**turns[0], "content": f"Hi {n}"}, turns[1]]}) for n in range(20)
    ]
    lines[3], lines[7] = "{", json.dumps({"messages": turns[::-1]})
    source.write_text("\n".join(lines), encoding="utf-8")
    sets = ["--set", f"data.source={source}", "--set", f"data.out={bare.path / 'out'}"]
    done = bare.setup("data", *sets)
    assert done.returncode == 0
    assert "rows=20 kept=18 rejected=2" in done.stdout
    assert "rejected mine.jsonl:4: not valid JSON" in done.stderr
    assert "rejected mine.jsonl:8: turn 1 is assistant, expected user" in done.stderr
    assert "(unchanged)" in bare.setup("data", *sets).stdout


def test_file_of_another_kind_never_reaches_the_hub(bare: Home) -> None:
    table = bare.path / "my.xlsx"
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    line = failed(bare.setup("data", "--set", f"data.source={table}"))
    assert ".jsonl" in line
    assert "no OWNER/NAME" in failed(bare.setup("data", "--set", "data.source=missing.xlsx"))
    assert "no data file" in failed(bare.setup("data", "--set", "data.source=missing.csv"))


def test_text_values_are_taken_as_text(bare: Home) -> None:
    sha = "0" * 64
    assert load_recipe("laptop", [f"model.sha256={sha}"]).model.sha256 == sha
    assert load_recipe("laptop", ["model.sha256="]).model.sha256 == ""
