"""What the endpoint keeps of conversations: nothing unless asked, and then every word, once."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from filelock import FileLock

from setup.common import feedback_file
from tests.conftest import MakeHome
from tests.home import ROOT, Home, ask, ask_openai, failed, run_module
from tests.tiny import CONTEXT, make_tiny_llama

CHAT = "/v1/chat/completions"
METRICS = ("/metrics", None, "GET")
SETS = ("model.precision=keep", f"model.context_window={CONTEXT}", "endpoint.version=none")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that answers nonsense at once."""
    return f"model.source={make_tiny_llama(tmp_path_factory.mktemp('tiny'))}"


def started(make_home: MakeHome, *sets: str) -> tuple[Home, str]:
    """An endpoint with values of its own, and what was said when it started."""
    home = make_home(*SETS, *sets)
    done = home.setup("deploy")
    assert done.returncode == 0, done.stderr
    return home, done.stdout


def kept(home: Home) -> list[dict[str, Any]]:
    """The lines of the feedback file."""
    file = home.path / "feedback" / "feedback.jsonl"
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def rating(answer: str = "Nine euros.", **more: Any) -> dict[str, Any]:
    """What the page says of an answer."""
    asked = [{"role": "user", "content": "What does the lamp cost?"}]
    return {
        **{"id": "chatcmpl-1", "conversation_id": "page-1", "deployment": "base"},
        **{"messages": asked, "answer": answer, "rating": "up"},
    } | more


def test_nothing_is_kept_by_default(make_home: MakeHome, tiny: str) -> None:
    home, told = started(make_home, tiny)
    assert "kept" not in told
    home.call("/score", ask("Hi"))
    home.call(CHAT, ask_openai("Hi", stream=True, metadata={"conversation_id": "page-1"}))
    assert home.call("/feedback", None, "GET").json() == {"collect": "none"}
    refusal = home.call("/feedback", rating())
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (403, "not_collected")
    assert "--set endpoint.collect=feedback" in refusal.json()["error"]["message"]
    assert not (home.path / "feedback").exists()
    line = failed(home.setup("deploy", "--set", "endpoint.collect=feedback"))
    assert "collect none, not feedback" in line
    assert "python -m setup stop" in line


@pytest.fixture(scope="module")
def rated(make_home: MakeHome, tiny: str) -> tuple[Home, str]:
    """An endpoint that keeps answers that are rated."""
    return started(make_home, tiny, "endpoint.collect=feedback")


def test_ratings_alone_are_kept(rated: tuple[Home, str]) -> None:
    home, told = rated
    file = home.path / "feedback" / "feedback.jsonl"
    assert f"rated answers are kept in {file}" in told
    home.call("/score", ask("Hi"))
    assert kept(home) == []
    reply = home.call("/feedback", rating(comment="  ja 👍\u2028", correction="Ten."))
    assert reply.json() == {"kept": True, "id": "chatcmpl-1"}
    (line,) = kept(home)
    expected = rating(comment="  ja 👍\u2028", correction="Ten.")
    expected["conversation"] = expected.pop("conversation_id")
    assert expected.items() <= line.items()
    assert line["kind"] == "feedback"
    assert line["model"] == "llama.gguf"
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert "collects feedback" in home.setup("status").stdout
    (log,) = [line for line in home.log() if line["message"] == "collecting"]
    assert log["collect"] == "feedback"
    assert "Nine euros" not in json.dumps(home.log())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rating": "sideways"}, "rating"),
        ({"id": "two words"}, "id"),
        ({"conversation_id": "../x"}, "conversation_id"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "messages"),
        ({"deployment": "No Name"}, "deployment"),
        ({"colour": "red"}, "colour"),
        ({"comment": "x" * 10_001}, "comment"),
    ],
)
def test_what_is_no_rating_is_refused(
    rated: tuple[Home, str], change: dict[str, Any], named: str
) -> None:
    home, _ = rated
    reply = home.call("/feedback", rating(**change))
    assert reply.status_code == 400
    assert reply.json()["error"]["param"].startswith(named)


