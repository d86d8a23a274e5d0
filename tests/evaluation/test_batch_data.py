"""Files as people have them, through ``python -m evaluation.batch``: asked rightly, or refused."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from tests.evaluation.chat import ChatServer
from tests.evaluation.conftest import Machine, connect, failed
from tests.evaluation.test_batch_command import COLUMNS, FLOW, create, pf_client

HI = '{"question": "Hi"}\n{"question": "Ho"}\n'
OBJECTS = HI.replace("{", "{\n")
ARRAY = '[{"question": "Hi"},\n {"question": "Ho"}]'


def _utf(text: str, encoding: str, mark: bytes) -> bytes:
    return mark + text.encode(encoding)


ASKED: dict[str, tuple[str, bytes, str]] = {
    "plain": ("a.jsonl", HI.encode(), ""),
    "BOM": ("a.jsonl", codecs.BOM_UTF8 + HI.encode(), "UTF-8 with a byte order mark"),
    "UTF-16": ("a.jsonl", HI.encode("utf-16"), "UTF-16 with a byte order mark"),
    "UTF-16 BE": ("a.jsonl", _utf(HI, "utf-16-be", codecs.BOM_UTF16_BE), "UTF-16 with"),
    "UTF-16 without a mark": ("a.jsonl", HI.encode("utf-16-le"), "UTF-16LE without"),
    "UTF-32": ("a.jsonl", HI.encode("utf-32"), "UTF-32 with a byte order mark"),
    "CRLF": ("a.jsonl", HI.replace("\n", "\r\n").encode(), ""),
    "some lines of a Mac": ("a.jsonl", HI.replace("\n", "\r", 1).encode(), "in lines that end in"),
    "old Mac": ("a.jsonl", HI.replace("\n", "\r").encode(), "in lines that end in CR"),
    "empty lines": ("a.jsonl", b"\n\n" + HI.replace("\n", "\n \n\t\n").encode(), ""),
    "no last line end": ("a.jsonl", HI.rstrip().encode(), ""),
    "array": ("a.json", ARRAY.encode(), ""),
    "array in .jsonl": ("a.jsonl", ARRAY.encode(), "one JSON array"),
    "array with a BOM": ("a.json", codecs.BOM_UTF8 + ARRAY.encode(), "UTF-8 with"),
    "lines in .json": ("a.json", HI.encode(), "JSON lines"),
    "objects over lines": ("a.jsonl", OBJECTS.encode(), "JSON objects over several lines"),
    "no suffix": ("rows", codecs.BOM_UTF8 + HI.encode(), "UTF-8 with"),
    "CSV with a BOM": ("a.csv", codecs.BOM_UTF8 + b"question\r\nHi\r\nHo\r\n", ""),
}


@pytest.mark.parametrize("case", ASKED)
def test_asked(
    machine: Machine, chat: ChatServer, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    connect("phi", chat)
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(machine.home))
    name, content, told = ASKED[case]
    data = machine.home / name
    data.write_bytes(content)
    done = create("--flow", FLOW, "--data", str(data), *COLUMNS)
    assert done.returncode == 0, done.stderr
    assert chat.asked == {"Hi": 1, "Ho": 1}
    assert "n=2 ok=2" in done.stdout
    lines = [line for line in done.stderr.splitlines() if "asked from the copy" in line]
    assert [line.startswith(f"{data} is {told}") for line in lines] == ([True] if told else [])
    assert data.read_bytes() == content


def test_a_run_over_a_copy_can_be_resumed(
    machine: Machine, chat: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect("phi", chat)
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(machine.home))
    chat.failing = {"Ho"}
    data = machine.home / "a.jsonl"
    data.write_bytes(codecs.BOM_UTF8 + HI.encode())
    done = create("--flow", FLOW, "--data", str(data), *COLUMNS, "--name", "half")
    assert "pf run create --resume-from half runs those lines again" in done.stderr
    chat.failing = set()
    client = pf_client()
    resumed = client.run(resume_from="half")
    assert list(client.get_details(resumed)["outputs.answer"]) == [
        "An answer to: Hi",
        "An answer to: Ho",
    ]


def test_another_run_of_the_name_leaves_the_copy_alone(
    machine: Machine, chat: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect("phi", chat)
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(machine.home))
    data = machine.home / "a.jsonl"
    data.write_bytes(codecs.BOM_UTF8 + HI.encode())
    command = ("--flow", FLOW, "--data", str(data), *COLUMNS, "--name", "twice")
    assert create(*command).returncode == 0
    copy = Path(pf_client().runs.get("twice").data)
    before = copy.read_bytes()
    data.write_bytes(codecs.BOM_UTF8 + b'{"question": "Other"}\n')
    assert "Run 'twice' already exists" in create(*command).stderr
    assert copy.read_bytes() == before


def test_values_arrive_as_they_are(machine: Machine, chat: ChatServer) -> None:
    """pandas makes a date of a column called so, and a float of a large number."""
    connect("phi", chat)
    texts = ["2024-01-01", "1700000000", "12345678901234567890", "a\u2028b", "1e5", "007"]
    for column in ("date", "asked_at", "modified", "timestamp_of_it"):
        data = machine.data([{column: text} for text in texts])
        mapping = f"question=${{data.{column}}}"
        done = create("--flow", FLOW, "--data", str(data), "--column-mapping", mapping)
        assert done.returncode == 0, done.stderr
    assert chat.asked == dict.fromkeys(texts, 4)


def _lines(*lines: str) -> bytes:
    return "\n".join(lines).encode()


REFUSED: dict[str, tuple[str, bytes, str]] = {
    "no JSON": ("a.jsonl", _lines('{"question": "Hi"}', "", '{"question": '), "a.jsonl:3 is not"),
    "no object": ("a.jsonl", _lines('"Hi"'), "a.jsonl:1 is not a JSON object"),
    "Latin-1": ("a.jsonl", '{"question": "café"}'.encode("latin-1"), "is not UTF-8"),
    "UTF-16 cut": ("a.jsonl", HI.encode("utf-16")[:-1], "is not whole as UTF-16"),
    "array of texts": ("a.json", b'["Hi"]', "entry 1 of the array in "),
    "broken array": ("a.json", b'[{"question": "Hi"},', "a.json:1 is not valid JSON"),
    "one object": ("a.json", b'{"question": ["Hi", "Ho"]}', "is one JSON object, not an array"),
    "missing": ("a.jsonl", _lines('{"question": "Hi"}', '{"text": "Ho"}'), "a.jsonl:2 has no col"),
    "missing in array": ("a.json", b'[{"text": "Hi"}]', "entry 1 of the array in"),
    "CSV in UTF-16": ("a.csv", "question\nHi\n".encode("utf-16"), "a.csv is UTF-16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(machine: Machine, chat: ChatServer, case: str) -> None:
    connect("phi", chat)
    name, content, says = REFUSED[case]
    data = machine.home / name
    data.write_bytes(content)
    line = failed(create("--flow", FLOW, "--data", str(data), *COLUMNS))
    assert says in line
    assert "Fix: " in line
    assert not chat.asked


@pytest.mark.parametrize(
    ("mapping", "more", "says"),
    [
        ("usage=${run.nodes.usage}", [], "without a run to evaluate"),
        ("usage=${run.nodes.nobody}", ["--run", "asked-for-nodes"], "no record of a node nobody"),
        ("usage=${run.nodes.usage}", ["--run", "no-such-run"], "run no-such-run: "),
    ],
)
def test_nodes_that_are_not_there(
    machine: Machine, chat: ChatServer, mapping: str, more: list[str], says: str
) -> None:
    connect("phi", chat)
    data = str(machine.data([{"question": "Hi", "answer": "Hi"}]))
    create("--flow", FLOW, "--data", data, *COLUMNS, "--name", "asked-for-nodes")
    flow = str(Path(FLOW).parent / "evaluate_answers")
    given = ["--flow", flow, "--data", data, "--column-mapping", "answer=${data.answer}", mapping]
    assert says in failed(create(*given, *more))


@pytest.mark.parametrize("with_data", [True, False])
def test_the_record_of_a_run_with_a_failed_line(
    machine: Machine,
    chat: ChatServer,
    monkeypatch: pytest.MonkeyPatch,
    with_data: bool,
) -> None:
    connect("phi", chat)
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(machine.home))
    chat.failing = {"b"}
    name = f"costly-{with_data}"
    data = str(machine.data([{"question": text} for text in "abc"]))
    create("--flow", FLOW, "--data", data, *COLUMNS, "--name", name, "--max-error-rate", "1")
    flow = str(Path(FLOW).parent / "evaluate_answers")
    given = ["--flow", flow, "--run", name, "--column-mapping", "answer=${run.outputs.answer}"]
    more = ["--data", data] if with_data else []
    done = create(*given, "usage=${run.nodes.usage}", *more, "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert (metrics["lines"], metrics["completion_tokens"]) == (2, 3)
    assert metrics["latency_seconds"] > 0
