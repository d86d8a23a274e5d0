"""Which version is the champion, and how versions are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from setup.common.errors import FixableError
from setup.local.registry import get_version, list_versions, promote, register_finetune
from setup.local.registry.store import change_registry
from tests.setup.local.registry.runs import make_result, make_run, sha

MODEL = "phi-local"


def _champion() -> int:
    return get_version(MODEL, "champion").number


def test_better_run_becomes_the_champion(home: Path, tmp_path: Path) -> None:
    register_finetune(MODEL, make_run(tmp_path / "first", after=0.9))
    better = register_finetune(MODEL, make_run(tmp_path / "second", after=0.8))
    assert better.champion
    assert better.note == "held-out loss 0.800 against 0.900 of version 1, the champion then"
    assert [version.champion for version in list_versions(MODEL)] == [False, True]


@pytest.mark.parametrize("after", [0.9, 1.1])
def test_run_that_is_no_better_leaves_the_champion(
    home: Path, tmp_path: Path, after: float
) -> None:
    register_finetune(MODEL, make_run(tmp_path / "first", after=0.9))
    other = register_finetune(MODEL, make_run(tmp_path / "second", after=after))
    assert (other.number, _champion()) == (2, 1)
    assert "no better" in other.note
    assert "python -m setup promote 2" in other.note


@pytest.mark.parametrize("after", [2.5, 2.7])
def test_run_that_does_not_improve_its_base_is_no_champion(
    home: Path, tmp_path: Path, after: float
) -> None:
    version = register_finetune(MODEL, make_run(tmp_path / "first", before=2.5, after=after))
    assert not version.champion
    with pytest.raises(FixableError, match="phi-local has no champion; it has 1"):
        get_version(MODEL, "champion")


def test_other_held_out_rows_are_not_compared(home: Path, tmp_path: Path) -> None:
    register_finetune(MODEL, make_run(tmp_path / "first", after=0.9))
    data = make_result("", 0, 0)["data"] | {"held_out_sha256": sha("other rows")}
    other = register_finetune(MODEL, make_run(tmp_path / "second", after=0.1, data=data))
    assert (other.champion, _champion()) == (False, 1)
    assert "measured on other held-out rows" in other.note
    assert "python -m setup promote 2" in other.note


def _on(source: str, rows: str) -> dict[str, Any]:
    data: dict[str, Any] = make_result("", 0, 0)["data"]
    return data | {"held_out_sha256": sha(rows), "source": source}


@pytest.mark.parametrize(
    ("before", "now", "champion"),
    [
        ("sample", "mine.jsonl", 2),
        ("mine.jsonl", "~/chats.jsonl", 2),
        ("mine.jsonl", "mine.jsonl", 1),  # rows were added: nothing was decided about it
        ("", "mine.jsonl", 1),  # a version of before does not say what it was trained on
    ],
)
def test_version_of_other_data_takes_over(
    home: Path, tmp_path: Path, before: str, now: str, champion: int
) -> None:
    register_finetune(MODEL, make_run(tmp_path / "first", after=0.1, data=_on(before, "old")))
    run = make_run(tmp_path / "second", after=0.9, data=_on(now, "new"))
    version = register_finetune(MODEL, run)
    assert (_champion(), version.data_source) == (champion, now)
    if champion == 2:
        assert f"trained on other data ({before})" in version.note
        assert "`python -m setup promote 1` takes that one back" in version.note
    else:
        assert version.note.startswith("not comparable")


def test_other_data_that_taught_nothing_does_not_take_over(home: Path, tmp_path: Path) -> None:
    register_finetune(MODEL, make_run(tmp_path / "first", after=0.9, data=_on("sample", "old")))
    run = make_run(tmp_path / "second", before=2.5, after=2.5, data=_on("mine.jsonl", "new"))
    assert not register_finetune(MODEL, run).champion


def test_other_base_model_is_not_compared(home: Path, tmp_path: Path) -> None:
    register_finetune(MODEL, make_run(tmp_path / "first", after=0.9))
    base = {"source": "other.gguf", "sha256": sha("other base")}
    other = register_finetune(MODEL, make_run(tmp_path / "second", after=0.1, base=base))
    assert (other.champion, _champion()) == (False, 1)
    assert "another base model" in other.note


def test_models_have_champions_of_their_own(home: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "first")
    assert register_finetune(MODEL, run).number == register_finetune("other", run).number == 1
    assert get_version("other", "champion").adapter != get_version(MODEL, "champion").adapter


def test_promote_moves_the_alias_by_hand(home: Path, tmp_path: Path) -> None:
    register_finetune(MODEL, make_run(tmp_path / "first", after=0.9))
    run = make_run(tmp_path / "second", after=1.1)
    register_finetune(MODEL, run)
    promoted = promote(MODEL, 2)
    assert (promoted.champion, promoted.note) == (True, "promoted by hand")
    assert promote(MODEL, 2) == promoted
    promote(MODEL, 1)
    register_finetune(MODEL, run)
    assert _champion() == 1


def test_what_is_not_there_is_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(FixableError, match="no version of phi-local is registered"):
        promote(MODEL, 1)
    register_finetune(MODEL, make_run(tmp_path / "first"))
    register_finetune(MODEL, make_run(tmp_path / "second"))
    with pytest.raises(FixableError, match="phi-local has no version 7; it has 1, 2"):
        promote(MODEL, 7)
    with pytest.raises(FixableError, match="phi-local has no version 7; it has 1, 2"):
        get_version(MODEL, "7")


def test_changes_of_other_mlflow_clients_are_seen(home: Path, tmp_path: Path) -> None:
    register_finetune(MODEL, make_run(tmp_path / "first", after=0.9))
    register_finetune(MODEL, make_run(tmp_path / "second", after=0.8))
    assert _champion() == 2
    with change_registry() as client:
        client.set_registered_model_alias(MODEL, "champion", "1")
    assert _champion() == 1
    with change_registry() as client:
        client.delete_model_version(MODEL, "1")
    assert [version.number for version in list_versions(MODEL)] == [2]


def test_versions_that_others_registered_are_left_out(home: Path, tmp_path: Path) -> None:
    register_finetune(MODEL, make_run(tmp_path / "first"))
    with change_registry() as client:
        client.create_model_version(MODEL, source=str(tmp_path))
    assert [version.number for version in list_versions(MODEL)] == [1]


def test_moved_registry_is_read_and_not_written(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_finetune(MODEL, make_run(tmp_path / "first"))
    moved = home.rename(tmp_path / "moved")
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(moved))
    assert get_version(MODEL, "champion").adapter.is_relative_to(moved)
    with pytest.raises(FixableError, match="the registry was moved"):
        register_finetune(MODEL, make_run(tmp_path / "second"))
    assert not home.exists()
