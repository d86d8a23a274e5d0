"""llama.cpp with an adapter beside its model, told and stopped as our engine process is.

``python -m tests.export.lora_engine``: one JSON line in, one out, until stdin closes.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Serve ``model_path`` with the adapter ``lora_path``."""
    import xllamacpp

    order = json.loads(sys.stdin.readline())
    params = xllamacpp.CommonParams()
    params.model.path = order["model_path"]
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(order["lora_path"], 1.0)]
    params.api_keys = [order["key"]]
    params.n_parallel = 1
    params.n_ctx = order["context_window"]
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.cache_ram_mib = 0
    params.verbosity = 1
    params.port = 0
    server = xllamacpp.Server(params)
    print(json.dumps({"url": server.listening_address}), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
