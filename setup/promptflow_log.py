"""What promptflow says on the terminal, where ours is the one line that is printed."""

from __future__ import annotations

import logging


def quieten_promptflow() -> None:
    """Keep promptflow's loggers from the terminal; a run's own log keeps every word."""
    from promptflow._utils.logger_utils import LoggerFactory  # noqa: PLC0415 - two seconds

    for logger in LoggerFactory._existing_loggers:
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setLevel(logging.CRITICAL + 1)
