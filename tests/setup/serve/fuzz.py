"""Requests that nobody thought of, made of the endpoint's own OpenAPI by schemathesis.

None may be answered with 5xx, with a status that is not documented, or with an answer that is not
of its schema.

Example: python -m tests.setup.serve.fuzz --minutes 10 --seed 1
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from setup.recipe.load import load_recipe
from setup.weights.fetch import prepare_model
from tests.home import Home
from tests.setup.serve.clients import environment

# Of what an endpoint must keep to. A rule about two fields has no place in a schema, so a request
# that is of the schema may be refused, with 400.
_CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "response_headers_conformance"),
)
# The key comes from the environment: no command line shows it.
_SETTINGS = """\
headers = { Authorization = "Bearer ${ENDPOINT_KEY}" }

[generation]
allow-x00 = true
"""


def fuzz(home: Home, folder: Path, seconds: float, seed: int) -> subprocess.CompletedProcess[str]:
    """Run schemathesis against ``home`` for so long, its files in ``folder``."""
    (folder / "schemathesis.toml").write_text(_SETTINGS, encoding="utf-8")
    command = [
        *(environment.folder_of("schemathesis") / "schemathesis", "--no-color"),
        *("--config-file", folder / "schemathesis.toml", "run", f"{home.url}/swagger.json"),
        *("--checks", ",".join(_CHECKS), "--seed", seed, "--max-time", int(seconds)),
        *("--max-examples", 100_000, "--request-timeout", 120, "--warnings", "off"),
    ]
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | {"ENDPOINT_KEY": home.key(), "HYPOTHESIS_STORAGE_DIRECTORY": str(folder)},
        capture_output=True,
        encoding="utf-8",
        timeout=seconds + 240,
        check=False,
    )


def main() -> None:
    """Deploy an endpoint of its own and ask it; exit 1 with what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    models = prepare_model(load_recipe("laptop", []).model).parent
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder), models, sets=["model.context_window=512"])
        done = home.setup("deploy")
        if done.returncode:
            raise SystemExit(done.stderr)
        try:
            done = fuzz(home, home.path, given.minutes * 60, given.seed)
        finally:
            home.setup("stop")
    print(done.stdout)
    raise SystemExit(done.returncode and 1)


if __name__ == "__main__":
    main()
