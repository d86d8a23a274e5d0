"""The committed sample: what its card promises, and that its generator still writes it."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from setup.data.rows import conversation_key, flat_columns, normalise
from setup.sample.catalog import Split, load_catalog
from setup.sample.generate import DEFAULT_SEED, Conversation, build

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "sample"


def read(split: Split) -> list[dict[str, Any]]:
    lines = (SAMPLE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def train() -> list[dict[str, Any]]:
    return read("train")


@pytest.fixture(scope="module")
def test() -> list[dict[str, Any]]:
    return read("test")


@pytest.fixture(scope="module")
def built() -> dict[Split, list[Conversation]]:
    return build(DEFAULT_SEED)


def run_sample(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "setup.sample", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_committed_files_are_what_the_generator_writes() -> None:
    done = run_sample("--check")
    assert done.returncode == 0, done.stderr


def test_check_fails_in_one_line_when_a_file_was_edited(tmp_path: Path) -> None:
    assert run_sample("--out", str(tmp_path)).returncode == 0
    path = tmp_path / "train.jsonl"
    assert path.read_bytes() == (SAMPLE / "train.jsonl").read_bytes()
    path.write_bytes(path.read_bytes().replace(b"60 hours", b"61 hours"))
    done = run_sample("--check", "--out", str(tmp_path))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "python -m setup.sample" in done.stderr
    assert "train.jsonl" in done.stderr


def test_another_seed_words_it_otherwise() -> None:
    other = build(DEFAULT_SEED + 1)["train"]
    assert [c.messages for c in other] != [c.messages for c in build(DEFAULT_SEED)["train"]]


GOLDEN = ([1, 4, 3, 6, 0, 5, 7, 2], ["a", "g", "g", "b", "b", "c"], "0.319139148849")


def test_random_draws_are_those_of_every_python() -> None:
    rng = random.Random(DEFAULT_SEED)  # noqa: S311
    cards = list(range(8))
    rng.shuffle(cards)
    drawn = [rng.choice("abcdefgh") for _ in range(6)]
    assert (cards, drawn, f"{rng.random():.12f}") == GOLDEN


def test_sizes(train: list[dict[str, Any]], test: list[dict[str, Any]]) -> None:
    assert len(train) >= 800
    assert len(test) >= 200
    for rows in (train, test):
        multi = sum(len(row["messages"]) > 2 for row in rows)
        assert 0.30 <= multi / len(rows) <= 0.40
        assert len({row["prompt_id"] for row in rows}) == len(rows)


def test_conversations_are_short_enough_to_train_on_a_laptop(train: list[dict[str, Any]]) -> None:
    characters = sum(len(turn["content"]) for row in train for turn in row["messages"])
    assert characters / len(train) < 150


def test_splits_share_no_conversation_no_prompt_and_no_question(
    train: list[dict[str, Any]], test: list[dict[str, Any]]
) -> None:
    def questions(rows: list[dict[str, Any]]) -> set[str]:
        turns = (turn for row in rows for turn in row["messages"] if turn["role"] == "user")
        return {normalise(turn["content"]) for turn in turns}

    assert not {conversation_key(r["messages"]) for r in train} & {
        conversation_key(r["messages"]) for r in test
    }
    assert not questions(train) & questions(test)


def test_splits_share_no_template(built: dict[Split, list[Conversation]]) -> None:
    used = {
        split: {normalise(turn.template) for c in conversations for turn in c.turns}
        for split, conversations in built.items()
    }
    assert not used["train"] & used["test"]


def test_every_fact_of_the_test_split_is_trained_often(
    train: list[dict[str, Any]], test: list[dict[str, Any]]
) -> None:
    answers = Counter(t["content"] for r in train for t in r["messages"] if t["role"] != "user")
    for row in test:
        assert answers[row["ground_truth"]] >= 5, row["ground_truth"]


def test_ground_truth_contains_its_facts(test: list[dict[str, Any]]) -> None:
    decline = load_catalog().decline
    for row in test:
        assert all(fact in row["ground_truth"] for fact in row["facts"])
        assert row["must_decline"] == (not row["facts"])
        assert row["must_decline"] == (row["ground_truth"] == decline)
    assert 0.1 < sum(row["must_decline"] for row in test) / len(test) < 0.25


def test_flat_columns_say_what_the_messages_say(test: list[dict[str, Any]]) -> None:
    for row in test:
        assert flat_columns(row["messages"]).items() <= row.items()
        assert row["prompt"] == row["messages"][0]["content"]
        assert len(row["chat_history"]) == len(row["messages"]) // 2 - 1


def test_no_value_contains_another_one_of_its_attribute() -> None:
    facts = load_catalog().facts
    assert len({fact.subject for fact in facts}) == 40
    for one in facts:
        assert one.value in one.answer
        for other in facts:
            if other is not one and other.attribute == one.attribute and one.is_product:
                assert one.value not in other.value


def test_values_are_unique() -> None:
    values = [fact.value for fact in load_catalog().facts]
    assert len(set(values)) == len(values)


def test_the_card_has_the_digests_and_the_counts(
    train: list[dict[str, Any]], test: list[dict[str, Any]]
) -> None:
    card = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    decline = load_catalog().decline
    assert decline in card
    for split, rows in (("train", train), ("test", test)):
        digest = hashlib.sha256((SAMPLE / f"{split}.jsonl").read_bytes()).hexdigest()
        multi = sum(len(row["messages"]) > 2 for row in rows)
        declined = sum(row["messages"][-1]["content"] == decline for row in rows)
        assert f"| {split}.jsonl | {len(rows)} | {multi} | {declined} | `{digest}` |" in card
