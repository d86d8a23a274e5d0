"""The old command ``python -m evaluation.batch``: it says what replaces it."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.exit(
        "error: python -m evaluation.batch is gone. Fix: python -m evaluation run CONNECTION, "
        "which asks as fast and can be resumed; any other flow: pf run create, the same options"
    )
