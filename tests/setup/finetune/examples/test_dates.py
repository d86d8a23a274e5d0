"""Chat templates that print today's date: a run is of one day, and days do not part versions."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from setup.finetune.examples.chat_template import Renderer
from setup.finetune.run import checkpoints as begun
from setup.finetune.run import watch
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import Done, Machine, conversation, difference, facts, result
from tests.tiny import TEMPLATE, make_tiny_llama, transformers_folder

# As Llama 3.2, Granite and Mistral Small ask for it; at length, so that a day changes the tokens.
DATES = {
    "llama": "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}"
    "{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "{{ '<|im_start|>system\nToday Date: ' + date_string + '<|im_end|>\n' }}",
    "granite": "{{ '<|im_start|>system\nToday is ' + strftime_now('%A, %B %d, %Y at %H:%M')"
    " + '.<|im_end|>\n' }}",
}
EVENING, MORNING = datetime(2026, 11, 9, 23, 59, 58), datetime(2026, 11, 10, 0, 3)


@pytest.fixture(scope="module", params=DATES)
def dated(
    request: pytest.FixtureRequest, make_machine: MakeMachine, tmp_path_factory: Any
) -> Machine:
    """A machine whose model prints the date."""
    with mock.patch("tests.tiny.TEMPLATE", DATES[request.param] + TEMPLATE):
        base = make_tiny_llama(tmp_path_factory.mktemp("dated"))
    return make_machine(base=base)


@contextmanager
def _clock(moment: datetime) -> Iterator[None]:
    """Let trainer and chat templates take ``moment`` for now."""

    class Clock(datetime):
        @classmethod
        def now(cls, _: Any = None) -> datetime:  # type: ignore[override]
            return moment

    with (
        mock.patch("transformers.utils.chat_template_utils.datetime", Clock),
        mock.patch.object(begun, "datetime", Clock),
    ):
        yield


EVENING_RUN, MORNING_RUN = "finetune.epochs=1", "finetune.epochs=2"


@pytest.fixture(scope="module")
def two_days(dated: Machine) -> tuple[Machine, list[Path]]:
    """A machine with a run of each of two days."""
    with _clock(EVENING):
        evening = dated.finetune(EVENING_RUN)
    with _clock(MORNING):
        return dated, [evening, dated.finetune(MORNING_RUN)]


def test_rows_of_two_days_are_the_same(two_days: tuple[Machine, list[Path]]) -> None:
    machine, runs = two_days
    evening, morning = (result(run) for run in runs)
    assert evening["template_date"] == "2026-11-09T23:59:58"
    assert morning["template_date"] == "2026-11-10T00:03:00"
    assert evening["held_out_loss_before"] != morning["held_out_loss_before"]
    assert evening["data"]["held_out_sha256"] == morning["data"]["held_out_sha256"]
    with _clock(EVENING):
        other = machine.finetune("finetune.seed=5", EVENING_RUN)
    assert result(other)["data"]["held_out_sha256"] != evening["data"]["held_out_sha256"]


@pytest.mark.parametrize("dated", ["granite"], indirect=True, scope="module")
def test_versions_of_two_days_are_compared(two_days: tuple[Machine, list[Path]]) -> None:
    machine, _ = two_days
    assert machine.setup("register", EVENING_RUN).returncode == 0
    registered = machine.setup("register", MORNING_RUN)
    assert registered.returncode == 0, registered.stderr
    assert "other held-out rows" not in registered.stdout
    assert "of version 1" in registered.stdout


def _stopped(machine: Machine, step: int, *sets: str) -> Done:
    """The run, stopped by Ctrl-C after ``step``."""
    plain = watch.Watch.is_enough

    def is_enough(self: watch.Watch, number: int) -> bool:
        if number == step:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, number)

    with mock.patch.object(watch.Watch, "is_enough", is_enough):
        return machine.setup("finetune", *sets)


def test_run_that_goes_on_after_midnight_is_of_the_day_it_began(
    dated: Machine, make_machine: MakeMachine
) -> None:
    sets = ["finetune.rank=4"]
    base = next(value for value in dated.sets if value.startswith("model.source="))
    whole = make_machine(base=Path(base.partition("=")[2]))
    with _clock(EVENING):
        expected = whole.finetune(*sets)
        assert _stopped(dated, 10, *sets).returncode == 130
    with _clock(MORNING):
        done = dated.setup("finetune", *sets)
    assert "going on from step 10" in done.stderr
    assert "prints the date, 09 November 2026 in the whole run" in done.stderr
    (run,) = [run for run in dated.runs() if run.name == expected.name]
    assert difference(run, expected) < 1e-6
    assert result(run)["template_date"] == "2026-11-09T23:59:58"
    assert result(run)["held_out_loss_after"] == result(expected)["held_out_loss_after"]


def test_other_templates_have_no_date(make_machine: MakeMachine) -> None:
    machine = make_machine(facts(6))
    done = machine.setup("finetune", "finetune.epochs=1")
    assert "date" not in done.stderr
    (run,) = machine.runs()
    assert result(run)["template_date"] is None


def test_clock_of_others_is_left_alone(tiny: dict[str, Path]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(transformers_folder(tiny["llama"]))
    tokenizer.chat_template = "{{ strftime_now('%Y') }}"
    renderer = Renderer(tokenizer, datetime(1999, 12, 31))
    assert not renderer.prints_date
    assert renderer.text(conversation("a", "b")) == "1999"
    assert renderer.prints_date
    assert int(tokenizer.apply_chat_template(conversation("a", "b"), tokenize=False)) > 2020
