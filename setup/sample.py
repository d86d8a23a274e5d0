"""``python -m setup.sample``, the former name of ``python -m setup.data.sample``."""

from __future__ import annotations

import sys

from setup.data.sample.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
