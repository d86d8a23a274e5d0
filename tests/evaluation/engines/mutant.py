"""An interpreter with a fault: ``mutant FAULT -m evaluation.engines.worker ENGINE JOB RESULT``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from evaluation.engines import worker

Change = Callable[[Any], None]


def drop_turn(body: Any) -> None:
    turns = body["input_data"]["input_string"]
    if len(turns) > 2:
        del turns[:2]


def warm(body: Any) -> None:
    body["input_data"]["parameters"]["temperature"] = 0.1


def swap_roles(body: Any) -> None:
    turns = body["input_data"]["input_string"]
    if len(turns) > 1:
        turns[0]["role"], turns[1]["role"] = turns[1]["role"], turns[0]["role"]


def lose_row(results: Any) -> None:
    del results["answers of the stand-in"]["lines"][-1]


def rename_error(results: Any) -> None:
    results["errors"]["lines"][2][0] = "OtherError"


def move_score(results: Any) -> None:
    metrics = results["scores of safety"]["metrics"]
    metrics[min(metrics)] += 1e-9


WIRE = {"a turn dropped": drop_turn, "another temperature": warm, "roles swapped": swap_roles}
RESULT = {
    "answers of the stand-in": lose_row,
    "errors": rename_error,
    "scores of safety": move_score,
}


def change_requests(change: Change) -> None:
    """Change the body of every request that the chat flow sends from now on."""
    send = requests.Session.send

    def changed(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> Any:
        body = json.loads(request.body or b"{}")
        if "input_data" in body:
            change(body)
        request.prepare_body(json.dumps(body).encode(), None)
        return send(self, request, **options)

    requests.Session.send = changed  # type: ignore[method-assign]


def main() -> None:
    fault = sys.argv[1]
    del sys.argv[1:4]
    if fault in WIRE:
        change_requests(WIRE[fault])
    worker.main()
    if fault not in WIRE:
        path = Path(sys.argv[3])
        results = json.loads(path.read_text())
        for change in RESULT.values():
            change(results)
        path.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
