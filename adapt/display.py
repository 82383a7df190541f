"""How things are shown to people: in a line, as Markdown, and how far something has come."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO, TypeVar

Class = TypeVar("Class", bound=type)


class Rendered:
    """What `str` gives is Markdown, which a notebook renders."""

    def _repr_markdown_(self) -> str:
        return str(self)


def shows_fields(cls: Class) -> Class:
    """Have `help` of a dataclass show what is said below each of its fields."""
    cls.__doc__ = _WithFields(cls.__doc__ or "")  # type: ignore[assignment]
    return cls


class _WithFields:
    """A docstring that goes on with those of the fields, which are read from the source once it is asked for."""

    def __init__(self, doc: str) -> None:
        self._doc = inspect.cleandoc(doc)

    def __get__(self, instance: object, owner: type) -> str:
        said = {name: text for base in reversed(owner.__mro__) for name, text in _below_fields(base)}
        shown = [f"\n    {f.name}: {said[f.name]}" for f in dataclasses.fields(owner) if f.name in said]
        return f"{self._doc}\n\nFields:{''.join(shown)}" if shown else self._doc


def _below_fields(cls: type) -> Iterator[tuple[str, str]]:
    """The fields that a class itself declares, each with the docstring below it; none where there is no source."""
    if not dataclasses.is_dataclass(cls):
        return
    with suppress(OSError):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                    yield name, inspect.cleandoc(text).replace("\n", "\n        ")


def one_line(text: str) -> str:
    """Text of data and messages on one line, without what steers a terminal; what joins letters, or keeps them apart,
    as in Persian, stays."""
    return " ".join("".join(c if c.isprintable() or c in "\u200c\u200d" else " " for c in text).split())


def counted(number: int, what: str) -> str:
    """`1 run`, `1,000 runs`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def labelled(kind: str, problem: str, labels: Sequence[str]) -> str:
    """What is predicted: task kind, problem, and how many labels there are, the first of them by name."""
    names = ", ".join(f"{label:.40}" for label in labels[:5]) + (", ..." if len(labels) > 5 else "")
    return f"{kind}, {problem}" + (f", {len(labels)} labels ({names})" if labels else "")


def with_notes(line: str, notes: Iterable[str]) -> str:
    """A line, and one below it for each note."""
    return "\n".join(map(one_line, (line, *(f"Note: {note}" for note in notes))))


class StepBar:
    """A bar of optimizer steps, or other units; called with those done, those in all, and the loss."""

    def __init__(self, stream: TextIO | None, name: str, unit: str = "step", *, notebook: bool = False) -> None:
        """
        Args:
            stream: Where to; nothing is shown where it is no terminal.
            name: What stands before the bar.
            unit: What is counted.
            notebook: Whether it is shown in a notebook, too, which cannot have several at a time.
        """
        from tqdm import tqdm

        seen = _is_terminal(stream) or (stream is not None and notebook and "ipykernel" in sys.modules)
        self._bar: Any = tqdm(file=stream, desc=one_line(name), unit=unit, disable=not seen, leave=False)

    def __call__(self, done: int, total: int, loss: float | None = None) -> None:
        self._bar.total = total
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class AskedBar:
    """A line when a teacher begins to be asked about rows, and on a terminal a bar until it has been."""

    def __init__(
        self, stream: TextIO | None, name: str, on_asked: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        """
        Args:
            stream: Where to; None: nothing is shown.
            name: What the line begins with.
            on_asked: Told the same, once it has been shown.
        """
        self._stream = stream
        self._name = f"{name}: the teacher"
        self._on_asked = on_asked
        self._bar: StepBar | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            write_line(self._stream, f"{self._name} is asked about {total:,} rows")
            self._bar = StepBar(self._stream, self._name, "row")
        self._bar(done, total)
        if done == total:
            self.close()
        self._on_asked(done, total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def write_line(stream: TextIO | None, line: str) -> None:
    """A line above the bars. What is done does not end because it can be shown no more."""
    if stream is None:
        return
    from tqdm import tqdm

    with suppress(OSError, ValueError):  # nobody reads the pipe, or the stream is closed
        tqdm.write(one_line(line), file=stream)
        if hasattr(stream, "flush"):
            stream.flush()


def _is_terminal(stream: TextIO | None) -> bool:
    """What programs put in the place of standard error may not say, or be closed; then it is none."""
    with suppress(AttributeError, ValueError):
        return stream is not None and stream.isatty()
    return False


@contextmanager
def steps_shown(
    name: str, on_step: Callable[[int, int, float], None] | None, progress: bool
) -> Iterator[Callable[[int, int, float], None] | None]:
    """What is to be told of each optimizer step of one training: `on_step`, and a bar on standard error.

    Args:
        name: What stands before the bar.
        on_step: Told of steps done, steps in all, and the loss.
        progress: Whether there is a bar, on a terminal or in a notebook.
    """
    if not progress:
        yield on_step
        return
    bar = StepBar(sys.stderr, name, notebook=True)

    def told(done: int, total: int, loss: float) -> None:
        bar(done, total, loss)
        if on_step is not None:
            on_step(done, total, loss)

    try:
        yield told
    finally:
        bar.close()
