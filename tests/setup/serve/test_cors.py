"""Pages in a browser call the endpoint: those of loopback, and those that a recipe names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, sync_playwright

from tests.browser.chromium import find_chromium
from tests.conftest import MakeHome
from tests.home import Home, ask, ask_openai, failed

CHAT = "/v1/chat/completions"
LOOPBACK = (
    *("http://localhost:5173", "https://localhost", "http://127.0.0.1:8080", "http://[::1]:3000"),
    "http://app.localhost:5173",
)
STRANGERS = (
    *("https://evil.example", "http://localhost.evil.example", "http://127.0.0.1.evil.example"),
    *("https://app.example.evil.example", "http://app.example", "https://app.example:444", "null"),
)
FETCH = """async ([url, key, body]) => {
  const headers = {"Content-Type": "application/json", "X-Stainless-Lang": "js"}
  if (key) headers.Authorization = `Bearer ${key}`
  try {
    const reply = await fetch(url, {method: "POST", headers, body: JSON.stringify(body)})
    const pieces = [], reader = reply.body.getReader(), text = new TextDecoder()
    for (let step; !(step = await reader.read()).done;) pieces.push(text.decode(step.value))
    return [reply.status, pieces.join("")]
  } catch (error) { return [0, String(error)] }
}"""


@pytest.fixture(scope="module")
def home(make_home: MakeHome) -> Home:
    """An endpoint that lets in loopback's pages and those of one site more."""
    home = make_home('endpoint.allowed_origins=[loopback, "https://App.example"]')
    done = home.setup("deploy")
    assert done.returncode == 0, done.stderr
    return home


def _preflight(home: Home, origin: str, route: str = CHAT) -> requests.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
    }
    return requests.options(home.url + route, headers=headers, timeout=10)


@pytest.mark.parametrize("origin", [*LOOPBACK, "https://app.example"])
def test_preflight_of_an_allowed_page_needs_no_key(home: Home, origin: str) -> None:
    for route in (CHAT, "/score", "/tokenize", "/v1/models"):
        reply = _preflight(home, origin, route)
        assert reply.status_code == 204
        assert reply.headers["Access-Control-Allow-Origin"] == origin
        assert "POST" in reply.headers["Access-Control-Allow-Methods"]
        allowed = reply.headers["Access-Control-Allow-Headers"].split(",")
        assert {"authorization", "content-type", "x-stainless-lang"} <= set(allowed)
        assert reply.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", STRANGERS)
def test_preflight_of_a_stranger_is_refused(home: Home, origin: str) -> None:
    reply = _preflight(home, origin)
    assert reply.status_code == 403
    assert "Access-Control-Allow-Origin" not in reply.headers
    assert "endpoint.allowed_origins" in reply.json()["error"]["message"]
    assert reply.headers["Vary"] == "Origin"
    answered = home.call("/score", ask("Hi", max_new_tokens=1), Origin=origin)
    assert answered.status_code == 200
    assert "Access-Control-Allow-Origin" not in answered.headers


def test_no_page_manages_deployments(home: Home) -> None:
    for route in ("/manage", "/manage/traffic", "/manage/deployments/base"):
        assert _preflight(home, LOOPBACK[0], route).status_code == 403


def test_answers_and_errors_say_who_may_read_them(home: Home) -> None:
    for key, status in ((home.key(), 200), ("wrong", 401)):
        sent = {"Origin": LOOPBACK[0], "Authorization": f"Bearer {key}"}
        reply = home.call("/score", ask("Hi", max_new_tokens=1), **sent)
        assert reply.status_code == status
        assert reply.headers["Access-Control-Allow-Origin"] == LOOPBACK[0]
    assert requests.get(home.url + "/", timeout=10).headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", ["https://a.example/", "a.example", "https://a.example/path"])
def test_origin_that_no_browser_sends_is_refused(home: Home, origin: str) -> None:
    done = home.run("-m", "setup", "deploy", "--set", f'endpoint.allowed_origins=["{origin}"]')
    assert "allowed_origins" in failed(done)


def test_other_origins_for_a_running_endpoint_are_refused_with_what_runs(home: Home) -> None:
    line = failed(home.setup("deploy", "--set", "endpoint.allowed_origins=[null]"))
    assert "allowed_origins" in line
    line = failed(home.setup("deploy", "--set", 'endpoint.allowed_origins=["*"]'))
    assert """--set 'endpoint.allowed_origins=["loopback", "https://App.example"]'""" in line


class _EmptyPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where an empty page is, under whatever name."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _EmptyPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


@pytest.fixture
def page() -> Iterator[Page]:
    """A browser for which every name is this machine."""
    path = find_chromium()
    assert path, "no Chromium for the browser tests; run: python -m tests.browser.chromium"
    flags = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * 127.0.0.1"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser.new_page()
        browser.close()


def _fetch(page: Page, home: Home, key: str, body: dict[str, Any]) -> tuple[int, str]:
    status, text = page.evaluate(FETCH, [home.url + CHAT, key, body])
    return status, text


def test_page_reads_answers_streams_and_errors(home: Home, page: Page, port: int) -> None:
    page.goto(f"http://localhost:{port}/")
    short = ask_openai("What is the capital of France?", max_tokens=8)
    status, text = _fetch(page, home, home.key(), short)
    assert (status, "Paris" in text) == (200, True)
    status, text = _fetch(page, home, home.key(), short | {"stream": True})
    assert (status, text.rstrip().endswith("data: [DONE]")) == (200, True)
    status, text = _fetch(page, home, "wrong", short)
    assert (status, "invalid_api_key" in text) == (401, True)
    status, text = _fetch(page, home, home.key(), short | {"tools": [1]})
    assert (status, "tools" in text) == (400, True)


def test_page_of_a_stranger_is_stopped_by_the_browser(home: Home, page: Page, port: int) -> None:
    page.goto(f"http://localhost.evil.example:{port}/")
    status, text = _fetch(page, home, home.key(), ask_openai("Hi", max_tokens=1))
    assert (status, "Failed to fetch" in text) == (0, True)
