"""What some tests need and a machine may lack: they skip, or fail where `ADAPT_REQUIRE_DATA` is set, as in CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """End a test that cannot be done."""
    if os.environ.get("ADAPT_REQUIRE_DATA"):
        pytest.fail(what)
    pytest.skip(what, allow_module_level=True)


def package(name: str) -> None:
    """End a test where a package is not installed."""
    try:
        __import__(name)
    except ImportError:
        lacking(f"the package {name} is not installed")
