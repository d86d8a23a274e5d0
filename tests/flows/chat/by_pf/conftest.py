"""A machine where the whole path has run, with a recorder between the flow and the endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.conftest import MakeHome
from tests.home import Home
from tests.recorder import Recorder, recording

# Through the SDK, in a process of that machine: the key must not stand on a command line.
_REDIRECT = """
import sys
from promptflow.client import PFClient
store = PFClient().connections
phi = store.get("phi", with_secrets=True)
for name in ("endpoint", "tokenizer"):
    route = phi.configs[name].rpartition("/")[2]
    phi.configs[name] = sys.argv[1] + "/" + route
store.create_or_update(phi)
"""


@pytest.fixture(scope="package")
def home(package_homes: MakeHome) -> Home:
    """The base model is deployed and connected here."""
    home = package_homes()
    home.serve()
    return home


@pytest.fixture(scope="package")
def recorder(home: Home) -> Iterator[Recorder]:
    """What the endpoint of ``home`` is asked by the flow."""
    with recording(home.url) as recorder:
        done = home.run("-c", _REDIRECT, recorder.url)
        assert done.returncode == 0, done.stderr
        yield recorder


def answer_of(stdout: str) -> str:
    """The answer in what ``pf flow test`` prints."""
    return str(json.loads(stdout[stdout.index("{\n") :])["answer"])
