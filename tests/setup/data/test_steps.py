"""Every step after `data` works on the data that the recipe names, or refuses."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from setup.data import DataPlan
from setup.data.plan import data_plan
from setup.data.provenance import describe_copy, prepared_split
from setup.recipe.load import load_recipe
from tests.home import ROOT
from tests.setup.command import Ended, lamps, options, prepare, prepared, run, write


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "MODELS"):
        monkeypatch.setenv(f"FINETUNE_PHI_{name}", str(tmp_path / "home"))


class Place:
    """A source with a space in its name, prepared, and the options for it."""

    def __init__(self, folder: Path) -> None:
        self.source = write(folder / "my rows.jsonl", *lamps())
        self.out = folder / "my out"
        self.given = options(source=self.source, out=self.out)
        assert prepare(self.source, self.out).code == 0

    @property
    def train(self) -> Path:
        return self.out / "train_data.jsonl"

    def planned(self, *more: str) -> Ended:
        return run("finetune", *self.given, *more, "--dry-run")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_next_command_is_right_as_it_is_printed(tmp_path: Path, place: Place) -> None:
    recipe = tmp_path / "my recipe.yaml"
    recipe.write_text(
        (ROOT / "setup/recipes/laptop.yaml").read_text().replace("seed: 0", "seed: 3")
    )
    following = run("data", "--recipe", str(recipe), *place.given).next
    assert following == ["finetune", "--recipe", str(recipe), *place.given]
    planned = run(*following, "--dry-run")
    assert f"on {place.source}: " in planned.out, planned.out + planned.err
    assert f" rows of {place.train}\n" in planned.out


def test_options_that_were_not_typed_are_not_printed() -> None:
    assert run("data").next == ["finetune"]
    assert json.loads(run("data", "--json").out)["next"] == "python -m setup finetune"


def other_source(place: Place) -> list[str]:
    other = write(place.source.with_name("other.jsonl"), *lamps(40))
    return [*place.given, *options(source=other)]


def other_folder(place: Place) -> list[str]:
    write(place.out.with_name("rows") / "a.jsonl", *lamps(40))
    return [*place.given, *options(source=place.out.with_name("rows"))]


def edited_source(place: Place) -> list[str]:
    write(place.source, *lamps(40))
    return place.given


def other_seed(place: Place) -> list[str]:
    return [*place.given, *options(seed=5)]


def other_limit(place: Place) -> list[str]:
    return [*place.given, *options(limit=20)]


def earlier_version(place: Place) -> list[str]:
    manifest = place.out / "data.manifest.json"
    note = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({"plan": {"source": "x"}, "sha256": note["sha256"]}))
    return place.given


def no_manifest(place: Place) -> list[str]:
    (place.out / "data.manifest.json").unlink()
    return place.given


def no_data(place: Place) -> list[str]:
    place.train.unlink()
    return place.given


OTHERS = [
    other_source,
    other_folder,
    edited_source,
    other_seed,
    other_limit,
    earlier_version,
    no_manifest,
    no_data,
]


@pytest.mark.parametrize("step", ["finetune", "register"])
@pytest.mark.parametrize("change", OTHERS)
def test_other_data_is_refused_and_the_fix_prepares_it(
    place: Place, change: Callable[[Place], list[str]], step: str
) -> None:
    given = change(place)
    line = run(step, *given).error
    assert str(place.out) in line
    fix = line.partition("Fix: ")[2].partition(", ")[0]
    following = run(*shlex.split(fix.removeprefix("python -m setup "))).next
    assert following[0] == "finetune"
    planned = run(*following, "--dry-run")
    assert "but first" not in planned.out
    assert "\non " in planned.out
    if step == "register" and change is not no_manifest:
        assert "python -m setup finetune --set" in line


def test_plan_says_what_is_to_be_done_first(place: Place) -> None:
    other_seed(place)
    assert "but first: " in place.planned(*options(seed=5)).out


def test_source_that_is_gone_is_said(place: Place) -> None:
    place.source.unlink()
    assert f"; {place.source} itself is not there any more\n" in place.planned().out


def test_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    file = write(tmp_path / "in" / "a.jsonl", *lamps())
    assert prepare(file.parent, tmp_path / "out").code == 0
    given = options(source=file.parent, out=tmp_path / "out")
    assert "there any more" not in run("finetune", *given, "--dry-run").out
    file.unlink()
    file.parent.rmdir()
    assert "itself is not there any more\n" in run("finetune", *given, "--dry-run").out


def test_file_that_was_edited_is_said(place: Place) -> None:
    place.train.write_text(place.train.read_text().replace("euros", "pounds"))
    assert "; edited since `data` wrote it\n" in place.planned().out
    assert "edited" in place.planned(*options(source=os.path.relpath(place.source))).out


def test_sample_beside_data_of_ones_own_is_said(place: Place) -> None:
    chosen = options(out=place.out, source="sample")
    planned = run("finetune", *chosen, "--dry-run").out
    assert f"not the data of {place.source} in {place.out}, which --set" in planned
    option = shlex.split(planned.partition("which --set ")[2])[0]
    assert (
        f"on {place.source}: "
        in run("finetune", *options(out=place.out), "--set", option, "--dry-run").out
    )


@pytest.mark.parametrize("command", ["data", "finetune", "register", "inspect"])
def test_source_that_a_later_command_leaves_out_is_asked_for(place: Place, command: str) -> None:
    ended = run(*command.split(), *options(out=place.out))
    assert ended.code == 1
    line = ended.err.strip().splitlines()[-1]
    assert f"{place.out} holds the data of {place.source}, the recipe says sample" in line
    options_of_fix = [*shlex.split(line.replace(",", " ").partition("same command with ")[2])]
    assert options_of_fix[:2] == ["--set", f"data.source={place.source}"]
    assert "--set data.source=sample for the sample" in line


def test_other_source_of_a_recipe_is_no_choice_either(place: Place, tmp_path: Path) -> None:
    """The fix of a recipe with a source of its own keeps the one that was prepared."""
    recipe = tmp_path / "mine.yaml"
    text = (ROOT / "setup/recipes/laptop.yaml").read_text()
    other = write(tmp_path / "other.jsonl", *lamps(40))
    recipe.write_text(text.replace("source: sample", f"source: {other}"))
    ended = run("finetune", "--recipe", str(recipe), *options(out=place.out))
    assert ended.code == 1
    assert f"the same command with --set 'data.source={place.source}', or for other" in ended.err


def test_evaluation_asks_the_test_split_of_the_recipes_data(place: Place) -> None:
    other = write(place.source.with_name("other.jsonl"), *lamps(40))
    done = subprocess.run(
        [sys.executable, "-m", "evaluation", "run", *place.given, *options(source=other)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert f"{place.out} holds the data of {place.source}, the recipe says {other}" in line
    fix = line.partition("Fix: python -m setup ")[2].partition(", or")[0]
    assert run(*shlex.split(fix)).code == 0
    plan = data_plan(load_recipe("laptop", [f"data.source={other}", f"data.out={place.out}"]))
    assert prepared_split(plan, "test").file == place.out / "test_data.jsonl"
    assert len(prepared(place.out)) == 40


def test_copy_for_another_machine_tells_no_path_of_this_one(tmp_path: Path, place: Place) -> None:
    split = prepared_split(DataPlan(source=str(place.source), out=place.out), "train")
    there = DataPlan(source="a data asset", out=tmp_path / "job")
    describe_copy(there, split)
    (there.out / "train_data.jsonl").write_bytes(split.file.read_bytes())
    copied = prepared_split(there, "train")
    assert (copied.source, copied.remarks) == ("my rows.jsonl", ())
    assert copied.facts["source_sha256"] == split.facts["source_sha256"]
    assert str(tmp_path) not in (there.out / "data.manifest.json").read_text().replace(
        str(there.out), ""
    )
