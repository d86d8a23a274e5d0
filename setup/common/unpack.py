"""Files that are packed with gzip or Zstandard, read as if they were not, at constant memory."""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from setup.common.errors import FixableError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PACKINGS = {".gz": "gzip", ".zst": "Zstandard"}


def is_packed(path: Path) -> bool:
    """Tell whether the name says so."""
    return path.suffix.lower() in PACKINGS


def plain_suffix(path: Path) -> str:
    """The suffix in small letters that the file has once it is unpacked."""
    return (Path(path.stem) if is_packed(path) else path).suffix.lower()


def open_unpacked(path: Path) -> BinaryIO:
    """The unpacked bytes of a file, for reading.

    Raises:
        FixableError: While it is read, that it is not whole.
    """
    return io.BufferedReader(_Unpacked(path), 1 << 16) if is_packed(path) else path.open("rb")


def unpacked_copy(path: Path) -> Path | IO[bytes]:
    """A file to read here and there: ``path``, or a copy without a name of what is packed in it."""
    if not is_packed(path):
        return path
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the reader holds it, and with it it is gone
    with open_unpacked(path) as packed:
        shutil.copyfileobj(packed, copy)
    copy.seek(0)
    return cast(IO[bytes], copy)


class _Unpacked(io.RawIOBase):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._packing = path, PACKINGS[path.suffix.lower()]
        self._stream = _stream(path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        room = memoryview(buffer).cast("B")
        try:
            data = self._stream.read(len(room))
        except (EOFError, zlib.error, ValueError) as error:
            raise self._broken(error) from None
        except OSError as error:
            if error.errno:
                raise
            raise self._broken(error) from None
        room[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()

    def _broken(self, error: Exception) -> FixableError:
        why = str(error).split("\n", maxsplit=1)[0].rstrip(".")
        return FixableError(
            f"{self._path} is not whole as {self._packing} ({why})", "pack it again, or unpack it"
        )


def _stream(path: Path) -> Any:
    if path.suffix.lower() == ".gz":
        return gzip.open(path)
    import pyarrow as pa

    return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
