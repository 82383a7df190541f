"""The page that shows attention maps: every weight, every token as text, and nothing from elsewhere."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attention_helpers import drawn, made

from adapt.extraction import write_maps
from adapt.spec import OptionError


class Page(HTMLParser):
    """The elements of a page, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.elements[-1][0], data))


HOSTILE = ("<script>alert(1)</script>", "\"'&amp;", "</table>", " ", "\n", "é")


def test_tokens_are_text_whatever_they_hold(tmp_path: Path) -> None:
    attention = made(drawn(2, 2, 6), tokens=HOSTILE)
    text = write_maps([attention], tmp_path / "maps.html", title="<b>of</b> 'me'").read_text(encoding="utf-8")
    page = Page(text)
    shown = [data for tag, data in page.texts if tag == "bdi"]
    expected = [*HOSTILE[:3], "␣", "⏎", "é"]
    assert shown == expected * 2  # columns, rows
    assert [data for tag, data in page.texts if tag in ("title", "h1")] == ["<b>of</b> 'me'"] * 2
    assert [tag for tag, _ in page.elements].count("script") == 2  # the data of one text, and what shows it
    assert "<b>" not in text


def test_the_page_asks_for_nothing(tmp_path: Path) -> None:
    text = made(drawn(1, 1, 3)).to_html(tmp_path / "maps.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\bsrc=|\bhref=", text)
    assert "color-scheme: light dark" in text


def test_the_page_holds_every_weight(tmp_path: Path) -> None:
    weights = drawn(2, 3, 4, prefix=2)
    attention = made(weights, prefix=2, layers=(1, 2))
    text = attention.to_html(tmp_path / "maps.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "prefix (2)" in [data for _, data in page.texts]
    (data,) = re.findall(r'<script type="text/plain">(.*?)</script>', text)
    found = np.frombuffer(base64.b64decode(data), dtype=np.uint8).reshape(2, 3, 4, 5) / 255
    np.testing.assert_allclose(found[..., 0], weights[..., :2].sum(-1), atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(found[..., 1:], weights[..., 2:], atol=0.5 / 255 + 1e-6)
    cells = [float(str(fields["style"]).removeprefix("opacity:")) for tag, fields in page.elements if tag == "i"]
    joined = np.concatenate([weights[..., :2].sum(-1, keepdims=True), weights[..., 2:]], -1)
    np.testing.assert_allclose(np.reshape(cells, (4, 5)), joined[-1].mean(0), atol=6e-4)


def test_a_page_has_a_part_for_each_text(tmp_path: Path) -> None:
    file = write_maps([made(drawn(1, 1, n)) for n in (2, 3)], tmp_path / "new" / "maps.html")
    page = Page(file.read_text(encoding="utf-8"))
    assert [data for tag, data in page.texts if tag == "h2"] == ["Text 1", "Text 2"]
    assert [tag for tag, _ in page.elements].count("i") == 4 + 9


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no attention map"):
        write_maps([], tmp_path / "maps.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot be written"):
        write_maps([made([[np.full((4, 4), 0.25)]])], tmp_path / "file" / "maps.html")
    broken = made(drawn(1, 1, 3), tokens=("only", "two"))
    with pytest.raises(ValueError, match="zip"):
        write_maps([broken], tmp_path / "maps.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # nothing half-written
