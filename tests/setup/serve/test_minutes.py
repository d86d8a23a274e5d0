"""What takes minutes: mixed load, strange requests, a hundred answers held to a schema."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conftest import MakeHome
from tests.home import Home, ask, ask_openai
from tests.setup.serve import fuzz, soak

pytestmark = [pytest.mark.slow, pytest.mark.minutes, pytest.mark.timeout(900)]

ORDER = {
    "type": "object",
    "properties": {
        "product": {"type": "string", "minLength": 1, "maxLength": 16},
        "count": {"type": "integer", "minimum": 1, "maximum": 99},
        "tags": {"type": "array", "items": {"enum": ["new", "used"]}, "maxItems": 2},
    },
    "required": ["product", "count", "tags"],
    "additionalProperties": False,
}
FORMATS: dict[str, Any] = {
    "json_schema": {"type": "json_schema", "json_schema": {"name": "order", "schema": ORDER}},
    "json_object": {"type": "json_object"},
}


@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
def test_a_hundred_answers_are_what_they_were_held_to(home: Home, kind: str) -> None:
    """From a model of 135 million parameters, at any temperature; one that is cut says so."""
    limit = {"json_schema": 96, "json_object": 128}[kind]
    schema = {"json_schema": ORDER, "json_object": {"type": "object"}}[kind]
    whole = 0
    for seed in range(100):
        asked = ask_openai(
            f"Order number {seed}", response_format=FORMATS[kind], max_tokens=limit, seed=seed
        )
        choice = home.call(soak.CHAT, asked | {"temperature": seed % 3 / 2}).json()["choices"][0]
        if choice["finish_reason"] == "length":
            continue
        whole += 1
        jsonschema.validate(json.loads(choice["message"]["content"]), schema)
    assert whole == 100 or kind == "json_object"
    short = ask_openai("Hi", response_format=FORMATS[kind], max_tokens=2)
    assert home.call(soak.CHAT, short).json()["choices"][0]["finish_reason"] == "length"


def test_memory_stays_under_mixed_load(make_home: MakeHome) -> None:
    home = make_home("endpoint.read_timeout=2")
    assert home.setup("deploy").returncode == 0
    growth, seen = soak.soak(home, 1.0)
    assert set(seen) <= soak.EXPECTED
    assert max(growth.values()) < soak.GROWTH


def test_nothing_that_a_schema_allows_breaks_it(make_home: MakeHome, tmp_path: Path) -> None:
    home = make_home("model.context_window=512")
    assert home.setup("deploy").returncode == 0
    done = fuzz.fuzz(home, tmp_path, 60, seed=1)
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.fixture(scope="module")
def impatient(make_home: MakeHome) -> Home:
    """A machine whose endpoint has 64 slots, and waits two seconds for a client."""
    home = make_home("endpoint.read_timeout=2", "endpoint.slots=64", "model.context_window=256")
    assert home.setup("deploy").returncode == 0
    return home


def _send_for_a_minute(client: socket.socket, head: bytes) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        client.sendall(head)
        time.sleep(0.001)


def test_client_that_never_reads_is_cut_off(impatient: Home) -> None:
    head = (
        f"GET /swagger.json HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {impatient.key()}\r\n\r\n"
    )
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", impatient.port))
        client.settimeout(20)
        with pytest.raises(ConnectionError):
            _send_for_a_minute(client, head.encode())
    assert 'reason="client_does_not_read"' in impatient.call("/metrics", None, "GET").text


def test_slow_readers_hold_no_slot(impatient: Home) -> None:
    body = json.dumps(ask_openai("Hi", max_tokens=100, stream=True)).encode()
    with ExitStack() as stack:
        clients = []
        for _ in range(64):
            client = stack.enter_context(closing(socket.socket()))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(("127.0.0.1", impatient.port))
            client.sendall(soak.request(impatient, soak.CHAT, body))
            clients.append(client)
        deadline = time.monotonic() + 300
        while impatient.manage("GET").json()["deployments"]["base"]["admitted"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert impatient.call("/score", ask("Hi", max_new_tokens=1)).status_code == 200


def test_five_hundred_connections_leave_room_for_another(impatient: Home) -> None:
    with ExitStack() as stack:
        for _ in range(500):
            address = ("127.0.0.1", impatient.port)
            stack.enter_context(socket.create_connection(address, timeout=20))
        assert impatient.call("/score", ask("Hi", max_new_tokens=1)).status_code == 200
