"""The step ``data`` in Azure: uploaded once, found after that, whatever cut it off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.data import blobs
from setup.azure.data import step as data
from setup.azure.data.step import data_assets
from setup.common.errors import FixableError
from setup.data import prepare_data
from setup.data.plan import data_plan
from tests.azure.trainable import ROWS, Trainable, trainable


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainable]:
    with trainable(tmp_path_factory.mktemp("azure")) as found:
        yield found


def _rows(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def test_splits_are_uploaded_once(cloud: Trainable) -> None:
    recipe = cloud.recipe()
    assert "upload it as data assets" in data.plan(AzureSession(recipe))[-1]
    made = data.run(AzureSession(recipe))
    assert made.changed
    assert f"rows={ROWS} kept={ROWS} rejected=0" in made.detail
    stored = {path.rpartition("/")[2]: _rows(blob.content) for path, blob in cloud.blobs().items()}
    assert set(stored) == {"train.jsonl", "validation.jsonl"}
    trained = stored["train.jsonl"] + stored["validation.jsonl"]
    assert {tuple(row) for row in trained} == {("messages",)}
    paths = data_plan(recipe).paths
    split, test = (_rows(path.read_bytes()) for path in (paths.train, paths.test))
    assert sorted(map(str, trained)) == sorted(str({"messages": r["messages"]}) for r in split)
    assert not {row["prompt"] for row in test} & {r["messages"][1]["content"] for r in trained}
    for part, asset in cloud.assets(recipe).items():
        body = cloud.store("data", f"{asset.name}/versions/{asset.version}").properties
        assert body["dataType"] == "uri_file"
        assert body["dataUri"].endswith(f"finetune-phi/data/{asset.version}/{part}.jsonl")
        assert body["tags"]["sha256"].startswith(asset.version)
    assert cloud.azure.violations == []
    cloud.azure.clear()
    assert not data.run(AzureSession(recipe)).changed
    assert [line.split()[0] for line in data.plan(AzureSession(recipe))[-2:]] == ["find", "find"]
    assert cloud.azure.writes == []


def test_other_rows_are_another_version(cloud: Trainable) -> None:
    data.run(AzureSession(cloud.recipe()))
    before = cloud.assets(cloud.recipe())["train"].version
    recipe = cloud.recipe("data.seed=3")
    assert data.run(AzureSession(recipe)).changed
    assert cloud.assets(recipe)["train"].version != before


def test_model_without_system_role_gets_none(cloud: Trainable) -> None:
    recipe = cloud.recipe("model.system_role=fold", "data.seed=4")
    data.run(AzureSession(recipe))
    version = cloud.assets(recipe)["train"].version
    [rows] = [_rows(b.content) for path, b in cloud.blobs().items() if f"/{version}/" in path]
    assert {row["messages"][0]["role"] for row in rows} == {"user"}
    assert all(row["messages"][0]["content"].startswith("Be brief.\n\nWhat") for row in rows)


def test_own_trainer_gets_the_whole_train_split(cloud: Trainable) -> None:
    recipe = cloud.recipe(route="own")
    assert data.run(AzureSession(recipe)).changed
    [asset] = cloud.assets(recipe).values()
    [content] = [b.content for path, b in cloud.blobs().items() if f"/{asset.version}/" in path]
    assert content == data_plan(recipe).paths.train.read_bytes()


def test_upload_goes_on_where_it_was_cut_off(
    cloud: Trainable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "_BLOCK", 512)
    recipe = cloud.recipe("data.seed=5")
    prepare_data(data_plan(recipe))

    def interrupt(done: int, _: int) -> None:
        if done >= 3 * 512:
            raise KeyboardInterrupt

    with data_assets(recipe, data_plan(recipe).paths.train) as assets:
        asset, path = assets["train"], Path(assets["train"].file)
        blocks = -(-path.stat().st_size // 512)
        to = f"finetune-phi/data/{asset.version}/train.jsonl"
        with pytest.raises(KeyboardInterrupt):
            blobs.upload(AzureSession(recipe), path, to, interrupt)
        content = path.read_bytes()
    assert not data.is_registered(AzureSession(recipe), asset)
    cloud.azure.clear()
    assert data.run(AzureSession(recipe)).changed
    sent = cloud.azure.find(f"PUT stwork.blob.*/{asset.version}/train.jsonl")
    assert len(sent) == blocks - 3 + 1  # what was left, and the list of all blocks
    assert cloud.blobs()[to].content == content


def test_interrupted_before_the_asset_is_made(cloud: Trainable) -> None:
    recipe = cloud.recipe("data.seed=6")
    fault = cloud.azure.fail(r"PUT .*/data/phi-azure-train/", times=99, how="forbidden")
    with pytest.raises(FixableError, match=r"uploading data asset phi-azure-train.*403"):
        data.run(AzureSession(recipe))
    fault.times = 0
    cloud.azure.clear()
    assert data.run(AzureSession(recipe)).changed
    version = cloud.assets(recipe)["train"].version
    assert not cloud.azure.find(f"PUT stwork.blob.*/{version}/train.jsonl")


@pytest.mark.parametrize(
    ("how", "says", "fix"),
    [
        ("dropped", "the connection to Azure failed", "run the same command again"),
        ("forbidden", "403", "takes up to ten minutes"),
        ("throttled", "429", "throttling"),
    ],
)
def test_refused_upload_is_one_line(cloud: Trainable, how: str, says: str, fix: str) -> None:
    recipe = cloud.recipe("data.seed=7")
    fault = cloud.azure.fail(r"PUT stwork.blob", times=99, how=how)
    with pytest.raises(FixableError) as caught:
        data.run(AzureSession(recipe))
    fault.times = 0
    assert says in caught.value.what
    assert fix in caught.value.fix
    assert "\n" not in str(caught.value)


def test_answer_that_is_lost_does_not_matter(cloud: Trainable) -> None:
    recipe = cloud.recipe("data.seed=8")
    cloud.azure.fail(r"PUT .*/data/phi-azure-train/", how="lost")
    cloud.azure.fail(r"PUT stwork.blob", times=2, how="unavailable")
    assert data.run(AzureSession(recipe)).changed
    assert not data.run(AzureSession(recipe)).changed


@pytest.mark.parametrize("only_answer", [False, True])
def test_component_gets_no_answers_of_weight_0(
    cloud: Trainable, tmp_path: Path, only_answer: bool
) -> None:
    """It would learn them; our own trainer knows them for context."""
    rows = [
        json.loads(line)["messages"] for line in cloud.source.read_text("utf-8").split("\n")[:-1]
    ]
    rows[4][-1]["weight"] = 0
    if not only_answer:
        question = {"role": "user", "content": "Sure?"}
        rows[4] += [question, {"role": "assistant", "content": "Yes.", "weight": 1}]
    train = tmp_path / "train_data.jsonl"
    train.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    with pytest.raises(FixableError) as caught, data_assets(cloud.recipe(), train):
        pass
    assert f"1 of the conversations in {train} have answers of weight 0" in str(caught.value)
    assert "--recipe gguf-azure" in caught.value.fix
    with data_assets(cloud.recipe(route="own"), train) as assets:
        assert assets["train"].file == train
    rows[4][2]["weight"] = 1
    train.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    with data_assets(cloud.recipe(), train) as assets:
        sent = [row for asset in assets.values() for row in _rows(asset.file.read_bytes())]
    assert not [turn for row in sent for turn in row["messages"] if "weight" in turn]
