"""The tables of a folder of results, beside them."""

from __future__ import annotations

from pathlib import Path

from adapt.comparison.store import Store
from adapt.files import write_atomically
from adapt.tables.table import Table, table_of


def write_table(store: Store, *, tuned: bool | None = None) -> Table:
    """Write `table.md` and `table.csv` of all runs of a folder, and `curve.csv` where there are learning curves; see
    `table_of` for `tuned`.

    They are made again where another comparison has written them meanwhile, whose last results were not read here.

    Raises:
        OptionError: They cannot be written.
    """
    file, table, before = store.folder / "table.md", None, None
    while table is None or before != _version(file):
        before = _version(file)
        table = table_of(store.all(), tuned=tuned)
    write_atomically(file, table.markdown())
    write_atomically(store.folder / "table.csv", table.csv())
    if points := table.curve_csv():
        write_atomically(store.folder / "curve.csv", points)
    else:
        (store.folder / "curve.csv").unlink(missing_ok=True)
    return table


def _version(file: Path) -> tuple[int, int] | None:
    """Which of the files that have this name it is now; None: there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
