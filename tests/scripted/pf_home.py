"""A Prompt flow home of the tests' own: nothing of the user's, no network."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path


@functools.cache
def isolated_home() -> Path:
    """Point promptflow and its keyring at a temporary folder, once per process.

    promptflow reads its variables when it is first imported: every conftest that uses it calls this
    first. Child processes inherit them.
    """
    if "promptflow" in sys.modules:
        raise RuntimeError("promptflow was imported before isolated_home(): it would use ~")
    home = Path(tempfile.mkdtemp(prefix="pf-home-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ |= {
        "PF_HOME_DIRECTORY": str(home),
        "PF_TRACING_SKIP_LOCAL_SETUP": "true",
        "PF_WORKER_COUNT": "2",
        "PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring",
        "KEYRING_PROPERTY_FILE_PATH": str(home / "keyring.cfg"),
    }
    checked = {"last_check_time": str(datetime.now()), "latest_version": "0"}
    (home / "pf_version_check.json").write_text(json.dumps(checked))
    (home / "pf.yaml").write_text(
        "cli: {installation_id: 00000000-0000-0000-0000-000000000000}\n"
        "telemetry: {enabled: false}\ntrace: {destination: none}\n"
    )
    return home
