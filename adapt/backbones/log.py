"""What transformers logs while it loads: kept from the user, or looked at for what went wrong."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def failures() -> Iterator[list[str]]:
    """Last lines of the tracebacks that transformers logs where converting a weight fails, before it raises its own."""
    logger, causes = logging.getLogger("transformers.modeling_utils"), list[str]()

    def keep(record: logging.LogRecord) -> bool:
        causes.extend(re.findall(r"^[\w.]+(?:Error|Exception)\b.*", record.getMessage(), re.MULTILINE))
        return record.levelno > logging.WARNING

    level = logger.level
    logger.setLevel(logging.WARNING)
    logger.addFilter(keep)
    try:
        yield causes
    finally:
        logger.removeFilter(keep)
        logger.setLevel(level)


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and its report on a missing head, which is meant to be missing."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
