"""Measures of heads over many texts, with the maps of the first of them in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapt.extraction.attention import Attention, each_attention
from adapt.extraction.maps import page_bytes, write_maps
from adapt.extraction.measures import HeadMeasures, heads
from adapt.fields import check_count
from adapt.files import output_file, write_atomically

_MOST = {".html": 20_000_000, ".json": 160_000_000}
"""Most bytes of maps in a file, which has the first text's in any case; of a page, what a browser opens at once."""


def report_heads(
    source: Any, rows: Any, target: str | Path | None = None, *, max_rows: int = 10, **options: Any
) -> tuple[HeadMeasures, int]:
    """Measure the heads over all rows, and write the maps of the first: as many as make a page of some 20 MB.

    Args:
        source: As for `each_attention`.
        rows: As for `each_attention`.
        target: `.html`, a page of maps; or `.json`, an object with `heads`, what `HeadMeasures.to_json` gives, and
            `maps`, what `Attention.to_json` gives of each text, in up to some 160 MB. None: nothing is written.
        max_rows: Most rows whose maps are written.
        options: As for `each_attention`.

    Returns:
        The measures, and of how many rows maps were written.

    Raises:
        OptionError: The file cannot be written, or `max_rows` is below 1.
        AdaptError: The source, a row or an option cannot be used.
    """
    check_count("max_rows", max_rows)
    path = None if target is None else output_file(target, tuple(_MOST), rows)
    kept: list[Attention] = []

    def seen() -> Iterator[Attention]:
        room = 0 if path is None else _MOST[path.suffix]
        for number, attention in enumerate(each_attention(source, rows, **options)):
            if path is not None and number < max_rows:
                room -= _bytes(attention, path.suffix)
                if room >= 0 or not number:
                    kept.append(attention)
            yield attention

    measures = heads(seen())
    if path is not None and path.suffix == ".html":
        write_maps(kept, path, title=f"Attention of {measures.source}")
    elif path is not None:
        content = {"heads": measures.to_json(), "maps": [attention.to_json() for attention in kept]}
        write_atomically(path, json.dumps(content, ensure_ascii=False) + "\n")
    return measures, len(kept)


def _bytes(attention: Attention, suffix: str) -> int:
    """About how many a text's maps are in a file."""
    return page_bytes(attention) if suffix == ".html" else attention.weights.size * len("0.123456, ")
