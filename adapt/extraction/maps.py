"""Attention maps as one HTML page that asks for nothing from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from adapt.extraction.attention import Attention
from adapt.files import path_of, whole, writable_folder
from adapt.spec import OptionError

_STEPS = 255
"""Weights are written in steps of 1/255: one byte each."""
_CELL = len('<td><i style="opacity:0.123"></i></td>')
_VISIBLE = {" ": "␣", "\t": "⇥", "\n": "⏎", "\r": "⏎"}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --mark: #0b57d0; --line: #8884; font: 14px/1.4 system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { :root { --mark: #8ab4f8; } }
body { margin: 2rem; color: CanvasText; background: Canvas; }
section { margin: 2.5rem 0; } h1 { font-size: 1.3rem; } h2 { font-size: 1rem; }
label { margin-right: 1rem; } output { font-variant-numeric: tabular-nums; }
.map { overflow: auto; margin-top: .7rem; } table { border-collapse: collapse; }
th { font-weight: normal; white-space: pre; padding: 1px 5px; }
thead th { writing-mode: vertical-rl; text-align: left; transform: rotate(180deg); padding: 5px 1px; }
tbody th { text-align: right; }
td { min-width: 18px; height: 18px; padding: 0; border: 1px solid var(--line); }
td i { display: block; height: 18px; background: var(--mark); }
td:hover { outline: 2px solid var(--mark); }
"""
_SCRIPT = """
for (const section of document.querySelectorAll('section')) {
  const bytes = Uint8Array.from(atob(section.querySelector('script').textContent), c => c.charCodeAt(0));
  const [layer, head] = section.querySelectorAll('select'), cells = section.querySelectorAll('td i');
  const [out] = section.querySelectorAll('output'), heads = head.length - 1, size = cells.length;
  const words = part => [...section.querySelectorAll(part + ' th')].map(th => th.textContent);
  const rows = words('tbody'), columns = words('thead').slice(1);
  let shown = [];
  function show() {
    const start = layer.selectedIndex * heads * size, chosen = head.selectedIndex - 1;
    shown = [...cells].map((_, i) => {
      if (chosen >= 0) return bytes[start + chosen * size + i] / 255;
      let sum = 0;
      for (let h = 0; h < heads; h++) sum += bytes[start + h * size + i];
      return sum / heads / 255;
    });
    shown.forEach((weight, i) => { cells[i].style.opacity = weight; });
    out.textContent = '';
  }
  section.addEventListener('change', show);
  section.addEventListener('mouseover', event => {
    const cell = event.target.closest('td');
    if (!cell) return;
    const i = [...cells].indexOf(cell.firstChild), n = columns.length;
    out.textContent = rows[Math.floor(i / n)] + ' → ' + columns[i % n] + ': ' + (100 * shown[i]).toFixed(0) + ' %';
  });
  layer.disabled = head.disabled = false;
  layer.selectedIndex = layer.length - 1; head.selectedIndex = 0;
  show();
}
"""


def write_maps(attentions: Sequence[Attention], file: str | Path, *, title: str = "Attention") -> Path:
    """Write attention maps as one page: a table a text, rows look at columns, with a choice of layer and head.

    All learned keys (prefix tuning) are one column, the sum of theirs. The page shows the mean over the heads of the
    last layer first; without scripts it shows this alone.

    Args:
        attentions: One or more.
        file: `.html`; appears whole or not at all.
        title: Of the page.

    Raises:
        OptionError: There is no map, or the file cannot be written.
    """
    if not attentions:
        raise OptionError("There is no attention map to be written; give at least one.")
    path = path_of(file)
    writable_folder(path.parent)
    with whole(path) as handle:
        handle.writelines(_page(attentions, title))
    return path


def page_bytes(attention: Attention) -> int:
    """About how many bytes a text's section of the page has, its tokens not counted."""
    layers, heads, tokens, keys = attention.weights.shape
    cells = tokens * (keys - attention.prefix + bool(attention.prefix))
    return cells * (layers * heads * 4 // 3 + _CELL)


def _page(attentions: Sequence[Attention], title: str) -> Iterator[str]:
    name = escape(title)
    yield (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{name}</title>\n<style>{_STYLE}</style>\n'
        f"<h1>{name}</h1>\n<p>Each row is a token, and looks at the tokens of the columns; a row sums to 100 %.</p>\n"
    )
    for i, attention in enumerate(attentions):
        yield from _section(attention, i + 1)
    yield f"<script>{_SCRIPT}</script>\n"


def _section(attention: Attention, number: int) -> Iterator[str]:
    weights, columns = attention.weights, list(attention.tokens)
    if attention.prefix:
        learned = weights[..., : attention.prefix].sum(-1, keepdims=True)
        weights = np.concatenate([learned, weights[..., attention.prefix :]], -1)
        columns.insert(0, f"prefix ({attention.prefix})")
    steps = np.rint(weights.clip(0, 1) * _STEPS).astype(np.uint8)
    yield f"<section>\n<h2>Text {number}</h2>\n"
    yield _choice("Layer", [str(layer) for layer in attention.layers], len(attention.layers) - 1)
    yield _choice("Head", ["mean", *(str(head + 1) for head in range(weights.shape[1]))], 0)
    yield '<output></output>\n<div class="map"><table>\n<thead><tr><th></th>'
    yield "".join(f'<th scope="col">{_shown(token)}</th>' for token in columns)
    yield "</tr></thead>\n<tbody>\n"
    for token, row in zip(attention.tokens, weights[-1].mean(0), strict=True):
        cells = "".join(f'<td><i style="opacity:{weight:.3f}"></i></td>' for weight in row)
        yield f'<tr><th scope="row">{_shown(token)}</th>{cells}</tr>\n'
    yield "</tbody>\n</table></div>\n"
    yield f'<script type="text/plain">{base64.b64encode(steps.tobytes()).decode()}</script>\n</section>\n'


def _choice(label: str, names: Sequence[str], first: int) -> str:
    options = (f"<option{' selected' if i == first else ''}>{name}</option>" for i, name in enumerate(names))
    return f"<label>{label} <select disabled>{''.join(options)}</select></label>\n"


def _shown(token: str) -> str:
    """A token with its white space to be seen; `bdi` keeps the order of writing within it."""
    visible = "".join(_VISIBLE.get(c, c) for c in token) if not token.strip() else token
    return f"<bdi>{escape(visible) or '∅'}</bdi>"
