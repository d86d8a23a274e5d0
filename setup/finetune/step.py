"""The step ``finetune``; alone it is the target ``job``, which a machine in Azure trains by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from setup.common.checks import Check, environment_checks
from setup.common.console import err
from setup.common.errors import FixableError
from setup.common.step import Result, Step
from setup.data import prepared_split
from setup.data.plan import data_plan
from setup.finetune.forecast.preview import preview_lines
from setup.finetune.run.job_curve import COMMAND, is_in_job
from setup.finetune.run.live import UNSHOWN, Shown
from setup.finetune.run.run import finetune
from setup.finetune.run.run_folder import finished, run_folder
from setup.recipe.local import Training
from setup.weights.base import Base
from setup.weights.fetch import model_path, model_sha256, prepare_model

HELP = "Fine-tune the recipe's model on the train split; goes on where it was stopped."


def plan(training: Training) -> list[str]:
    """Return the things that ``run`` would do, a line each."""
    settings, train = training.finetune, data_plan(training).paths.train
    layers = f"the top {settings.layers}" if settings.layers else "all"
    what = f"LoRA of rank {settings.rank} on {layers} layers, {settings.epochs} epochs of {train}"
    path = model_path(training.model)
    if not train.is_file():
        return [what, *preview_lines(training)]
    try:
        split = prepared_split(data_plan(training), "train")
    except FixableError as error:
        return [what, f"but first: {error.named(training.options)}"]
    if not path.is_file():
        return [what, f"on {split}", *preview_lines(training)]
    folder, _ = run_folder(training, model_sha256(path), train)
    if finished(folder):
        return [f"{what}, in {folder} (done)", f"on {split}"]
    return [f"{what}, in {folder}", f"on {split}", *preview_lines(training)]


def run(training: Training, shown: Shown = UNSHOWN) -> Result:
    """Fine-tune, or find it done; FixableError: as :func:`setup.finetune.run.run.finetune`.

    Its curve is ``shown`` while it trains.
    """
    split = prepared_split(data_plan(training), "train")
    path = prepare_model(training.model)
    base = Base(path, model_sha256(path), training.finetune.base, training.model.source)
    done = finetune(training, base, split, shown)
    if not done.changed:
        err.print(f"trained on {split}", markup=False)
    figures = done.result
    detail = (
        f"on {split.source}: held-out loss {figures['held_out_loss_before']:.3f} -> "
        f"{figures['held_out_loss_after']:.3f}, on general text "
        f"{figures['general_loss_before']:.3f} -> {figures['general_loss_after']:.3f}; "
        f"{figures['steps']} steps, {figures['seconds'] / 60:.1f} minutes, "
        f"{figures['tokens_per_second']:.0f} tok/s in {figures['precision']}; {done.folder}"
    )
    return Result("finetune", done.changed, detail, training.command("register"))


def _run_in_job(training: Training) -> Result:
    return run(training, Shown(COMMAND) if is_in_job() else UNSHOWN)


STEPS = [Step("finetune", HELP, plan, _run_in_job)]


@contextmanager
def session(training: Training, _: bool = False, /) -> Iterator[Training]:
    """Nothing stays and nothing is asked: the recipe is all that the step shares."""
    yield training


def doctor(_: Training) -> Iterator[Check]:
    """Find what would fail later."""
    return environment_checks()