def test_conversations_are_kept_whole_until_the_file_is_full(
    make_home: MakeHome, tiny: str
) -> None:
    limit = "endpoint.collect_limit=4096"
    home, told = started(make_home, tiny, "endpoint.collect=conversations", limit)
    assert "all conversations and ratings are kept in" in told
    scored = home.call("/score", ask("Hi", max_new_tokens=4)).json()
    named = {"metadata": {"conversation_id": "mine-1"}}
    reply = home.call(CHAT, ask_openai("Grüße 東京", stream=True, max_tokens=6, **named)).content
    events = [json.loads(line[6:]) for line in reply.splitlines() if line.startswith(b"data: {")]
    pieces = [event["choices"][0]["delta"] for event in events if event["choices"]]
    streamed = "".join(piece.get("content") or "" for piece in pieces)
    first, second = kept(home)
    assert (first["id"], first["answer"]) == (scored["id"], scored["output"])
    assert (second["conversation"], second["answer"]) == ("mine-1", streamed)
    assert second["messages"] == [{"role": "user", "content": "Grüße 東京"}]
    assert second["finish_reason"] == "length"
    assert second["id"] == events[0]["id"]
    refusal = home.call(CHAT, ask_openai("Hi", metadata={"conversation_id": "no spaces"}))
    assert refusal.status_code == 400
    assert refusal.json()["error"]["param"] == "metadata.conversation_id"
    assert len(kept(home)) == 2

    # A client without ids goes on with all that was said before: it is one conversation.
    history = [*first["messages"], {"role": "assistant", "content": first["answer"]}]
    later = {"messages": [*history, {"role": "user", "content": "And?"}], "max_tokens": 3}
    assert home.call(CHAT, later).status_code == 200
    listed = json.loads(home.run("-m", "setup", "feedback", "--json").stdout)["conversations"]
    assert [conversation["id"] for conversation in listed] == [first["id"], "mine-1"]
    gone = home.run("-m", "setup", "feedback", "--delete", first["id"])
    assert f"conversation {first['id']} is gone, 2 lines" in gone.stdout
    assert [line["conversation"] for line in kept(home)] == ["mine-1"]
    if os.name == "posix":
        file = home.path / "feedback" / "feedback.jsonl"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    refusal = failed(home.run("-m", "setup", "feedback", "--delete", first["id"]))
    assert "no conversation" in refusal
    assert "python -m setup feedback" in refusal
    _see_full(home)


def _see_full(home: Home) -> None:
    """Nothing more is kept, which is said; answers come all the same."""
    for _ in range(12):
        assert home.call("/score", ask("Hi", max_new_tokens=2)).status_code == 200
    file = home.path / "feedback" / "feedback.jsonl"
    before = file.read_bytes()
    assert len(before) <= 4096
    refusal = home.call("/feedback", rating("x" * 500))
    assert refusal.status_code == 507
    assert "4,096 bytes" in refusal.json()["error"]["message"]
    assert home.call("/feedback", None, "GET").json()["full"] is True
    assert file.read_bytes() == before
    assert len([line for line in home.log() if "not kept" in line["message"]]) == 1
    assert 'endpoint_collected_total{result="full"}' in home.call("/metrics", None, "GET").text
    assert "and what came last had no room" in home.setup("status").stdout
    file.write_bytes(before + b"\n" * 4096)
    assert "of 4,096 bytes, and nothing more is kept" in home.setup("status").stdout


def test_busy_file_keeps_no_slot_from_others(make_home: MakeHome, tiny: str) -> None:
    keeps = ("endpoint.collect=conversations", "endpoint.slots=1", "endpoint.queue=4")
    home, _ = started(make_home, tiny, *keeps)
    body = ask_openai("Hi", max_tokens=2)
    with ThreadPoolExecutor(3) as pool, FileLock(home.path / "feedback" / "feedback.lock"):
        answers = [pool.submit(home.call, CHAT, body) for _ in range(3)]
        deadline = time.monotonic() + 4  # less than what one of them waits for the file
        while 'queue_seconds_count{deployment="base"} 3.0' not in home.call(*METRICS).text:
            assert time.monotonic() < deadline, "an answer that is not kept yet holds the slot"
            time.sleep(0.05)
        assert kept(home) == []
    assert [answer.result().status_code for answer in answers] == [200, 200, 200]
    assert len(kept(home)) == 3


