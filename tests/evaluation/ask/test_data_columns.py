"""Data as people have it: other names, tables, arrays, conversations; and what is refused."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from evaluation.ask.columns import parse_mapping
from evaluation.ask.rows_in import RunData, read_data
from setup.common.errors import FixableError
from tests.evaluation.chat import ChatServer
from tests.evaluation.conftest import Machine, failed

READ = ("question", "ground_truth", "facts", "must_decline", "chat_history")
TURN = {"inputs": {"question": "Hi"}, "outputs": {"answer": "Hello."}}


def read(folder: Path, name: str, content: str | bytes, *mapping: str) -> RunData:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_data(path, mapping=parse_mapping(mapping))


def said(found: RunData) -> list[dict[str, Any]]:
    """The rows without what is empty."""
    return [
        {name: row[name] for name in READ if row[name] not in ("", [], None)} for row in found.rows
    ]


def refusal(folder: Path, name: str, content: str | bytes, *mapping: str) -> str:
    with pytest.raises(FixableError) as refused:
        read(folder, name, content, *mapping)
    line = str(refused.value)
    assert "\n" not in line
    assert " Fix: " in line
    return line


def messages(*turns: Any) -> list[dict[str, Any]]:
    """Turns by user and assistant in turn; a pair is (role, content)."""
    roles = ("user", "assistant")
    pairs = [t if isinstance(t, tuple) else (roles[n % 2], t) for n, t in enumerate(turns)]
    return [{"role": role, "content": content} for role, content in pairs]


A_TO_B = [{"question": "a", "ground_truth": "b"}]
SEEN: list[tuple[str, str | bytes, list[dict[str, Any]]]] = [
    ("comma.csv", "question,ground_truth\na,b\n", A_TO_B),
    ("bom.csv", b"\xef\xbb\xbfquestion,ground_truth\r\na,b\r\n\r\n", A_TO_B),
    ("semicolon.csv", "question;ground_truth\na;b\n", A_TO_B),
    ("tab.csv", "question\tground_truth\na\tb\n", A_TO_B),
    ("tab.tsv", "id\tquestion\tground_truth\n7\ta\tb\n", A_TO_B),
    ("mac.csv", "question,ground_truth\ra,b\r", A_TO_B),
    (
        "quoted.csv",
        'question,ground_truth\n"How much, and\nwhy?","He said ""3"""\n',
        [{"question": "How much, and\nwhy?", "ground_truth": 'He said "3"'}],
    ),
    (
        "types.csv",
        'question,facts,must_decline,chat_history\na,"[""9 months""]",TRUE,[]\nb,,false,\n',
        [
            {"question": "a", "facts": ["9 months"], "must_decline": True},
            {"question": "b", "must_decline": False},
        ],
    ),
    ("number.csv", "question,ground_truth\na,300\n", [{"question": "a", "ground_truth": "300"}]),
    ("array.json", json.dumps(A_TO_B, indent=1), A_TO_B),
    ("array.jsonl", json.dumps(A_TO_B), A_TO_B),
    ("utf16.jsonl", json.dumps(A_TO_B[0]).encode("utf-16"), A_TO_B),
    ("mac.jsonl", "\r".join([json.dumps(A_TO_B[0])] * 2), A_TO_B * 2),
    ("spread.jsonl", "\n".join([json.dumps(A_TO_B[0], indent=1)] * 2), A_TO_B * 2),
    ("after_blanks.json", "\n \n" + json.dumps(A_TO_B, indent=1), A_TO_B),
    ("one.json", json.dumps(A_TO_B[0], indent=2), A_TO_B),
    ("list.jsonl", '{"question": "a", "ground_truth": ["b"]}', A_TO_B),
    ("empty.jsonl", '{"question": "a", "ground_truth": []}', [{"question": "a"}]),
    (
        "number.jsonl",
        '{"question": "a", "ground_truth": 300000000000000000001}\n'
        '{"question": "a", "ground_truth": 2.5}',
        [
            {"question": "a", "ground_truth": "300000000000000000001"},
            {"question": "a", "ground_truth": "2.5"},
        ],
    ),
    (
        "messages.jsonl",
        json.dumps({"messages": messages("Hi", "Hello.", "a", "b")}),
        [*({"question": "a", "ground_truth": "b", "chat_history": [TURN]},)],
    ),
    (
        "asked.jsonl",
        json.dumps({"messages": messages("Hi", "Hello.", "a"), "ground_truth": "b"}),
        [*({"question": "a", "ground_truth": "b", "chat_history": [TURN]},)],
    ),
    (
        "parts.json",
        json.dumps([{"messages": messages([{"type": "text", "text": "a"}], "b")}]),
        A_TO_B,
    ),
    ("both.jsonl", json.dumps(A_TO_B[0] | {"messages": messages("x", "y")}), A_TO_B),
]


