"""The command line ``llm`` with the endpoint as one of its models: text, schema, tool, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MODEL = """\
- model_id: ours
  model_name: base
  api_base: "{url}/v1"
  api_key_name: ours
  supports_schema: true
  supports_tools: true
"""


def llm(folder: Path, *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    """``llm ARGUMENTS`` with its settings in ``folder``."""
    command = [sys.executable, "-m", "llm", *arguments]
    env = os.environ | {"LLM_USER_PATH": str(folder)}
    return subprocess.run(
        command, env=env, input=said, capture_output=True, text=True, timeout=120, check=False
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        text = MODEL.format(url=os.environ["ENDPOINT"])
        (home / "extra-openai-models.yaml").write_text(text, encoding="utf-8")
        (home / "keys.json").write_text(json.dumps({"ours": os.environ["ENDPOINT_KEY"]}))
        greedy = ("-m", "ours", "-o", "temperature", "0", "-o", "max_tokens", "24", "--no-log")
        whole = llm(home, "prompt", *greedy, "--no-stream", "Say hi")
        assert whole.stdout.strip(), whole.stderr
        assert llm(home, "prompt", *greedy, "Say hi").stdout == whole.stdout
        held = llm(home, "prompt", *greedy, "--schema", "age int", "Anna is 33")
        assert isinstance(json.loads(held.stdout)["age"], int), held.stderr
        tools = llm(home, "prompt", *greedy, "-T", "llm_version", "Which version is it?")
        assert tools.returncode == 0, tools.stderr
        wrong = llm(home, "prompt", *greedy, "-o", "temperature", "9", "Say hi")
        assert wrong.returncode == 1
        (home / "keys.json").write_text(json.dumps({"ours": "wrong"}))
        stranger = llm(home, "prompt", *greedy, "Say hi")
        assert "wrong key" in stranger.stderr, stranger.stderr
