"""Rows from feedback: good and corrected answers alone, nothing that is tested, and from where."""

from __future__ import annotations

import json
import os
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest

from setup.common.feedback_file import append, feedback_path
from tests.conftest import MakeHome
from tests.home import ROOT, ask_openai
from tests.setup.command import lamps, options, prepare, prepared, rows, run, write
from tests.tiny import CONTEXT, make_tiny_llama


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(tmp_path / "home"))


def rate(number: int, turns: list[dict[str, Any]], rating: str | None = "up", **more: str) -> None:
    """Keep what was said of the last of ``turns``, as the endpoint does."""
    *past, last = turns
    record = {
        **{"kind": "feedback", "id": f"answer-{number}", "conversation": f"page-{number}"},
        **{"deployment": "base", "model": "m.gguf", "time": "2026-11-29", "endpoint": "phi-local"},
        **{"messages": past, "answer": last["content"], "rating": rating},
        **{"comment": "", "correction": ""},
    }
    append(record | more, 10**8)


def _rate_lamps(count: int = 24) -> None:
    for number, turns in enumerate(lamps(count)):
        rate(number, turns)


def _exchange(question: str) -> list[dict[str, Any]]:
    answer = f"That is {len(question)}."
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _note(err: str) -> str:
    (line,) = [line for line in err.splitlines() if line.startswith("note: answers of")]
    return line


def test_good_and_corrected_answers_become_rows(tmp_path: Path) -> None:
    _rate_lamps()
    for number, (rating, more) in enumerate([("down", {}), ("down", {"correction": " Ask Ada. "})]):
        rate(number, lamps()[number], rating, **more)  # the last word holds
    rate(2, lamps()[2], None)  # taken back
    rate(3, lamps()[3], "down", correction=lamps()[3][1]["content"])  # corrects nothing
    append({"kind": "answer", "id": "x", "conversation": "", "messages": [], "answer": "x"}, 10**8)
    done = prepare("feedback", tmp_path / "out")
    assert done.code == 0, done.err
    told = _note(done.err)
    assert (
        "20 found good, 1 corrected; left out: 2 found bad and not corrected, 1 not rated" in told
    )
    made = prepared(tmp_path / "out")
    answers = {row["feedback"]["id"]: row["messages"][-1]["content"] for row in made}
    assert len(made) == 21
    assert answers["answer-1"] == "Ask Ada."
    assert answers["answer-4"] == lamps()[4][1]["content"]
    assert not {"answer-0", "answer-2", "answer-3"} & answers.keys()
    assert made[0]["feedback"]["conversation"].startswith("page-")
    assert {row["feedback"]["rating"] for row in made} == {"found good", "corrected"}
    note = json.loads((tmp_path / "out" / "data.manifest.json").read_text())
    assert (note["source"], note["path"]) == ("feedback", str(feedback_path()))
    assert prepare("feedback", tmp_path / "out").out.rstrip().endswith("(unchanged)")


def test_what_was_said_before_is_not_learnt(tmp_path: Path) -> None:
    _rate_lamps()
    first, second = lamps(32)[30:]
    rate(99, [{"role": "system", "content": "Be brief."}, *first, *second])
    assert prepare("feedback", tmp_path / "out").code == 0
    (row,) = [row for row in prepared(tmp_path / "out") if row["feedback"]["id"] == "answer-99"]
    assert [turn.get("weight") for turn in row["messages"]] == [None, None, 0, None, None]


def test_question_of_the_sample_s_test_split_is_left_out(tmp_path: Path) -> None:
    _rate_lamps()
    asked = [row["question"] for row in rows(ROOT / "data/sample/test.jsonl")[:3]]
    for number, question in enumerate(asked, 50):
        turns = [{"role": "user", "content": f" {question.upper()}"}]
        rate(number, [*turns, {"role": "assistant", "content": "Yes."}], correction="No, nine.")
    turns = [
        *lamps()[0],
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "."},
    ]
    turns[0] = {"role": "user", "content": asked[0]}
    rate(60, turns)
    done = prepare("feedback", tmp_path / "out")
    assert "left out: 4 with a question of the test split" in _note(done.err)
    assert len(prepared(tmp_path / "out")) == 24


