"""placeholder"""

import os


def connection_values(name):
    return {"endpoint": os.environ["PHI_ENDPOINT"], "key": os.environ["PHI_KEY"]}
