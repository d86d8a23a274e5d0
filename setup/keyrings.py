"""The keyring that holds the encryption key of Prompt flow's connection store."""

from __future__ import annotations

import os

from setup.errors import FixableError

_SERVICE = "finetune-phi"


def keyring_name() -> str:
    """The backend in use, as ``module.Class``."""
    import keyring  # noqa: PLC0415 - asks the desktop's services, which takes a while

    backend = type(keyring.get_keyring())
    return f"{backend.__module__}.{backend.__name__}"


def check_keyring() -> str:
    """Store a probe and read it back; returns the backend's name and what to know of it.

    Prompt flow notices a keyring that forgets (the null backend) only when a later process cannot
    decrypt its connections any more.

    Raises:
        FixableError: The backend cannot keep a secret, or does not give it back.
    """
    import keyring  # noqa: PLC0415
    from keyring.errors import KeyringError  # noqa: PLC0415

    fix = "pip install keyrings.alt, and unset PYTHON_KEYRING_BACKEND"
    user = f"probe-{os.getpid()}"
    try:
        name = keyring_name()
        keyring.set_password(_SERVICE, user, "kept")
        kept = keyring.get_password(_SERVICE, user) == "kept"
        if kept:
            keyring.delete_password(_SERVICE, user)
    except (ImportError, AttributeError) as error:
        raise FixableError(f"PYTHON_KEYRING_BACKEND names no keyring ({error})", fix) from None
    except (KeyringError, RuntimeError, OSError) as error:
        what = f"the keyring {name} cannot keep a secret ({type(error).__name__})"
        raise FixableError(what, fix) from None
    if not kept:
        raise FixableError(f"the keyring {name} forgets what it is given", fix)
    plain = name.startswith("keyrings.alt")
    return name + (" (a file only you can read, not encrypted)" if plain else "")