def test_questions_that_every_evaluation_asks_are_left_out(tmp_path: Path) -> None:
    _rate_lamps()
    for number, file in enumerate(("general/questions", "safety/adversarial")):
        question = rows(ROOT / "data" / f"{file}.jsonl")[5]["question"]
        for place, asked in enumerate((question.lower(), f"Hello! {question} Thank you.")):
            rate(50 + 2 * number + place, _exchange(asked))
    told = _note(prepare("feedback", tmp_path / "out").err)
    what = "with a general or safety question, which every evaluation asks"
    assert f"24 found good; left out: 2 {what}, 2 nearly {what}" in told


NEARLY = {
    "What is the French word for Lynx?": [
        "what is the french word for lynx please",
        "Hi there!\n\nWhat is the French word for Lynx? Thanks a lot!",
        "Please, what is the French word for lynx",
    ],
    "Good morning, could you name a lamp?": ["Could you please name a lamp?"],
    "Now the desk lamp, please. Cheers!": ["Hello, now the desk lamp", "now the desk lamp please"],
}
OTHERS = {
    "What is the capital of Fance?": ["What is the capital of Spane?", "What is the capital?"],
    "What is the word for thanks?": ["What is the word for please?", "What is the word for hello?"],
    "Is it C++?": ["Is it C?", "Is it C#?"],
    "Hello!": ["Thanks!", "Hi"],
}


@pytest.mark.parametrize("is_tested", [True, False])
def test_question_that_differs_in_courtesies_alone_is_left_out(
    tmp_path: Path, is_tested: bool
) -> None:
    _rate_lamps()
    given = NEARLY if is_tested else OTHERS
    asked = [question for questions in given.values() for question in questions]
    for number, question in enumerate(asked, 50):
        rate(number, _exchange(question))
    test = write(tmp_path / "test.jsonl", *map(_exchange, given))
    told = _note(prepare("feedback", tmp_path / "out", test=test).err)
    left = f"24 found good; left out: {len(asked)} nearly with a question of the test split"
    assert told.endswith(left if is_tested else f"{24 + len(asked)} found good")


def test_split_that_was_there_stays_tested_also_nearly_so(tmp_path: Path) -> None:
    source = write(tmp_path / "mine.jsonl", *map(_exchange, (f"Is it {n}? Bye" for n in range(40))))
    assert prepare(source, tmp_path / "out").code == 0
    tested = [row["question"] for row in rows(tmp_path / "out" / "test_data.jsonl")]
    _rate_lamps()
    for number, question in enumerate(tested, 50):
        rate(number, _exchange(f"Hey, {question}, please"))
    for seed in (0, 1):
        told = _note(prepare("feedback", tmp_path / "out", seed=seed).err)
        assert f"left out: {len(tested)} nearly with a question of the test split" in told


@pytest.mark.skipif(os.name == "nt", reason="no modes there")
def test_prepared_feedback_is_private(tmp_path: Path) -> None:
    source, out = write(tmp_path / "mine.jsonl", *lamps(60)[30:], []), tmp_path / "out"
    _rate_lamps()
    assert prepare(f"[{source}, feedback]", out).code == 0
    for name in ("train_data.jsonl", "test_data.jsonl", "data.rejects.jsonl"):
        assert stat.S_IMODE((out / name).stat().st_mode) == 0o600


