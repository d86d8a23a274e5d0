"""One llama.cpp engine in a process of its own: ``python -m setup.serve.engine_process``.

Reads one JSON line with its parameters from stdin (the key never stands on a command line), prints
one JSON line with the address it serves at, and lives until stdin closes: whatever happens to the
endpoint, no engine is left behind.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

# Bytes in which a file's metadata and tensor names lie: 200,000 tokens take 8 MiB.
_METADATA_WITHIN = 128 << 20
_PADDED_TO = 256  # tokens
_UINT32 = 4  # the type of a value: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md


def start_engine(order: dict[str, Any]) -> Any:
    """Load the model and serve it on a free loopback port; returns the running server.

    ``order`` holds ``model_path``, ``name``, ``key``, ``context_window``, ``slots``, ``threads``,
    and may hold ``lora_path``, an adapter to load beside the model.
    """
    # OpenMP threads that spin for long starve whatever else runs on the machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = order["model_path"]
    if order.get("lora_path"):
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(order["lora_path"], 1.0)]
    params.model_alias = {order["name"]}
    params.api_keys = [order["key"]]
    params.n_parallel = order["slots"]
    params.n_ctx = order["context_window"] * order["slots"]
    # With a cache for each slot, a batch of slots that are not neighbours is computed in pieces,
    # at two thirds of the speed. A cache that all share is longer, though, and may be so long that
    # llama.cpp takes the long rotary factors for conversations that need the short ones.
    short = short_context(Path(order["model_path"]))
    if not order["context_window"] <= short < params.n_ctx:
        params.kv_unified = True
        params.kv_unified_per_slot = order["context_window"]
    if _holds(Path(order["model_path"]), b"enable_thinking"):
        # The answers that are learnt hold no thoughts, and training renders them so.
        params.default_template_kwargs = {"enable_thinking": "false"}
    params.n_threads_http = order["slots"] + 4
    params.cpuparams.n_threads = order["threads"]
    params.cpuparams_batch.n_threads = order["threads"]
    params.cache_ram_mib = 0
    params.ctx_shift = False
    params.ui = False
    params.verbosity = 1
    params.port = 0
    return xllamacpp.Server(params)


def short_context(path: Path) -> int:
    """The longest context for which llama.cpp takes a file's short rotary factors, 0 without any.

    Only bytes are searched: reading all metadata takes seconds, hardly a file has such factors, and
    a container has no reader.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        if content.find(b"rope_factors_short", 0, _METADATA_WITHIN) >= 0:
            for key in (b".rope.scaling.original_context_length", b".context_length"):
                place = content.find(key + struct.pack("<I", _UINT32), 0, _METADATA_WITHIN)
                if place >= 0:
                    return int(struct.unpack_from("<I", content, place + len(key) + 4)[0])
    return 0


def _holds(path: Path, words: bytes) -> bool:
    """Tell whether the metadata of the file have ``words`` in them; its chat template, mostly."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return content.find(words, 0, _METADATA_WITHIN) >= 0


def takes_long_factors(path: Path, context_window: int) -> bool:
    """True where llama.cpp takes the file's long rotary factors for such conversations."""
    short = short_context(path) if path.is_file() else 0
    return 0 < short < padded(context_window)


def padded(context_window: int) -> int:
    """The length of context that llama.cpp makes of ``context_window``."""
    return -(-context_window // _PADDED_TO) * _PADDED_TO


def main() -> None:
    """Serve until stdin closes."""
    # Ctrl-C and service managers signal the whole group; the endpoint drains and then closes stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    order = json.loads(sys.stdin.readline())
    server = start_engine(order)
    print(json.dumps({"url": server.listening_address}), flush=True)  # noqa: T201 - the protocol
    sys.stdin.read()
    # The C++ threads may be deep in a generation nobody waits for any more.
    os._exit(0)


if __name__ == "__main__":
    main()