def test_answer_is_kept_of_who_hangs_up_after_its_last_event(
    make_home: MakeHome, tiny: str
) -> None:
    home, _ = started(make_home, tiny, "endpoint.collect=conversations")
    body = ask_openai("Hi", max_tokens=4, n=2, stream=True)
    with FileLock(home.path / "feedback" / "feedback.lock"):
        key = {"Authorization": f"Bearer {home.key('scoring')}"}
        url = home.url + CHAT
        with requests.post(url, json=body, headers=key, timeout=60, stream=True) as reply:
            assert b"data: [DONE]" in reply.iter_lines(chunk_size=1)
    deadline = time.monotonic() + 10
    while len(kept(home)) < 2:
        assert time.monotonic() < deadline, kept(home)
        time.sleep(0.05)


_APPEND = """
import sys
from setup.common import feedback_file
for number in range(40):
    name = f"{sys.argv[1]}-{number}"
    record = {"kind": "answer", "conversation": name, "id": name, "answer": "x" * 5000}
    feedback_file.append({**record, "messages": [{"role": "user", "content": "Hi"}]}, 10**8)
"""


def test_several_processes_append_whole_lines(tmp_path: Path) -> None:
    env = os.environ | {"FINETUNE_PHI_HOME": str(tmp_path)}
    file = tmp_path / "feedback" / "feedback.jsonl"
    file.parent.mkdir()
    file.write_text('{"kind": "answer", "conv')  # of one that was killed while it wrote
    commands = [[sys.executable, "-c", _APPEND, name] for name in "abcd"]
    writers = [subprocess.Popen(command, cwd=ROOT, env=env) for command in commands]
    assert [writer.wait(timeout=120) for writer in writers] == [0] * 4
    broken, *lines = file.read_text().splitlines()
    assert broken == '{"kind": "answer", "conv'
    names = {json.loads(line)["id"] for line in lines}
    assert (len(lines), len(names)) == (160, 160)
    listed = run_module(tmp_path, "setup", "feedback")
    assert "160 conversations" in listed.stdout
    assert "1 of its lines are no records" in listed.stderr


def _keep(name: str, *said: str, kind: str = "answer", conversation: str = "") -> None:
    """Keep the last of ``said``, the turns of both in turn, as the answer ``name``."""
    roles = ("user", "assistant") * len(said)
    turns = [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
    record = {"kind": kind, "id": name, "conversation": conversation, "messages": turns[:-1]}
    feedback_file.append({**record, "answer": said[-1]}, 10**6)


def _kept() -> str:
    path = feedback_file.feedback_path()
    return path.read_text() if path.exists() else ""


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize("asks", ["a1", "b1"])
def test_people_who_begin_alike_are_not_mixed_and_nothing_of_who_asks_stays(asks: str) -> None:
    _keep("a1", "Hi", "Hello!")
    _keep("b1", "Hi", "Hello! ")
    _keep("a2", "Hi", "Hello!", "I am Ann, my card is 4111", "Noted.")
    _keep("a3", "Hi", "Hello!", "I am Ann, my card is 4111", "Noted.", "Thanks", "Bye.")
    _keep("c1", "Good day", "Hello!", conversation="of-c")
    names = [name for _, name in feedback_file.conversation_ids()]
    assert names == ["a1", "b1", "a2", "a2", "of-c"]
    assert feedback_file.delete(asks) == 3
    assert "4111" not in _kept()
    assert "of-c" in _kept()


@pytest.mark.usefixtures("own_home")
def test_rating_that_names_a_conversation_names_its_answer() -> None:
    _keep("d1", "My door code is 77", "Noted. ")
    _keep("d1", "My door code is 77", "Noted. ", kind="feedback", conversation="mine")
    _keep("d2", "My door code is 77", "Noted.", "And?", "Nothing.")
    assert feedback_file.delete("mine") == 3
    assert _kept() == ""
