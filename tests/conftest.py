"""The real model, fetched once, and machines that serve it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from setup.recipe.load import load_recipe
from setup.weights.fetch import prepare_model
from tests.home import Home

MakeHome = Callable[..., Home]
# Of the minutes that the tests take: begun first, so that no worker is left with one at the end.
_LONGEST = (
    *(
        "setup/cli/test_cli.py",
        "azure/test_path.py",
        "setup/local/rollout/test_rollout.py",
        "flows/chat/by_pf/test_pf.py",
    ),
    *(
        "flows/chat/test_failures.py",
        "setup/finetune/run/test_resume.py",
        "setup/local/test_doctor.py",
    ),
    *("evaluation/test_run.py", "flows/chat/test_command.py"),
    *(
        "setup/weights/test_agreement.py",
        "evaluation/ask/test_judging.py",
        "flows/chat_agent/test_chat_agent.py",
    ),
)


def pytest_configure() -> None:
    """Take Ctrl-C as usual: a shell's ``&`` starts programs with it ignored, their children too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the modules for workers that take a whole one at a time, by ``_LONGEST``."""

    def rank(item: pytest.Item) -> int:
        path = item.path.as_posix()
        return next((n for n, end in enumerate(_LONGEST) if path.endswith(end)), len(_LONGEST))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def model() -> Path:
    """The model of the default recipe, from this user's cache."""
    return prepare_model(load_recipe("laptop", []).model)


@contextmanager
def _homes(models: Path, factory: pytest.TempPathFactory) -> Iterator[MakeHome]:
    made: list[Home] = []

    def make(*sets: str) -> Home:
        home = Home(factory.mktemp("home"), models, sets=list(sets))
        made.append(home)
        return home

    yield make
    for home in made:
        home.setup("stop")


@pytest.fixture(scope="module")
def make_home(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeHome]:
    """Make a machine with recipe values of its own; its endpoint is stopped after the module."""
    with _homes(model.parent, tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="package")
def package_homes(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeHome]:
    """The same for a whole package of tests."""
    with _homes(model.parent, tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="module")
def home(make_home: MakeHome) -> Home:
    """A machine whose endpoint is up with the recipe's defaults."""
    home = make_home()
    done = home.setup("deploy")
    assert done.returncode == 0, done.stderr
    return home
