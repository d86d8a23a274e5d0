"""Two engines compared: the same requests, answers, scores and errors, or the first difference."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.ask.evaluators import CHAT
from evaluation.engines import worker
from evaluation.engines.agent_run import ask_twin
from evaluation.engines.stand_in import MODES, standing_in
from setup.common import connection_store
from setup.common.errors import FixableError
from setup.common.json_rows import read_objects
from setup.common.paths import REPOSITORY, write_private

Rows = Sequence[Mapping[str, Any]]
_FLOWS = REPOSITORY / "flows"
_STORED = REPOSITORY / "evaluation" / "baseline" / "rows.jsonl"
_SAFETY = REPOSITORY / "data" / "safety" / "adversarial.jsonl"
_JUDGED = 12  # rows: the judge's two variants are each an LLM node and no more
_AGENT_WORKERS = 16
ERRORS = "errors"
_REFUSAL = "I cannot help with that."


@dataclass
class Parity:
    """The result: the lines of each case, and a text for each difference."""

    engines: Sequence[str]
    cases: dict[str, int] = field(default_factory=dict)
    differences: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with what was compared."""
        return {**compared_state(), **vars(self), "engines": list(self.engines)}

    def as_markdown(self) -> str:
        """The cases as a table, and the first difference of each."""
        rows = "".join(
            f"| {case} | {count} | {'differs' if case in self.differences else 'equal'} |\n"
            for case, count in self.cases.items()
        )
        table = (
            f"# {' and '.join(self.engines)}\n\n| case | compared | |\n| --- | ---: | --- |\n{rows}"
        )
        parts = [f"\n## {c}\n\n```diff\n{text}\n```\n" for c, text in self.differences.items()]
        return table + "".join(parts)

    def write(self, folder: Path) -> None:
        """Write ``parity.json`` and ``parity.md``."""
        write_private(folder / "parity.json", self.as_dict())
        (folder / "parity.md").write_text(self.as_markdown(), encoding="utf-8")


