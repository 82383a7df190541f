"""One JSON file a run, written atomically and read with suspicion, and the tables made from them."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from adapt.environment import code_state, versions
from adapt.files import path_of, reading, writable_folder, write_atomically
from adapt.machine import hardware
from adapt.result import Content, Result, text_of
from adapt.spec import AdaptError, OptionError, Run
from adapt.tables.damage import content_of, is_newer
from adapt.tables.table import Table, table_of

_FINAL = frozenset({"ok", "diverged"})
"""Statuses that the same run would reach again. A run that `failed` (crashed, was killed), or ran out of memory that
others may have held, is done again; an `unsupported` one where packages, hardware or this library have changed."""


_BEGINNINGS = {"table.md": b"### ", "table.csv": b"task,strategy,", "curve.csv": b"backbone,training_rows,"}
"""What the files of tables begin with."""


class Store:
    """The result files of a folder: `folder/runs/*.json`."""

    def __init__(self, folder: str | Path, *, reading: bool = False) -> None:
        """
        Args:
            folder: Made where it is not there.
            reading: The folder is there, and need not be one that can be written.

        Raises:
            OptionError: The folder cannot be written.
        """
        self.folder = path_of(folder) if reading else writable_folder(folder)
        self.runs = self.folder / "runs" if reading else writable_folder(self.folder / "runs")

    def path(self, run: Run) -> Path:
        """Where the run's result is or will be."""
        return self.runs / run.filename()

    def log(self, run: Run) -> Path:
        """Where the log of a run that failed is."""
        return self.path(run).with_suffix(".log")

    def read(self, run: Run, *, failed: bool = False) -> dict[str, Any] | None:
        """The run's result, if there is one that stands; with `failed` also one that is to be done again."""
        path = self.path(run)
        content = read_result(path, run.key()) if path.exists() else None
        if content is None:
            return None
        return content if failed or _stands(content) else None

    def write(self, result: Result) -> Path:
        """Write a result, whole or not at all.

        Raises:
            OptionError: It cannot be written.
        """
        path = self.path(result.run)
        write_atomically(path, text_of(result.to_json()))
        if result.status != "failed":
            self.log(result.run).unlink(missing_ok=True)
        return path

    def all(self) -> list[dict[str, Any]]:
        """Every result of the folder that can be read, in the order of file names.

        Of copies of one it is the file that has its name, or else the first. A file that the system does not let be
        read is left out with a warning.

        Raises:
            AdaptError: The system does not let the folder be read.
        """
        by_key: dict[str, dict[str, Any]] = {}
        with reading(f"Folder {self.runs}"):
            files = sorted(path for path in self.runs.iterdir() if path.suffix == ".json")
        for path in files:
            try:
                content = read_result(path)
            except AdaptError as error:
                warnings.warn(f"{error} Until then it is left out.", stacklevel=2)
                continue
            if content is not None and (content["key"] not in by_key or path.stem.endswith(content["key"][:12])):
                by_key[content["key"]] = content
        return list(by_key.values())

    def check_tables(self) -> None:
        """
        Raises:
            OptionError: A file that a table would be written to is none.
        """
        for name, head in _BEGINNINGS.items():
            file = self.folder / name
            with reading(f"File {file}"):
                begins = file.read_bytes() if file.exists() else b""
            if begins and not begins.startswith(head):
                raise OptionError(
                    f"{file} is no table of adapt, and would be written over; give another folder for the results."
                )

    def write_table(self, *, tuned: bool | Collection[str] | None = None) -> Table:
        """Write `table.md` and `table.csv` of all runs beside them, and `curve.csv` where there are learning curves.

        They are made again where another comparison has written them meanwhile, whose last results were not read here.

        Args:
            tuned: As for `table_of`.

        Raises:
            OptionError: They cannot be written, or something else has their names.
        """
        self.check_tables()
        file, table, before = self.folder / "table.md", None, None
        while table is None or before != _version(file):
            before = _version(file)
            table = table_of(self.all(), tuned=tuned)
            text, values, points = table.markdown(), table.csv(), table.curve_csv()
        write_atomically(file, text)
        write_atomically(self.folder / "table.csv", values)
        if points:
            write_atomically(self.folder / "curve.csv", points)
        else:
            (self.folder / "curve.csv").unlink(missing_ok=True)
        return table


def holds_runs(folder: Path) -> bool:
    """Whether a folder is that of a comparison.

    Raises:
        AdaptError: The system does not let it be looked into.
    """
    with reading(f"Folder {folder}"):
        return (folder / "runs").is_dir()


def _version(file: Path) -> tuple[int, int] | None:
    """Which of the files that have this name it is now; None: there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _stands(content: Content) -> bool:
    if content["status"] == "unsupported":
        device = content["spec"]["budget"]["device"]
        now = {"versions": versions(), "code": code_state()["code"], "hardware": hardware(device)}
        return all(content["environment"].get(name) == value for name, value in now.items())
    return content["status"] in _FINAL


def read_result(path: Path, key: str | None = None) -> dict[str, Any] | None:
    """A result file's content; a file that is cut off, changed or not a result is set aside with a warning.

    The file is renamed to `*.json.damaged`, so that its run is done again and nothing is lost; in a folder that cannot
    be written it stays, and so does one of any run that a later version of adapt wrote, and JSON that adapt did not.

    Args:
        path: The file.
        key: Key of the run whose result it should be; None: any run's.

    Raises:
        AdaptError: The file is there but the system does not let it be read.
    """
    content, reason = _read(path, key)
    if reason is None:
        return content
    aside = path.with_name(path.name + ".damaged")
    try:
        if key is None and (is_newer(content) or (isinstance(content, dict) and "schema" not in content)):
            done = f"left out ({reason}), which it stays for."
        else:
            path.replace(aside)
            done = f"set aside as {aside.name} ({reason}); compare does its run again."
    except OSError as error:
        done = f"left out ({reason}); it cannot be set aside: {error.strerror}."
    warnings.warn(f"Result file {path} is {done}", stacklevel=2)
    return None


def given_result(path: Path) -> dict[str, Any]:
    """The content of a result file that the user names, which is left as it is.

    Raises:
        AdaptError: It cannot be read, or is no result; the message says why.
    """
    content, reason = _read(path, None)
    if reason is not None:
        raise AdaptError(f"{path} is no result file ({reason}); give one of the folder 'runs' of a comparison.")
    return content


def _read(path: Path, key: str | None) -> tuple[Any, str | None]:
    """A file's content, and what is wrong with it as a result; None: nothing."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise AdaptError(f"Result file {path} cannot be read: {error.strerror}; move it away or mend it.") from error
    return content_of(text, key)
