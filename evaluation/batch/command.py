"""The command line of a batch run: the options of ``pf run create``, without its processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from evaluation.batch.journal import Outcome
from evaluation.batch.pf_run import FlowRun, free_name
from evaluation.batch.prepare import prepare
from evaluation.batch.watch import Interrupted, run_watched
from setup.cli.options import AsJson, show, show_error
from setup.common import console
from setup.common.errors import FixableError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_PAIRS = ("--column-mapping", "--connections")
_DAG = "flow.dag.yaml"
_INTERRUPTED = 130


@dataclass
class Tally:
    """A count of lines by how they ended; ``last_error`` is the newest failure's class and line."""

    ok: int = 0
    error: int = 0
    last_error: str = ""

    def see(self, outcome: Outcome) -> None:
        """One more."""
        if outcome.error:
            self.error += 1
            self.last_error = f"{outcome.error.type}: {outcome.error.message}"
        else:
            self.ok += 1


@app.command(
    epilog="Example: python -m evaluation.batch --flow flows/chat --data data/sample/test.jsonl "
    "--column-mapping question='${data.question}' chat_history='${data.chat_history}' "
    "--connections chat.connection=phi-base --name first"
)
def create(  # noqa: PLR0913, PLR0917  # the options of a command are its parameters
    flow: Annotated[Path, typer.Option(exists=True, help="The flow's folder, or its YAML file.")],
    data: Annotated[
        Path | None,
        typer.Option(exists=True, help="JSONL, CSV, TSV or JSON."),
    ] = None,
    column_mapping: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT=VALUE…",
            help="Which column is which input of the flow: question='${data.question}', also "
            "'${run.outputs.…}', '${run.inputs.…}', '${run.nodes.NODE}' or a constant. Several "
            "values, or repeated.",
        ),
    ] = None,
    run: Annotated[str, typer.Option(help="A run whose outputs are evaluated.")] = "",
    connections: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE.INPUT=NAME…",
            help="Another connection than the flow's: chat.connection=phi-base.",
        ),
    ] = None,
    variant: Annotated[str, typer.Option(help="'${NODE.VARIANT}', as '${chat.varied}'.")] = "",
    name: Annotated[str, typer.Option("--name", "-n", help="The run's; else flow and time.")] = "",
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Lines in flight: what the endpoint takes at once.")
    ] = 16,
    max_error_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Exit 1 when a larger share of lines failed.")
    ] = 0.05,
    as_json: AsJson = False,
) -> None:
    """Run a flow over data as pf run create does, the lines on threads of this process.

    pf run list, show-details, show-metrics and visualize know the run like any other.
    """
    if data is None and not run:
        raise FixableError("there is nothing to run the flow over", "name --data, --run or both")
    _refuse_other_flows(flow)
    flow_run = FlowRun(
        name or free_name(f"{flow.resolve().name}-{datetime.now():%Y%m%d-%H%M%S}"),
        flow,
        data,
        _pairs("--column-mapping", column_mapping),
        run=run,
        variant=variant,
        connections=_pairs("--connections", connections),
    )
    show_result(flow_run, workers, max_error_rate, as_json)


def show_result(flow_run: FlowRun, workers: int, max_error_rate: float, as_json: bool) -> None:
    """Run ``flow_run`` and print how its lines ended.

    Raises:
        FixableError: promptflow refused it, or more lines failed than ``max_error_rate``.
        Interrupted: Ctrl-C.
    """
    flow_run, total = prepare(flow_run)
    tally, started = Tally(), time.monotonic()
    details = f"pf run show-details --name {flow_run.name}"
    again = f"{details}, python -m setup doctor"
    metrics = run_watched(
        flow_run, f"Running {flow_run.name}", total, workers, {}, [tally.see], again=again
    )
    seconds = time.monotonic() - started
    lines = tally.ok + tally.error
    _refuse_nothing_ran(flow_run, tally, again)
    counts: dict[str, Any] = {"n": lines, "ok": tally.ok, "error": tally.error}
    rate = lines / seconds
    content = {"name": flow_run.name, **counts, "seconds": seconds, "lines_per_second": rate}
    told = " ".join(f"{key}={value}" for key, value in counts.items())
    text = f"run {flow_run.name}: {told} {rate:.1f} lines/s"
    show({**content, "metrics": metrics}, text, as_json)
    if tally.error > max_error_rate * lines:
        raise FixableError(
            f"{tally.error / lines:.1%} of the lines of run {flow_run.name} failed, more than "
            f"--max-error-rate {max_error_rate:.1%}, the last with {tally.last_error}",
            f"{details}; pf run create --resume-from {flow_run.name} runs those lines again",
        )
    console.err.print(details, markup=False)


def _refuse_other_flows(flow: Path) -> None:
    """Only a graph has lines that can share a process as they are."""
    path = flow / _DAG if flow.is_dir() else flow
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        content = None
    if not isinstance(content, dict) or "nodes" not in content:
        raise FixableError(f"{path} is no flow with nodes", "name one, or use pf run create")


def _refuse_nothing_ran(flow_run: FlowRun, tally: Tally, fix: str) -> None:
    if not tally.ok:
        what = f"every line of run {flow_run.name} failed ({tally.error} of {tally.error})"
        raise FixableError(f"{what}, the last with {tally.last_error}", fix)


def _pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise FixableError(f"{option} {text!r} is not NAME=VALUE", f"see {option} in --help")
        pairs[key] = value
    return pairs


def repeat_options(arguments: Sequence[str]) -> list[str]:
    """``--option a=1 b=2``, which ``pf`` takes, as the ``--option a=1 --option b=2`` of typer."""
    repeated: list[str] = []
    option = ""
    for word in arguments:
        if word.startswith("-"):
            option = word if word in _PAIRS else ""
        elif option and repeated[-1] != option:
            repeated.append(option)
        repeated.append(word)
    return repeated


def main() -> None:
    """Run the command; what the user can fix is one line and exit 1, Ctrl-C is exit 130."""
    try:
        app(repeat_options(sys.argv[1:]), prog_name="python -m evaluation.batch")
    except FixableError as error:
        show_error(error)
        raise SystemExit(1) from None
    except Interrupted as run:
        # No fix to name: promptflow resumes only what came to its end.
        details = f"pf run show-details --name {run}"
        console.err.print(f"interrupted; what was answered: {details}", markup=False)
        raise SystemExit(_INTERRUPTED) from None
