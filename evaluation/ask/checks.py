"""Everything that can be checked before row 1: data, connections, evaluators, judge."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation import results
from evaluation.ask.connections import KnownConnection
from evaluation.ask.evaluators import JUDGES, JudgeEvaluator, computed_evaluator
from evaluation.ask.general import Questions
from evaluation.ask.judge import JudgeConnection
from evaluation.ask.plan import Plan
from evaluation.ask.rows_in import read_for, say_split
from evaluation.engines.choice import choose_engine
from setup.common import console
from setup.common.errors import FixableError
from setup.recipe.load import load_recipe
from setup.recipe.local import Recipe


def plan_run(name: str, request: results.Request, mode: results.Mode = "new") -> list[Plan]:
    """A plan for each connection, everything checked that can be before row 1."""
    results.check_name(name)
    recipe = load_recipe(request.recipe, list(request.sets))
    engine = choose_engine(request.engine or recipe.evaluation.engine, request.processes)
    kinds = list(dict.fromkeys(request.evaluators))
    judged = [kind for kind in kinds if kind in JUDGES]
    judge = JudgeConnection.read(request.judge, request.judge_model, engine) if judged else None
    evaluators = tuple(
        JudgeEvaluator.make(kind, judge.name, judge.model, request.judge_repeats)
        if judge and kind in JUDGES
        else computed_evaluator(kind)
        for kind in kinds
    )
    data = read_for(request, recipe)
    tested = [KnownConnection.read(name, engine) for name in _connections(request, recipe)]
    if mode == "new":
        results.refuse_existing(name)
    if judge and not request.force_judge:
        judge.refuse_own_answers(tested)
    _check_answers(tested, judge, judged)
    general = Questions.read() if request.asks_general else None
    plans = [
        Plan(name, each, data, evaluators, recipe, request, engine, general) for each in tested
    ]
    # After that: an endpoint that is down cannot say which model it serves.
    for plan in plans:
        if plan.is_begun:
            plan.begin("resume")
    say_split(recipe, data.path)
    if general:
        what = f"and {len(general.rows)} general questions (not with --no-general)"
        console.err.print(what, markup=False)
    return plans


def _connections(request: results.Request, recipe: Recipe) -> list[str]:
    sides = (recipe.endpoint.deployment, recipe.endpoint.tuned)
    names = list(request.connections) or [f"{recipe.connection}-{side}" for side in sides]
    for name in names:
        results.check_name(name, "connection")
    if len(set(names)) < len(names):
        raise FixableError(f"a connection is named twice: {' '.join(names)}", "name each one once")
    return names


def _check_answers(
    tested: Sequence[KnownConnection], judge: JudgeConnection | None, kinds: Sequence[str]
) -> None:
    for connection in tested:
        with console.progress_bar(f"Checking {connection.name}"):
            connection.check()
    if judge:
        with console.progress_bar(f"Checking judge {judge.model}"):
            judge.check(kinds)