@pytest.mark.parametrize(("name", "content", "rows"), SEEN, ids=[name for name, *_ in SEEN])
def test_files_that_are_read(
    tmp_path: Path, name: str, content: str | bytes, rows: list[dict[str, Any]]
) -> None:
    found = read(tmp_path, name, content)
    assert (said(found), found.notes) == (rows, ())


REFUSED: list[tuple[str, str | bytes, str]] = [
    ("ragged.csv", "question,ground_truth\na,b\nc,d,e\n", ":3 has 3 cells, the header has 2"),
    ("short.csv", "question,ground_truth\na\n", ":2 has 1 cell, the header has 2"),
    ("twice.csv", "question,question\na,b\n", "column question stands twice in the header"),
    ("quote.csv", 'question\n"a "b" c"\n', ":2 is not CSV"),
    ("empty.csv", "", "has no rows"),
    ("header.csv", "question,ground_truth\n", "has no rows"),
    ("blank.csv", "question,ground_truth\n,b\n", ":2: column question is missing in this row"),
    ("facts.csv", "question,facts\na,9 months\n", ":2: column facts is not JSON: '9 months'"),
    ("decline.csv", "question,must_decline\na,maybe\n", "must_decline is not true or false"),
    ("utf16.csv", "question\na\n".encode("utf-16"), "is UTF-16. Fix: iconv -f UTF-16 -t UTF-8"),
    ("sheet.xlsx", b"PK\x03\x04...", "is a zip or Excel file. Fix: save it as CSV"),
    ("rows.parquet", b"PAR1...", "is Parquet. Fix: python -c"),
    ("array.json", '[{"question": "a"},\n {"question": }]', ":2 is not valid JSON"),
    ("wrapped.json", '{"rows": [{"question": "a"}], "n": 1}', "is one object with rows, n"),
    ("tools.jsonl", json.dumps({"messages": messages("a", None)}), "(assistant) has no text"),
    ("tool.jsonl", json.dumps({"messages": messages("a", ("tool", "b"))}), "are user, tool"),
    ("first.jsonl", json.dumps({"messages": messages(("assistant", "b"))}), "are assistant"),
    ("table.jsonl", "question,ground_truth\na,b\n", ":1 is not valid JSON"),
    ("comma.json", '[{"question": "a"},\n]', "Fix: delete the last comma, in line 1, column 19"),
    (
        "latin.json",
        '[{"question": "café"}]'.encode("latin-1"),
        "latin.json:1 is not UTF-8 (byte 19 of the line is 0xE9). Fix: save",
    ),
    ("latin.jsonl", '{"question": "café"}'.encode("latin-1"), ":1 is not UTF-8"),
    ("texts.json", '[{"question": "a"}, "b"]', "entry 2 of the array in "),
]


@pytest.mark.parametrize(("name", "content", "says"), REFUSED, ids=[name for name, *_ in REFUSED])
def test_files_that_are_refused_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, says: str
) -> None:
    line = refusal(tmp_path, name, content)
    assert says in line
    assert str(tmp_path / name) in line


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ({"query": "a", "ground_truth": "b"}, A_TO_B),
        ({"Query": "a", "Expected Answer": "b"}, A_TO_B),
        ({"prompt": "a", "ideal": ["b"]}, A_TO_B),
        ({"input": messages("a"), "ideal": "b"}, A_TO_B),
    ],
)
def test_the_fix_of_a_missing_question_reads_the_file(
    tmp_path: Path, columns: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    content = json.dumps(columns)
    line = refusal(tmp_path, "theirs.jsonl", content)
    assert f"column question is missing; the file has {', '.join(columns)}" in line
    option = re.search(r"Fix: the same command with --column-mapping (.*)$", line)
    assert option
    assert said(read(tmp_path, "theirs.jsonl", content, *shlex.split(option[1]))) == rows


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ("question=${data.quary}", "no column quary; it has query, answer"),
        ("question=query", "question=query gives every row the same text"),
        ("question=hello", "question=hello gives every row the same text"),
        ("question=", "'question=' has no value"),
        ("questoin=${data.query}", "no column 'questoin' is read"),
        ("question=${run.outputs.answer}", "${run.outputs.answer} is no column of the data"),
        ("question=${data.query", "${data.query is no column of the data"),
        ("question=${data.query[0]}", "no column query[0]"),
    ],
)
def test_a_mapping_to_nothing_is_refused_with_the_likely_one(
    tmp_path: Path, mapping: str, says: str
) -> None:
    line = refusal(tmp_path, "theirs.jsonl", '{"query": "a", "answer": "b"}', mapping)
    assert says in line
    likely = (
        "hello" not in mapping and mapping.count("{run") + mapping.endswith(("=", "query")) == 0
    )
    assert ("question='${data.query}'" in line) == (likely or mapping == "question=query")