def test_unusable_turns_and_empty_answers_are_told(tmp_path: Path) -> None:
    _rate_lamps()
    answer = {"role": "assistant", "content": ""}
    rate(50, [{"role": "user", "content": "Well?"}, answer])
    rate(51, [{}, answer], correction="Nine.")  # of a hand that slipped
    rate(52, [{"role": "user"}, answer], correction="Nine.")
    done = prepare("feedback", tmp_path / "out")
    left = "left out: 1 with an empty answer, 1 lines that are no records"
    assert f"24 found good, 1 corrected; {left}" in _note(done.err)
    assert "rows=25 kept=24 rejected=1" in done.out


def test_question_of_data_test_is_left_out(tmp_path: Path) -> None:
    _rate_lamps()
    test = write(tmp_path / "test.jsonl", *lamps()[:5])
    done = prepare("feedback", tmp_path / "out", test=test)
    assert "19 found good; left out: 5 with a question of the test split" in _note(done.err)
    assert len(rows(tmp_path / "out" / "train_data.jsonl")) == 19
    assert len(rows(tmp_path / "out" / "test_data.jsonl")) == 5


def test_split_that_was_there_stays_tested(tmp_path: Path) -> None:
    source = write(tmp_path / "mine.jsonl", *lamps(40))
    assert prepare(source, tmp_path / "out").code == 0
    tested = {row["question"] for row in rows(tmp_path / "out" / "test_data.jsonl")}
    _rate_lamps(80)
    for seed in (0, 1):  # also when the files of that split are long gone
        done = prepare("feedback", tmp_path / "out", seed=seed)
        assert f"left out: {len(tested)} with a question of the test split" in _note(done.err)
        asked = {row["messages"][0]["content"] for row in prepared(tmp_path / "out")}
        assert not asked & tested


def test_feedback_beside_other_data(tmp_path: Path) -> None:
    source = write(tmp_path / "mine.jsonl", *lamps(12))
    for number, turns in enumerate(lamps(24)[12:]):
        rate(number, turns)
    done = prepare(f"[{source}, {{source: feedback, weight: 2}}]", tmp_path / "out")
    assert done.code == 0, done.err
    made = prepared(tmp_path / "out")
    assert {"copy_for_weight" in row for row in made if "feedback" in row} == {True, False}
    assert len({row["prompt_id"] for row in made}) == 24


def test_documented_command_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    _rate_lamps()
    lines = (ROOT / "data" / "README.md").read_text(encoding="utf-8").splitlines()
    (command,) = [line for line in lines if "source: feedback, weight" in line]
    start, *arguments = shlex.split(command.removeprefix("python -m "))
    assert start == "setup"
    done = run(*arguments, "--set", f"data.out={tmp_path / 'out'}")
    assert done.code == 0, done.err
    sample = rows(ROOT / "data/sample/test.jsonl")
    assert len(rows(tmp_path / "out" / "test_data.jsonl")) == len(sample)


def test_questions_of_other_data_stay_tested_beside_feedback(tmp_path: Path) -> None:
    source = write(tmp_path / "mine.jsonl", *lamps(40))
    rate(0, lamps(41)[40])
    both = f"[{source}, feedback]"
    assert prepare(both, tmp_path / "out").code == 0
    made = rows(tmp_path / "out" / "test_data.jsonl")
    tested = {row["question"] for row in made if not row.get("feedback")}
    assert tested
    for number, question in enumerate(sorted(tested), 50):
        greeting = [*lamps(60)[number][:1], {"role": "assistant", "content": "Hello."}]
        asked = {"role": "user", "content": question}
        rate(number, [*greeting, asked, {"role": "assistant", "content": "Nine."}])
    done = prepare(both, tmp_path / "out")
    assert f"left out: {len(tested)} with a question of the test split" in _note(done.err)


def test_answers_to_one_request_are_rated_each(tmp_path: Path) -> None:
    _rate_lamps()
    (question, answer), more = lamps(25)[24], {"id": "of-two", "conversation": "of-two"}
    rate(90, [question, answer], "up", **more)
    rate(91, [question, {"role": "assistant", "content": "Never."}], "down", **more)
    done = prepare("feedback", tmp_path / "out")
    assert "25 found good; left out: 1 found bad and not corrected" in _note(done.err)