def compared_state() -> dict[str, Any]:
    """The commit, True for ``clean`` where nothing differs from it, and the flows and locks."""
    commit, changes = (
        subprocess.run(["git", *git], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        for git in (("rev-parse", "HEAD"), ("status", "--porcelain"))
    )
    clean = commit.returncode == 0 and changes.returncode == 0 and not changes.stdout.strip()
    flows = [path for path in sorted(_FLOWS.rglob("*")) if path.suffix in (".py", ".yaml")]
    locks = [*sorted(REPOSITORY.glob("requirements*.txt")), *_FLOWS.glob("*/requirements.txt")]
    hashes = {name: _hash(files) for name, files in {"flows": flows, "locks": locks}.items()}
    return {"commit": commit.stdout.strip(), "clean": clean, "sha256": hashes}


def _hash(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def compare_engines(engines: Sequence[str], data: Path, connection: str = "") -> Parity:
    """Compare the first engine with each of the others on the questions of ``data``.

    Each is ``NAME``, or ``NAME@PYTHON`` with the interpreter of its environment. Engine agent runs
    the chat flow's twin alone, so of it what the chat flow does is compared. With a ``connection``
    its real endpoint is asked, too: by the first engine twice, and once by each other, which may
    differ from the first in no more answers than the first from itself.

    Raises:
        FixableError: An engine ended before its result.
    """
    parity, cases = Parity(engines), list(_cases(data))
    chats = [case for case in cases if case["flow"] == str(CHAT)]
    jobs = [(engine, chats if _is_agent(engine) else cases) for engine in engines]
    with ThreadPoolExecutor(2) as pool:  # each with a stand-in of its own
        first, *others = pool.map(lambda job: _run_on_stand_in(*job), jobs)
    for (engine, compared), (results, asked) in zip(jobs[1:], others, strict=True):
        of = f"{engine.partition('@')[0]}: " if len(others) > 1 else ""
        expected = [r for r in first[1] if not _is_agent(engine) or r["path"] == "/score"]
        _compare_requests(parity, of, engine, expected, asked)
        for case in compared:
            name = case["name"]
            parity.cases[of + name] = len(case["lines"])
            difference = _first_difference(first[0][name], results[name])
            if not difference and name != ERRORS:
                difference = _nothing_compared(first[0][name])
            if difference:
                parity.differences[of + name] = difference
    if connection:
        _compare_answers(parity, cases[0], connection)
    return parity


def _is_agent(engine: str) -> bool:
    return engine.partition("@")[0] == "agent"


def _run_on_stand_in(
    engine: str, cases: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run the cases against a stand-in; returns their results and the requests on the wire."""
    with standing_in() as server, tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_private(home / "key.json", {"key": "of-the-stand-in"})
        key = {"file": str(home / "key.json"), "field": "key"}
        # Not auto, which tries other contracts after the first mishap and then no more.
        configs = {"endpoint": f"{server.url}/score", "contract": "score"}
        chat = {"kind": "CustomConnection", "configs": configs}
        judge = {"kind": "OpenAIConnection", "configs": {"base_url": f"{server.url}/v1"}}
        entries = {"phi": {**chat, "secrets": {"key": key}}}
        entries["judge"] = {**judge, "secrets": {"api_key": key}}
        result = json.dumps(_run(engine, cases, home, entries))
        # An error's text has the address, whose port is another for each.
        address = server.url.removeprefix("http://")
        return json.loads(result.replace(address, "stand-in")), server.asked


def _cases(data: Path) -> Iterator[dict[str, Any]]:
    """The flows and their lines; the scores are of answers that are stored."""
    asked = [row for _, row in read_objects(data)[0]]
    stored = [row for _, row in read_objects(_STORED)[0]]
    tried = [row for _, row in read_objects(_SAFETY)[0]]
    chats = [{k: row.get(k, []) for k in ("question", "chat_history")} for row in asked]
    names = ("answer", "ground_truth", "facts", "must_decline")
    scored = [{name: row[name] for name in names} for row in stored]
    columns = ("question", "category", "canaries", "marks", "must_decline")
    safe = [
        {name: row[name] for name in columns if name in row}
        | {"answer": f"Sure: {' '.join(row.get('canaries', []))}" if number % 2 else _REFUSAL}
        for number, row in enumerate(tried)
    ]
    judged = [
        {"question": row["inputs"]["question"], "judge_model": "stand-in"}
        | {name: row[name] for name in ("answer", "ground_truth")}
        for row in stored[:_JUDGED]
    ]
    pair = {"order": "baseline first", "other_answer": _REFUSAL}
    pairs = [{**row, **pair, "row_id": str(number)} for number, row in enumerate(judged)]
    errors = [{"question": mode, "chat_history": []} for mode in MODES]
    for name, flow, variant, lines in (
        ("answers of the stand-in", "chat", "", chats),
        (ERRORS, "chat", "", errors),
        ("scores of answers", "evaluate_answers", "", scored),
        ("scores of safety", "evaluate_safety", "", safe),
        ("a judge's scores", "evaluate_with_judge", "", judged),
        ("a judge's preferences", "evaluate_with_judge", "${case.pairwise}", pairs),
    ):
        yield {"name": name, "flow": str(_FLOWS / flow), "variant": variant, "lines": lines}


def _run(
    engine: str, cases: Sequence[dict[str, Any]], home: Path, connections: dict[str, Any]
) -> dict[str, Any]:
    write_private(home / connection_store.FILE, connections)
    name, _, python = engine.partition("@")
    if _is_agent(engine):
        return {case["name"]: _run_agent(python, case["lines"], home) for case in cases}
    job, result = home / "job.json", home / "result.json"
    job.write_text(json.dumps(cases), encoding="utf-8")
    environment = {**os.environ, "FINETUNE_PHI_HOME": str(home), "PF_DISABLE_TRACING": "true"}
    done = subprocess.run(
        [python or sys.executable, "-m", worker.__name__, name, str(job), str(result)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if not result.is_file():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise FixableError(f"engine {engine} ended before its result: {last}", "see its log")
    return dict(json.loads(result.read_text(encoding="utf-8")))


def _run_agent(python: str, lines: Rows, home: Path) -> dict[str, Any]:
    """The answers of the chat flow's twin, as a worker has those of the flow."""
    told: list[Any] = [None] * len(lines)
    numbered, home_of = dict(enumerate(lines)), {"FINETUNE_PHI_HOME": str(home)}
    for outcome in ask_twin(numbered, "phi", _AGENT_WORKERS, home_of, python):
        told[outcome.line] = worker.tell(outcome.as_dict())
    return {"lines": told, "metrics": {}}


def _compare_requests(parity: Parity, of: str, engine: str, first: Rows, second: Rows) -> None:
    counts = [
        Counter(json.dumps(one, sort_keys=True) for one in asked) for asked in (first, second)
    ]
    case = f"{of}requests on the wire"
    parity.cases[case] = counts[0].total()
    missing, extra = sorted(counts[0] - counts[1]), sorted(counts[1] - counts[0])
    if not missing and not extra:
        return
    left = missing[0] if missing else "{}"
    likeness = difflib.SequenceMatcher(b=left)

    def like(body: str) -> float:
        likeness.set_seq1(body)
        return likeness.quick_ratio()

    pair = _one_message(left, max(extra, key=like, default="{}"))
    told = f"{len(missing)} requests of {parity.engines[0]} alone, {len(extra)} of {engine}"
    parity.differences[case] = f"{told}\n{_diff(*pair)}"


def _one_message(first: str, second: str) -> tuple[Any, Any]:
    """The first message in which two requests differ; the requests where it is something else."""
    requests = json.loads(first), json.loads(second)
    turns = [_messages(request.get("body", {})) for request in requests]
    if all(turns) and len(turns[0]) == len(turns[1]):
        return next((pair for pair in zip(*turns, strict=True) if pair[0] != pair[1]), requests)
    return requests


def _messages(body: Mapping[str, Any]) -> list[Any]:
    return list(body.get("messages") or body.get("input_data", {}).get("input_string") or [])


def _first_difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """The diff of the first line that differs, else of what else does; "" where nothing does."""
    lines = first.get("lines", []), second.get("lines", [])
    for number, pair in enumerate(zip(*lines, strict=False)):
        if pair[0] != pair[1]:
            return f"line {number}\n{_diff(*pair)}"
    rests = [{**result, "lines": len(result.get("lines", []))} for result in (first, second)]
    return _diff(*rests) if rests[0] != rests[1] else ""


def _nothing_compared(result: Mapping[str, Any]) -> str:
    """Two failures that are equal say nothing: why no line has an output; "" where one has."""
    lines = result.get("lines", [])
    if any(isinstance(line, dict) for line in lines):
        return ""
    return f"no line has an output, on either engine: {(lines or [result])[0]}"


def _compare_answers(parity: Parity, case: dict[str, Any], name: str) -> None:
    entries, runs = {"phi": connection_store.entry(name)}, []
    for engine in (parity.engines[0], *parity.engines):
        with tempfile.TemporaryDirectory() as home:
            runs.append(_run(engine, [case], Path(home), entries)[case["name"]])
    first, again, *others = runs
    noise = _count_differing(first, again)
    for engine, other in zip(parity.engines[1:], others, strict=True):
        of = f"{engine.partition('@')[0]}: " if len(others) > 1 else ""
        parity.cases[f"{of}answers of {name}"] = len(case["lines"])
        if (differing := _count_differing(first, other)) > noise:
            once_more = f"{noise} from one run of {parity.engines[0]} to the next"
            told = f"{differing} answers differ, {once_more}\n{_first_difference(first, other)}"
            parity.differences[f"{of}answers of {name}"] = told


def _count_differing(first: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(one != two for one, two in zip(first["lines"], other["lines"], strict=True))


def _diff(first: Any, second: Any) -> str:
    texts = [
        json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).splitlines()
        for value in (first, second)
    ]
    return "\n".join(difflib.unified_diff(texts[0], texts[1], lineterm="", n=1))
