"""What the field `layers` of a strategy says, whatever the model."""

from __future__ import annotations

import re

from adapt.spec import OptionError


def uppermost(layers: str, strategy: str) -> int | None:
    """How many of the uppermost layers are meant; None: all.

    Args:
        layers: `all`, or `last:N`; N may be more than there are.
        strategy: Name for the message.

    Raises:
        OptionError: It is neither.
    """
    if layers == "all":
        return None
    found = re.fullmatch(r"last:([1-9]\d*)", layers)
    if found is None:
        raise OptionError(f"{strategy}.layers is '{layers}'; write all, or last:N for the N uppermost layers.")
    return int(found[1])
