"""``python -m setup feedback``: what it lists and deletes of a file that hands and crashes mark."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from setup.common.feedback_file import append, feedback_path
from tests.setup.command import run


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(tmp_path / "home"))


def record(name: str, question: str, answer: str = "Noted.", **more: Any) -> dict[str, Any]:
    """An answer of conversation ``name``, as the endpoint keeps it."""
    asked = {"messages": [{"role": "user", "content": question}], "answer": answer}
    return {"kind": "answer", "conversation": name, "id": f"of-{name}", **asked} | more


def keep(name: str, question: str, **more: Any) -> None:
    append(record(name, question, **more), 10**6)


def add(*lines: str) -> None:
    """Add lines to the file as they are."""
    with feedback_path().open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


def left() -> list[str]:
    return feedback_path().read_text(encoding="utf-8").splitlines()


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_delete_follows_a_link_to_the_file(tmp_path: Path) -> None:
    keep("mine", "My door code is 77")
    keep("other", "Hi")
    real = tmp_path / "elsewhere" / "kept.jsonl"
    real.parent.mkdir()
    feedback_path().rename(real)
    feedback_path().symlink_to(real)
    assert "1 line" in run("feedback", "--delete", "mine").out
    assert feedback_path().is_symlink()
    assert [json.loads(line)["conversation"] for line in real.read_text().splitlines()] == ["other"]
    assert [path.name for path in real.parent.iterdir()] == ["kept.jsonl"]


def test_delete_takes_cut_lines_of_the_conversation_and_names_the_others() -> None:
    keep("mine", "My door code is »77«", answer="I have noted your door code.")
    keep("mine-2", "What does the lamp cost?", answer="Nine.")
    whole = json.dumps(record("mine", "And my card is 4111"))
    cut = [
        whole[: whole.index("4111") + 2],
        '{"kind": "answer", "conversation": "", "id": "of-mine", "mess',
        json.dumps(record("", "My door code is »77«"))[:-3],  # its id is another one
        json.dumps(record("", "No", answer=" I have noted your door code.\n"))[:-2],
    ]
    spared = [
        json.dumps(record("mine-2", "The lamp, by mine: of-mine"))[:-1] + ",}",
        json.dumps(record("", "Is »My door code is »77«« a good sentence?"))[:-1],
        '{"kind": "answer", "conversation": "mine',
        json.dumps(record("of-mine.b", "mine"))[:-1],
        json.dumps({"note": "no record"}),
    ]
    add(*cut, *spared)
    done = run("feedback", "--delete", "mine")
    assert "conversation mine is gone, 5 lines" in done.out
    assert left()[1:] == spared
    (told,) = [line for line in done.err.splitlines() if str(feedback_path()) in line]
    assert told.startswith(f"5 lines of {feedback_path()} cannot be read and may hold some of it")


def test_delete_of_a_conversation_with_cut_lines_alone() -> None:
    keep("other", "Hi")
    add('{"kind": "answer", "conversation": "mine", "id": "x", "messages": [{"role": "us')
    assert "1 of its lines" in run("feedback").err
    assert "1 line of" in run("feedback", "--delete", "none").error
    done = run("feedback", "--delete", "mine", "--json")
    assert json.loads(done.out) == {"ok": True, "deleted": "mine", "lines": 1, "unread_lines": 0}
    assert len(left()) == 1


def test_delete_names_no_other_lines_where_there_are_none() -> None:
    keep("mine", "Hi")
    assert "cannot be read" not in run("feedback", "--delete", "mine").err


@pytest.mark.parametrize("arguments", [[], ["--delete", "mine"]])
@pytest.mark.parametrize("in_place", ["file", "folder"])
def test_file_that_cannot_be_read_is_one_line(in_place: str, arguments: list[str]) -> None:
    path = feedback_path()
    if in_place == "file":
        path.mkdir(parents=True)
    else:
        path.parent.parent.mkdir()
        path.parent.touch()
    line = run("feedback", *arguments).error
    assert str(path) in line
    assert "Fix: move " in line


@pytest.mark.parametrize("turn", [{}, {"role": 1, "content": "Hi"}, {"content": "Hi"}])
def test_turn_without_a_role_is_no_record(turn: dict[str, Any]) -> None:
    keep("other", "Hi")
    add(json.dumps(record("mine", "Hi", messages=[turn])))
    done = run("feedback")
    assert "1 conversation in" in done.out
    assert "1 of its lines are no records" in done.err


def test_corrections_that_change_nothing_are_not_listed_as_such() -> None:
    for name, said in (("a", "  \n"), ("b", " Noted. "), ("c", "Ask Ada.")):
        keep(name, "Hi", kind="feedback", rating="down", correction=said, time="2026")
    ratings = [one["ratings"] for one in json.loads(run("feedback", "--json").out)["conversations"]]
    assert ratings == [["down"], ["down"], ["corrected"]]


@pytest.mark.skipif(os.name == "nt", reason="no modes there")
def test_folder_that_others_could_read_is_made_private() -> None:
    folder = feedback_path().parent
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    keep("mine", "Hi")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