def test_constants_and_two_for_one(tmp_path: Path) -> None:
    mapping = ["question=${data.q}", "must_decline=false", 'facts=["9 months"]']
    assert said(read(tmp_path, "a.jsonl", '{"q": "a"}', *mapping)) == [
        {"question": "a", "facts": ["9 months"], "must_decline": False}
    ]
    assert "names question twice" in refusal(tmp_path, "a.jsonl", '{"q": "a"}', *mapping[:1] * 2)


@pytest.mark.parametrize(
    "answers", [{"text": ["b", "c"], "answer_start": [1, 9]}, {"value": "b", "aliases": ["B"]}]
)
def test_the_printed_mapping_reads_answers_of_question_sets(
    tmp_path: Path, answers: dict[str, Any]
) -> None:
    content = json.dumps({"question": "a", "answers": answers})
    *_, note = read(tmp_path, "set.jsonl", content).notes
    mapping = shlex.split(note.partition("--column-mapping ")[2])
    assert said(read(tmp_path, "set.jsonl", content, *mapping)) == A_TO_B


@pytest.mark.parametrize(
    ("row", "note"),
    [
        (
            {"messages": messages(("system", "Be brief."), ("user", "a"), ("assistant", "b"))},
            "the system turn of messages is left out in 1 of 1 rows",
        ),
        (
            {"question": "a", "ground_truth": ["b", "c"]},
            "only the first ground truth of several is the reference in 1 of 1 rows",
        ),
        (
            {"question": "a", "answer": "b"},
            "nothing is known of right answers; to read answer: "
            "--column-mapping ground_truth='${data.answer}'",
        ),
    ],
)
def test_what_is_left_out_is_said(tmp_path: Path, row: dict[str, Any], note: str) -> None:
    assert read(tmp_path, "noted.jsonl", json.dumps(row)).notes == (note,)


def test_a_mapping_as_pf_takes_it_is_kept_and_gone_on_with(
    machine: Machine, chat: ChatServer
) -> None:
    chat.answer = lambda question: f"It is {question}."
    path = machine.home / "theirs.csv"
    path.write_text("Query;Ideal;other\none;It is one.;x\ntwo;It is three.;y\n")
    mapping = ["--column-mapping", "question=${data.Query}", "ground_truth=${data.Ideal}"]
    done = machine.run("run", "--data", str(path), "--name", "mapped", *mapping, "one")
    assert done.returncode == 0, done.stderr
    assert [row["scores"]["f1"] for row in machine.rows("mapped/one")] == pytest.approx([1, 2 / 3])
    config = json.loads((machine.home / "runs/mapped/one/config.json").read_text())
    assert config["column_mapping"] == {
        "question": "${data.Query}",
        "ground_truth": "${data.Ideal}",
    }
    assert machine.run("run", "--resume").returncode == 0
    line = failed(machine.run("run", "--resume", *mapping[:2], "ground_truth=${data.other}"))
    assert "other values of column_mapping (ground_truth: ${data.Ideal}, now ${data.other})" in line
    assert set(chat.rows_asked.values()) == {1}


def test_notes_on_the_data_are_in_terminal_and_report(machine: Machine, chat: ChatServer) -> None:
    data = str(machine.data([{"question": "one", "answer": "It is one."}]))
    done = machine.run("run", "one", "--data", data, "--name", "noted")
    note = "nothing is known of right answers; to read answer: --column-mapping ground_truth="
    assert f"note: {note}'${{data.answer}}'" in done.stdout
    assert note in (machine.home / "runs/noted/report.html").read_text(encoding="utf-8")
