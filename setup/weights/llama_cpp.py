"""llama.cpp asked by itself: an engine process of ours, and a file with a vocabulary alone."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from setup.common.paths import REPOSITORY
from setup.weights.gguf_file import Header, write_data

Ask = Callable[[str, dict[str, Any]], dict[str, Any]]
_WIDTH = 32  # of the model around a vocabulary: the least that llama.cpp computes


class NoAnswerError(Exception):
    """llama.cpp does not load the file, or answers with an error; in words after "of which"."""


@contextmanager
def asked(model: Path, adapter: Path | None = None) -> Iterator[Ask]:
    """llama.cpp with ``model`` and ``adapter`` loaded; asked by route and body.

    Raises:
        NoAnswerError: It does not load them, or whatever is asked fails.
    """
    key = secrets.token_urlsafe(24)
    order: dict[str, Any] = {"model_path": str(model), "name": "asked", "key": key, "threads": 1}
    order |= {"context_window": 512, "slots": 1} | ({"lora_path": str(adapter)} if adapter else {})
    command = [sys.executable, "-m", "setup.serve.engine_process"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    pipes["stderr"] = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=REPOSITORY, **pipes) as process:
        try:
            url = _url(process, order)
            yield lambda route, body: _post(f"{url}{route}", key, body)
        except (urllib.error.URLError, KeyError, IndexError) as error:
            raise NoAnswerError(f"llama.cpp gives no answer ({error})") from None
        finally:
            process.kill()


def _url(process: subprocess.Popen[str], order: dict[str, Any]) -> str:
    try:
        if process.stdin is None or process.stdout is None:
            raise OSError("the engine process has no pipes")
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        return str(json.loads(process.stdout.readline())["url"])
    except (ValueError, OSError):
        raise NoAnswerError("llama.cpp does not load the file") from None


def _post(url: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=300) as reply:  # noqa: S310
        return dict(json.load(reply))


def write_vocabulary(header: Header, target: Path) -> None:
    """Write a model of one tiny layer with the tokenizer and chat template of another.

    llama.cpp makes the same prompts and tokens of it, without loading gigabytes.
    """
    import gguf

    writer = gguf.GGUFWriter(target, "llama")
    for name, field in header.reader.fields.items():
        if name.startswith("tokenizer."):
            is_array = field.types[0] == gguf.GGUFValueType.ARRAY
            element = field.types[-1] if is_array else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=element)
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_WIDTH)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH)
    tokens = len(header.reader.fields["tokenizer.ggml.tokens"].data)
    matrices = {"blk.0.attn_output", "blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v"}
    matrices |= {"blk.0.ffn_gate", "blk.0.ffn_up", "blk.0.ffn_down"}
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (tokens, _WIDTH)}
    shapes |= dict.fromkeys(sorted(matrices), (_WIDTH, _WIDTH))
    shapes |= dict.fromkeys(("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"), (_WIDTH,))
    arrays = {
        f"{name}.weight": np.zeros(shape, np.float16 if len(shape) > 1 else np.float32)
        for name, shape in shapes.items()
    }
    for name, array in arrays.items():
        writer.add_tensor_info(name, array.shape, array.dtype, array.nbytes)
    write_data(writer, arrays.values())
