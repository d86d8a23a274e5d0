"""`data` writes over nothing but its own work, alone, and a run that fails loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.home import ROOT
from tests.setup.command import Ended, lamps, options, prepare, prepared, rows, run, write

OURS = ["data.manifest.json", "test_data.jsonl", "train_data.jsonl"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def itself(folder: Path) -> str:
    return str(folder / "train_data.jsonl")


def by_detour(folder: Path) -> str:
    (folder / "sub").mkdir()
    return str(folder / "sub" / ".." / "train_data.jsonl")


def relative(folder: Path) -> str:
    return os.path.relpath(folder / "train_data.jsonl")


def symbolic(folder: Path) -> str:
    (folder / "mine.jsonl").symlink_to(folder / "train_data.jsonl")
    return str(folder / "mine.jsonl")


def through_a_linked_folder(folder: Path) -> str:
    folder.with_name("link").symlink_to(folder)
    return str(folder.with_name("link") / "train_data.jsonl")


def hard(folder: Path) -> str:
    (folder / "mine.jsonl").hardlink_to(folder / "train_data.jsonl")
    return str(folder / "mine.jsonl")


def around(folder: Path) -> str:
    return str(folder)


def further_around(folder: Path) -> str:
    return str(folder.parent)


SOURCES: list[Callable[[Path], str]] = [
    itself,
    by_detour,
    relative,
    symbolic,
    through_a_linked_folder,
    hard,
    around,
    further_around,
]


@pytest.mark.parametrize("source", SOURCES)
def test_source_is_never_written_over(tmp_path: Path, source: Callable[[Path], str]) -> None:
    folder = tmp_path / "in" / "data"
    given = write(folder / "train_data.jsonl", *lamps()).read_bytes()
    named = source(folder)
    before = names(folder)
    line = prepare(named, folder).error
    assert "--set data.out=" in line
    assert names(folder) == before
    assert (folder / "train_data.jsonl").read_bytes() == given
    # The fix, followed to the letter.
    free = line.rpartition("--set data.out=")[2]
    assert prepare(named, tmp_path / "out" / free, split="train").code == 0
    assert (folder / "train_data.jsonl").read_bytes() == given


@pytest.mark.parametrize("name", ["test_data.jsonl", "train_data.jsonl", "data.rejects.jsonl"])
def test_file_of_the_users_is_never_written_over(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / "mine.jsonl", *lamps())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text("mine")
    line = prepare(source, tmp_path / "data").error
    assert f"{tmp_path / 'data' / name} would be overwritten" in line
    assert names(tmp_path / "data") == [name]
    assert (tmp_path / "data" / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["test_data.jsonl", "train_data.jsonl", "data.rejects.jsonl"])
def test_edited_output_is_kept_under_another_name(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    source = write(tmp_path / "mine.jsonl", *lamps(), [])
    assert prepare(source, out).code == 0
    (out / name).write_text("by hand\n")
    done = prepare(source, out, seed=1)
    assert f"{out / name} was edited after `data` wrote it: kept as {name}.edited-1" in done.err
    assert (out / f"{name}.edited-1").read_text() == "by hand\n"
    assert len(prepared(out)) == 24


def test_own_work_is_written_over_without_a_word(tmp_path: Path) -> None:
    source = write(tmp_path / "mine.jsonl", *lamps())
    for seed in range(3):
        done = prepare(source, tmp_path / "out", seed=seed)
        assert (done.code, "note" in done.err) == (0, False)
    assert names(tmp_path / "out") == OURS
    write(source, [])  # a failure, its reasons left
    assert prepare(source, tmp_path / "out").code == 1
    write(source, *lamps(30))
    assert prepare(source, tmp_path / "out").code == 0
    assert names(tmp_path / "out") == OURS


SLOW = """
import sys
from pathlib import Path
from setup.data import prepare
from setup.cli import main as cli
split = prepare._Writer._split
def waits(*given):
    print("writing", flush=True)
    sys.stdin.readline()
    return split(*given)
prepare._Writer._split = waits
sys.argv = ["setup", *sys.argv[1:]]
cli.main()
"""


def slow(source: Path, out: Path) -> subprocess.Popen[str]:
    """A run that is in the middle of writing, and waits for a line on stdin."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "data", *options(source=source, out=out)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "writing\n"
    return process