def test_same_checks_as_for_other_rows(tmp_path: Path) -> None:
    _rate_lamps()
    rate(70, lamps()[5])  # once more, of another deployment
    secret = "My IBAN is DE89 3704 0044 0532 0130 00."
    rate(71, [{"role": "user", "content": secret}, {"role": "assistant", "content": "Noted."}])
    rate(72, [{"role": "user", "content": "Well?"}, {"role": "assistant", "content": " "}])
    done = prepare("feedback", tmp_path / "out", personal="mask")
    assert "rows=26 kept=25 rejected=1" in done.out
    assert "26 found good; left out: 1 with an empty answer" in _note(done.err)
    assert "3704 0044" not in json.dumps(prepared(tmp_path / "out"))
    listed = run("feedback")
    assert "3704 0044" not in listed.out
    assert max(map(len, listed.out.splitlines()[:-1])) <= 80


def test_ratings_that_come_later_are_said_and_stop_nothing(tmp_path: Path) -> None:
    _rate_lamps()
    assert prepare("feedback", tmp_path / "out").code == 0
    rate(80, lamps(90)[80])
    given = options(source="feedback", out=tmp_path / "out")
    done = run("finetune", *given, "--dry-run")
    assert done.code == 0, done.err
    assert "feedback has come or gone since" in done.out
    assert "rows=25" in prepare("feedback", tmp_path / "out").out


def test_nothing_to_learn_from_is_one_line(tmp_path: Path) -> None:
    refusal = prepare("feedback", tmp_path / "out").error
    assert "no answer to learn from" in refusal
    assert "python -m setup compare" in refusal
    rate(0, lamps()[0], "down")
    assert "1 found bad and not corrected" in prepare("feedback", tmp_path / "out").error
    refusal = prepare(write(tmp_path / "m.jsonl", *lamps()), tmp_path / "o", test="feedback").error
    assert "data.test is feedback" in refusal


@pytest.mark.timeout(600)  # a deployment and a training, on a machine that does much else
def test_fifty_chats_become_rows_and_are_trained_on(
    make_home: MakeHome, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = make_tiny_llama(tmp_path_factory.mktemp("tiny"))
    own = [f"model.source={model}", "model.precision=keep", f"model.context_window={CONTEXT}"]
    home = make_home(*own, "endpoint.version=none", "endpoint.collect=feedback")
    assert home.setup("deploy").returncode == 0
    for number, (question, wanted) in enumerate(lamps(50)):
        chat = ask_openai(question["content"], max_tokens=3)
        reply = home.call("/v1/chat/completions", chat).json()
        answer = reply["choices"][0]["message"]["content"]
        said: dict[str, Any] = {"rating": "up"} if number % 5 else {"rating": "down"}
        said |= {"correction": wanted["content"]} if number % 2 else {}
        sent = {"id": reply["id"], "conversation_id": f"page-{number}", "deployment": "base"}
        kept = home.call("/feedback", {**sent, "messages": [question], "answer": answer, **said})
        assert kept.status_code == 200, kept.text
    given = ["--set", "data.source=feedback", "--set", f"data.out={tmp_path / 'out'}"]
    done = home.setup("data", *given)
    assert done.returncode == 0, done.stderr
    assert "25 corrected" in done.stderr
    assert "left out: 5 found bad and not corrected" in done.stderr
    short = ["finetune.epochs=0.5", "finetune.held_out_rows=4", "finetune.max_tokens=256"]
    short += ["finetune.batch_rows=8", "finetune.layers=1", "finetune.rank=2"]
    done = home.setup("finetune", *given, *(part for value in short for part in ("--set", value)))
    assert done.returncode == 0, done.stderr
    assert "feedback" in done.stdout
