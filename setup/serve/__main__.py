"""Run one endpoint in the foreground: ``python -m setup.serve FOLDER``.

``python -m setup deploy`` writes the folder's settings and starts this detached.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from setup.serve.server import serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m setup.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m setup.serve ~/my-endpoint",
    )
    parser.add_argument("folder", type=Path, help="folder with endpoint.json")
    asyncio.run(serve(parser.parse_args().folder))