def test_second_run_in_one_folder_waits_its_turn(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = write(tmp_path / "first.jsonl", *lamps())
    second = write(tmp_path / "second.jsonl", *lamps(40)[24:])
    with slow(first, out) as process:
        line = prepare(second, out).error
        assert f"process {process.pid}" in line
        assert "wait until it has ended" in line
        assert prepare(second, tmp_path / "other").code == 0
        process.communicate("\n")
    assert process.returncode == 0
    assert len(prepared(out)) == 24
    assert names(out) == OURS
    assert prepare(second, out).code == 0
    assert len(prepared(out)) == 16


def test_killed_run_blocks_nobody_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    source = write(tmp_path / "mine.jsonl", *lamps())
    with slow(source, out) as process:
        process.kill()
    assert len(names(out)) == 4, "three drafts and the lock"
    assert all(name.endswith(".partial") for name in names(out))
    assert prepare(source, out).code == 0
    assert names(out) == OURS


def limited(largest: int, *arguments: str) -> Ended:
    """The command, every write beyond ``largest`` bytes of a file failing as on a full disk."""
    code = (
        "import resource, sys; from setup.cli import main as cli;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({largest}, {largest}));"
        "sys.argv[0] = 'setup'; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")
@pytest.mark.parametrize("largest", [0, 100, 4000])
def test_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, largest: int) -> None:
    out = tmp_path / "out"
    prepare(write(tmp_path / "before.jsonl", *lamps()), out)
    before = {name: (out / name).read_bytes() for name in names(out)}
    source = write(tmp_path / "mine.jsonl", *lamps(400))
    line = limited(largest, "data", *options(source=source, out=out)).error
    assert f"cannot write to {out}: File too large" in line
    assert "free disk space" in line
    assert {name: (out / name).read_bytes() for name in names(out)} == before


AS_ANOTHER = """
import os, sys
import datasets.load, encodings.utf_8_sig, filelock, numpy, pyarrow.parquet, rich.progress
import setup.data.sources.folder
from setup.cli import main as cli
os.environ["HOME"] = "/nonexistent"
os.seteuid(65534)
sys.argv[0] = "setup"
cli.main()
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root becomes another")
@pytest.mark.parametrize(
    ("closed", "says"),
    [
        ("out", "Fix: make it a folder of yours, or --set data.out="),
        ("mine.jsonl", "cannot read"),
        ("in", "cannot read"),
        ("in/mine.jsonl", "cannot read"),
        ("", ""),
    ],
)
def test_missing_right_is_one_line(closed: str, says: str) -> None:
    """With the files of another user; without a closed one, a folder is read without a home."""
    with tempfile.TemporaryDirectory() as name:  # not pytest's, which nobody else may enter
        folder = Path(name)
        folder.chmod(0o755)
        write(folder / "mine.jsonl", *lamps())
        write(folder / "in" / "mine.jsonl", *lamps())
        (folder / "out").mkdir()
        (folder / "out").chmod(0o777)
        if closed:
            (folder / closed).chmod(0o555 if closed == "out" else 0)
        source = folder / ("in" if closed in {"", "in", "out"} else closed)
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER, "data", *options(source=source, out=folder / "out")],
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    ended = Ended(done.returncode, done.stdout, done.stderr)
    if closed:
        assert says in ended.error
    else:
        assert ended.code == 0, done.stderr


@pytest.mark.parametrize("place", ["a file", "under a file", "a link to nowhere"])
def test_out_that_is_no_folder_is_one_line(tmp_path: Path, place: str) -> None:
    source = write(tmp_path / "mine.jsonl", *lamps())
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "none" / "none")
    out = {"a file": "file", "under a file": "file/out", "a link to nowhere": "link"}[place]
    assert f"cannot write to {tmp_path / out}" in prepare(source, tmp_path / out).error
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("kind", ["folder", "files"])
def test_changed_content_of_a_folder_is_work_to_do(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "in"
    files = ["a.jsonl", "deep/b.jsonl"] if kind == "files" else ["a.jsonl"]
    for place, name in enumerate(files):
        write(folder / name, *lamps(48)[place * 24 : place * 24 + 24])
    out = tmp_path / "out"
    assert "(unchanged)" not in prepare(folder, out).out
    assert "(unchanged)" in prepare(folder, out).out
    changed = folder / files[-1]
    stamp = changed.stat()
    changed.write_text(changed.read_text().replace("euros", "pound"))
    os.utime(changed, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert "(unchanged)" not in prepare(folder, out).out
    assert "pound" in json.dumps(prepared(out))
    write(folder / "c.jsonl", *lamps(60)[48:])
    assert f"rows={len(prepared(out)) + 12} " in prepare(folder, out).out
    (folder / "c.jsonl").unlink()
    assert "(unchanged)" not in prepare(folder, out).out
    assert len(rows(out / "train_data.jsonl")) > 0
    assert run("data", *options(source=os.path.relpath(folder), out=out)).out.endswith(
        "(unchanged)\n"
    )
