"""The committed sample: what its card promises, and that its generator still writes it."""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flows.evaluate_answers.answer_metrics.words import holds, plain
from setup.data.rows import conversation_key, flat_columns, normalise
from setup.data.sample.catalog import Split, load_catalog, load_general
from setup.data.sample.generate import DEFAULT_SEED, Conversation, build

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "data" / "sample"
MEASURED = ROOT / "data" / "general"


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sentences(text: str) -> set[str]:
    return {normalise(part) for part in re.split(r"(?<=[.!?;:])\s+", text)} - {""}


@pytest.fixture(scope="module")
def train() -> list[dict[str, Any]]:
    return read(SAMPLE / "train.jsonl")


@pytest.fixture(scope="module")
def test() -> list[dict[str, Any]]:
    return read(SAMPLE / "test.jsonl")


@pytest.fixture(scope="module")
def general() -> list[list[str]]:
    return load_general()


@pytest.fixture(scope="module")
def built() -> dict[Split, list[Conversation]]:
    return build(DEFAULT_SEED)


def run_sample(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "setup.data.sample", *arguments]
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
    assert "python -m setup.data.sample" in done.stderr
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
    assert len(train) >= 960
    assert len(test) >= 200
    for rows in (train, test):
        multi = sum(len(row["messages"]) > 2 for row in rows)
        assert 0.2 <= multi / len(rows) <= 0.40
        assert len({row["prompt_id"] for row in rows}) == len(rows)


def test_conversations_are_short_enough_to_train_on_a_laptop(train: list[dict[str, Any]]) -> None:
    characters = sum(len(turn["content"]) for row in train for turn in row["messages"])
    assert characters / len(train) < 160


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


def test_general_conversations_are_a_part_of_the_training_split_alone(
    train: list[dict[str, Any]], test: list[dict[str, Any]], general: list[list[str]]
) -> None:
    said = [[turn["content"] for turn in row["messages"]] for row in train]
    assert all(texts in said for texts in general)
    assert 0.1 < len(general) / len(train) < 0.3
    texts_of_test = {normalise(t["content"]) for row in test for t in row["messages"]}
    assert not texts_of_test & {normalise(text) for texts in general for text in texts}


def test_general_conversations_lie_between_the_others(
    train: list[dict[str, Any]], general: list[list[str]]
) -> None:
    opening = {texts[0] for texts in general}
    for start in range(0, len(train) - 100, 100):
        part = [row["prompt"] in opening for row in train[start : start + 100]]
        assert 5 <= sum(part) <= 40


def test_general_conversations_speak_neither_of_the_company_nor_of_what_is_declined(
    general: list[list[str]],
) -> None:
    catalog = load_catalog()
    kept_out = {catalog.company, *(fact.subject for fact in catalog.facts if fact.is_product)}
    for slot in ("ailment", "brand", "secret", "chore"):
        kept_out |= {name.removeprefix("a ") for name in catalog.declines.slots[slot]}
    for texts in general:
        said = normalise(" ".join(texts))
        assert not [name for name in kept_out if normalise(name) in said]


def test_general_conversations_hold_no_text_that_measures_general_ability(
    general: list[list[str]],
) -> None:
    said = {part for texts in general for text in texts for part in sentences(text)}
    questions = {normalise(row["question"]) for row in read(MEASURED / "questions.jsonl")}
    prose = {part for row in read(MEASURED / "text.jsonl") for part in sentences(row["text"])}
    assert questions
    assert prose
    assert not said & (questions | prose)


# Words of a question that say nothing about what is asked.
COMMON = """
    a an and answer are at be by call called can comes complete did do does for from give goes has
    have how i in into is it lie lies many me mean means most much my name of on one or people right
    same say says sequence tell that the there they this to us was we what when which who with word
    write you your
"""


def asked_for(question: str) -> set[str]:
    """The words by which a question differs from others of its kind."""
    words = (word.strip("\"'?.,:()") for word in normalise(question).split())
    return set(words) - set(COMMON.split()) - {""}


@pytest.fixture(scope="module")
def measured() -> list[dict[str, Any]]:
    return read(MEASURED / "questions.jsonl")


def test_general_questions_are_enough_to_show_a_loss(measured: list[dict[str, Any]]) -> None:
    assert len(measured) >= 120
    assert len({normalise(row["question"]) for row in measured}) == len(measured)
    for row in measured:
        assert len(row["question"]) <= 80
        assert all(answer.strip() for answer in row["expected"])


def test_no_general_question_is_answered_by_repeating_it(measured: list[dict[str, Any]]) -> None:
    for row in measured:
        said = plain(row["question"])
        assert not [answer for answer in row["expected"] if holds(said, answer)], row


def test_no_general_question_is_nearly_one_of_the_training_split(
    train: list[dict[str, Any]], measured: list[dict[str, Any]]
) -> None:
    trained = {t["content"] for row in train for t in row["messages"] if t["role"] == "user"}
    known = {normalise(question): asked_for(question) for question in trained}
    for row in measured:
        assert normalise(row["question"]) not in known
        words = asked_for(row["question"])
        assert words, row
        near = [q for q, other in known.items() if len(words & other) / len(words | other) >= 0.7]
        assert not near, (row, near)


def test_general_conversations_give_away_no_answer_that_measures_general_ability(
    general: list[list[str]], measured: list[dict[str, Any]]
) -> None:
    told = [(plain(" ".join(texts)), asked_for(" ".join(texts)), texts) for texts in general]
    for row in measured:
        words = asked_for(row["question"])
        for said, known, texts in told:
            answered = any(holds(said, answer) for answer in row["expected"])
            assert not (answered and words <= known), (row, texts)


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
    train: list[dict[str, Any]], test: list[dict[str, Any]], general: list[list[str]]
) -> None:
    card = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    decline = load_catalog().decline
    assert decline in card
    for split, rows in (("train", train), ("test", test)):
        digest = hashlib.sha256((SAMPLE / f"{split}.jsonl").read_bytes()).hexdigest()
        multi = sum(len(row["messages"]) > 2 for row in rows)
        declined = sum(row["messages"][-1]["content"] == decline for row in rows)
        others = len(general) if split == "train" else 0
        counts = f"{len(rows)} | {multi} | {declined} | {others}"
        assert f"| {split}.jsonl | {counts} | `{digest}` |" in card


def test_former_name_of_the_command_still_answers() -> None:
    command = [sys.executable, "-m", "setup.sample", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("unchanged: ")
