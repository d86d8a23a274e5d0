"""A run of one or more connections: checked before row 1, asked, evaluated, compared, reported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from evaluation.ask.columns import parse_mapping
from evaluation.ask.connections import KnownConnection, check_endpoint, read_connection
from evaluation.ask.evaluators import Evaluator, computed_evaluator
from evaluation.ask.judge_check import check_judge
from evaluation.ask.judging import (
    JUDGES,
    JudgeConnection,
    make_judge,
    read_judge,
    refuse_self_judging,
)
from evaluation.ask.one_connection import make_run
from evaluation.ask.plan import Plan, refuse_changes, refuse_existing
from evaluation.ask.rows_in import RunData, read_data
from evaluation.results.find import check_name
from evaluation.results.folder import CONFIG, RunFolder
from evaluation.results.request import Mode, Request
from setup.common import console
from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY, runs_folder
from setup.data import prepared_split
from setup.data.plan import data_plan
from setup.recipe.load import load_recipe
from setup.recipe.local import Recipe

_SAFETY_DATA = REPOSITORY / "data" / "safety" / "adversarial.jsonl"


@dataclass(frozen=True)
class Run:
    """The finished sides of a run, the baseline first, and the folder around them."""

    name: str
    folder: Path
    sides: list[RunFolder] = field(default_factory=list)

    @property
    def failed_share(self) -> float:
        """The largest share of rows of any side without an answer, a score or a judge's verdict."""
        return max(_missing(side.summary) / int(side.summary["n"]) for side in self.sides)

    @property
    def no_verdict(self) -> int:
        """The rows of all sides of which a judge said something that is no verdict."""
        return sum(side.summary.get("no_verdict", 0) for side in self.sides)


def _missing(summary: dict[str, Any]) -> int:
    return sum(int(summary.get(name, 0)) for name in ("error", "unscored", "no_verdict"))


def plan_run(name: str, request: Request, mode: Mode = "new") -> list[Plan]:
    """A plan for each connection, everything checked that can be before row 1.

    Raises:
        FixableError: The data, a connection or an evaluator is not usable, an endpoint or the judge
            does not answer, or the run to go on with is another one by now.
    """
    check_name(name)
    recipe = load_recipe(request.recipe, list(request.sets))
    evaluators, judge = _evaluators(request)
    mapping = parse_mapping(request.column_mapping)
    data = read_data(_data_path(request, recipe), request.limit, request.seed, mapping)
    _check_columns(request, data)
    plans = [
        _plan(name, request, recipe, connection, data, evaluators)
        for connection in _connections(request, recipe)
    ]
    if mode == "new":
        refuse_existing(name)
    tested = [plan.connection for plan in plans]
    if judge and not request.force_judge:
        refuse_self_judging(judge, tested)
    _check_answers(tested, judge, [name for name in request.evaluators if name in JUDGES])
    # After that: an endpoint that is down cannot say which model it serves.
    for plan in plans:
        if (plan.folder / CONFIG).is_file():
            refuse_changes(plan.folder, plan.config())
    return plans


def carry_out(plans: Sequence[Plan], mode: Mode = "new") -> Run:
    """Make every planned run; a side that an interrupted run never reached is started.

    Raises:
        FixableError, Interrupted: As :func:`evaluation.ask.one_connection.make_run`.
    """
    folder, sides = runs_folder() / plans[0].name, []
    _say_data(plans[0])
    with _alone(folder):
        for plan in plans:
            is_begun = (plan.folder / CONFIG).is_file()
            sides.append(make_run(plan, mode if is_begun else "new"))
    return Run(plans[0].name, folder, sides)


def _say_data(plan: Plan) -> None:
    """Say of which data the test split is that is asked, where the recipe decided it."""
    data = data_plan(plan.recipe)
    if plan.data.path == data.paths.test:
        console.err.print(f"asking {prepared_split(data, 'test')}", markup=False)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two commands on one run would ask twice and write over each other."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", blocking=False):
            yield
    except Timeout:
        what = f"another command works on run {folder.name}"
        raise FixableError(what, "wait for it, or end it") from None


def _check_answers(
    tested: Sequence[KnownConnection], judge: JudgeConnection | None, kinds: Sequence[str]
) -> None:
    for connection in tested:
        with console.progress_bar(f"Checking {connection.name}"):
            check_endpoint(connection)
    if judge:
        with console.progress_bar(f"Checking judge {judge.model}"):
            check_judge(judge, kinds)


def _evaluators(request: Request) -> tuple[tuple[Evaluator, ...], JudgeConnection | None]:
    names = list(dict.fromkeys(request.evaluators))
    judged = set(names) & JUDGES.keys()
    judge = read_judge(request.judge, request.judge_model) if judged else None
    evaluators = [
        make_judge(name, judge, request.judge_repeats)
        if judge and name in JUDGES
        else computed_evaluator(name)
        for name in names
    ]
    return tuple(evaluators), judge


def _check_columns(request: Request, data: RunData) -> None:
    """Safety counts what is not refused only where a row says that it must be."""
    silent = [row["id"] for row in data.rows if row["must_decline"] is None]
    if "safety" in request.evaluators and silent:
        raise FixableError(
            f"{data.path}: row {silent[0]} does not say must_decline, which evaluator safety goes "
            f"by ({len(silent)} of {len(data.rows)} rows)",
            "give every row must_decline, true or false: data/README.md, Adversarial questions",
        )


def _connections(request: Request, recipe: Recipe) -> list[str]:
    sides = (recipe.endpoint.deployment, recipe.endpoint.tuned)
    names = list(request.connections) or [f"{recipe.connection}-{side}" for side in sides]
    for name in names:
        check_name(name, "connection")
    if len(set(names)) < len(names):
        raise FixableError(f"a connection is named twice: {' '.join(names)}", "name each one once")
    return names


def _data_path(request: Request, recipe: Recipe) -> Path:
    if request.data:
        return request.data
    if "safety" in request.evaluators:
        return _SAFETY_DATA
    # A fix names the recipe and the source as this command does.
    with recipe.naming():
        split = prepared_split(data_plan(recipe), "test", then=", or name a file with --data")
        return split.file


def _plan(  # noqa: PLR0913, PLR0917  # what a plan is made of
    name: str,
    request: Request,
    recipe: Recipe,
    connection: str,
    data: RunData,
    evaluators: tuple[Evaluator, ...],
) -> Plan:
    known = read_connection(connection)
    return Plan(
        name,
        known,
        data,
        evaluators,
        recipe,
        request.limit,
        request.seed,
        request.variant,
        request.workers or known.settings.concurrency,
    )
