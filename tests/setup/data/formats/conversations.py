"""Fifty conversations, and what they look like in each format and each kind of file."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from pyarrow import parquet

Turn = dict[str, Any]
Row = dict[str, Any]

_TEXTS = [
    "What does lamp {} cost?",
    'She said: "lamp {}, please"; then, quietly, \'no\'.',
    "First line of {}\n\tsecond line\n\n- third, with a comma",
    "كم ثمن المصباح رقم {}؟",
    "כמה עולה מנורה {}?",
    "👩‍👩‍👧 lamp {} 🎉",
    "नमस्ते, दीपक {} का मूल्य क्या है?",
    "Kosten: {} € | 5 % {{x}} <b>&amp;</b> \\n is no line end\u2028nor is this",
    "你好灯{}多少钱",
    "id;name\n{};\"a\"",
]  # fmt: skip


def conversations(count: int = 50) -> list[list[Turn]]:
    """They have from one to three exchanges, two in three a system message."""
    made = []
    for number in range(count):
        turns = []
        if number % 3:
            turns.append({"role": "system", "content": f"Be “brief” ({number}).\nAlways."})
        for turn in range(1 + number % 3):
            text = _TEXTS[(number + turn) % len(_TEXTS)].format(100 * turn + number)
            turns += [
                {"role": "user", "content": f"{text} ({number}/{turn})"},
                {"role": "assistant", "content": f"{number}: {_TEXTS[number % 10].format(turn)}"},
            ]
        made.append(turns)
    return made


def _parts(turns: list[Turn]) -> tuple[str, list[tuple[str, str]]]:
    system = turns[0]["content"] if turns[0]["role"] == "system" else ""
    said = [turn["content"] for turn in turns if turn["role"] != "system"]
    return system, list(zip(said[::2], said[1::2], strict=True))


def _openai(turns: list[Turn]) -> Row:
    return {"messages": turns}


def _openai_parts(turns: list[Turn]) -> Row:
    half = [
        {
            "role": turn["role"],
            "content": [
                {"type": "text", "text": turn["content"][:5]},
                {"type": "text", "text": turn["content"][5:]},
            ],
        }
        for turn in turns
    ]
    return {"messages": half}


def _sharegpt(turns: list[Turn]) -> Row:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return {
        "conversations": [{"from": names[turn["role"]], "value": turn["content"]} for turn in turns]
    }


def _sharegpt_with_system(turns: list[Turn]) -> Row:
    system, pairs = _parts(turns)
    names = ("user", "chatgpt")
    said = [
        {"from": name, "value": text}
        for pair in pairs
        for name, text in zip(names, pair, strict=True)
    ]
    return {"system": system, "conversations": said}


def _sharegpt_roles(turns: list[Turn]) -> Row:
    return {"conversations": turns}


def _alpaca(turns: list[Turn]) -> Row:
    system, (*history, (question, answer)) = _parts(turns)
    first, _, rest = question.partition("\n")
    row = {"instruction": first, "input": rest, "output": answer}
    return row | {"system": system, "history": [list(pair) for pair in history]}


def _question_answer(turns: list[Turn]) -> Row:
    system, (*history, (question, answer)) = _parts(turns)
    earlier = [{"inputs": {"question": q}, "outputs": {"answer": a}} for q, a in history]
    row = {"question": question, "ground_truth": answer}
    return row | {"system_prompt": system, "chat_history": earlier}


def _prompt_lists(turns: list[Turn]) -> Row:
    return {"prompt": turns[:-1], "completion": turns[-1:]}


def _prompt_and_messages(turns: list[Turn]) -> Row:
    return {"prompt": turns[:-1], "messages": turns}


FORMATS: dict[str, Callable[[list[Turn]], Row]] = {
    "openai": _openai,
    "openai parts": _openai_parts,
    "sharegpt": _sharegpt,
    "sharegpt with a system column": _sharegpt_with_system,
    "sharegpt with roles": _sharegpt_roles,
    "alpaca": _alpaca,
    "question and answer": _question_answer,
    "trl prompt and completion": _prompt_lists,
    "trl prompt and messages": _prompt_and_messages,
}


def _lines(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _array(rows: list[Row]) -> bytes:
    return json.dumps(rows, indent=2).encode()


def _objects(rows: list[Row]) -> bytes:
    return "\n".join(json.dumps(row, indent=1) for row in rows).encode("utf-16")


def _table(rows: list[Row], **dialect: Any) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), **dialect)
    writer.writeheader()
    for row in rows:
        flat = {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in row.items()
        }
        writer.writerow(flat)
    return text.getvalue()


def _csv(rows: list[Row]) -> bytes:
    return _table(rows).encode("utf-8-sig")


def _semicolons(rows: list[Row]) -> bytes:
    return _table(rows, delimiter=";", lineterminator="\n", quoting=csv.QUOTE_ALL).encode("utf-16")


def _tsv(rows: list[Row]) -> bytes:
    return _table(rows, delimiter="\t").encode()


def _parquet(rows: list[Row]) -> bytes:
    made = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), made)
    return made.getvalue()


def _arrow(rows: list[Row]) -> bytes:
    made = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_file(made, table.schema) as writer:
        writer.write_table(table)
    return made.getvalue()


def _arrow_stream(rows: list[Row]) -> bytes:
    made = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(made, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return made.getvalue()


FILES: dict[str, Callable[[list[Row]], bytes]] = {
    "lines.jsonl": _lines,
    "array.json": _array,
    "objects.json": _objects,
    "comma.csv": _csv,
    "semicolon.csv": _semicolons,
    "tabs.tsv": _tsv,
    "table.parquet": _parquet,
    "file.arrow": _arrow,
    "stream.arrow": _arrow_stream,
}


def _zst(data: bytes) -> bytes:
    made = pa.BufferOutputStream()
    with pa.CompressedOutputStream(made, "zstd") as packed:
        packed.write(data)
    return bytes(made.getvalue().to_pybytes())


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".zst": _zst,
}


def hub_layout(folder: Path, rows: list[Row]) -> Path:
    """A folder as the hub has it, of two files."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train-00000-of-00002.csv").write_bytes(_csv(rows[:20]))
    (folder / "data" / "train-00001-of-00002.csv").write_bytes(_csv(rows[20:]))
    return folder


def packed_layout(folder: Path, rows: list[Row]) -> Path:
    """A folder of packed lines."""
    folder.mkdir()
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(_lines(rows[:20])))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(_lines(rows[20:])))
    return folder


def saved(folder: Path, rows: list[Row]) -> Path:
    """A folder as `save_to_disk` leaves it."""
    datasets.Dataset.from_list(rows).save_to_disk(str(folder))
    return folder


def several(folder: Path, rows: list[Row]) -> str:
    """Two files of different kinds, as a list."""
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(_lines(rows[:20]))
    (folder / "b.csv.zst").write_bytes(_zst(_csv(rows[20:])))
    return f"[{folder / 'a.jsonl'}, {folder / 'b.csv.zst'}]"


def pattern(folder: Path, rows: list[Row]) -> str:
    """Two files by a pattern, and one that is not meant."""
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(_lines(rows[:20]))
    (folder / "b.jsonl").write_bytes(_lines(rows[20:]))
    (folder / "notes.txt").write_text("not this one")
    return str(folder / "*.jsonl")


PLACES: dict[str, Callable[[Path, list[Row]], Path | str]] = {
    "hub layout": hub_layout,
    "packed layout": packed_layout,
    "saved": saved,
    "several": several,
    "pattern": pattern,
}
