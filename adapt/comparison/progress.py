"""Progress on a terminal: one bar for a comparison or a training, on standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Any, TextIO

from adapt.comparison.runner import Event
from adapt.spec import Run


class StepBar:
    """A bar of optimizer steps, or other units; called with those done, those in all, and the loss."""

    def __init__(self, stream: TextIO, name: str, unit: str = "step") -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(file=stream, desc=name, unit=unit, disable=not stream.isatty(), leave=False)

    def __call__(self, done: int, total: int, loss: float | None = None) -> None:
        self._bar.total = total
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class AskedBar:
    """A line when a teacher begins to be asked about rows, and on a terminal a bar until it has been."""

    def __init__(self, stream: TextIO, name: str) -> None:
        """
        Args:
            stream: Where to.
            name: What the line begins with.
        """
        self._stream = stream
        self._name = f"{name}: the teacher"
        self._bar: StepBar | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            _write(self._stream, f"{self._name} is asked about {total:,} rows")
            self._bar = StepBar(self._stream, self._name, "row")
        self._bar(done, total)
        if done == total:
            self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Progress:
    """One line for each run that ends or was done before, and on a terminal a bar for each that runs."""

    def __init__(self, stream: TextIO, *, rates: bool = False) -> None:
        """
        Args:
            stream: Where to.
            rates: Whether a run is named by its learning rate, too.
        """
        self._stream = stream
        self._rates = rates
        self._bars: dict[int, StepBar] = {}
        self._teacher: AskedBar | None = None

    def __call__(self, event: Event) -> None:
        key = id(event.run)  # a run's own key is hashed, which is too slow for each step
        if event.what == "asked":
            self._teacher = self._teacher or AskedBar(self._stream, event.run.task.name)
            self._teacher(event.done, event.total)
        elif event.what == "started":
            self._bars[key] = StepBar(self._stream, self._name(event.run))
        elif event.what == "step":
            self._bars[key](event.done, event.total, event.loss)
        elif event.what == "note":
            self._line(event, str(event.reason))
        elif event.what == "found":
            again = "" if event.status == "ok" else f" (remove runs/{event.run.filename()} to do it again)"
            self._line(event, f"{event.status}, done before{again}")
        elif event.what == "ended":
            if (bar := self._bars.pop(key, None)) is not None:
                bar.close()
            self._line(event, f"{event.status}" + (f": {event.reason}" if event.reason else ""))

    def _name(self, run: Run) -> str:
        task, strategy = run.task, run.strategy
        rows = f" {task.max_train} rows" if task.max_train else ""
        rows += f" {task.few_shot} a class" if task.few_shot else ""
        fold = f" fold {task.fold[0]}" if task.fold else ""
        at = f" at {strategy.learning_rate:g}" if self._rates and strategy.learning_rate is not None else ""
        return f"{task.name}{rows}{fold} {strategy.name}{at} seed {run.seed}"

    def _line(self, event: Event, text: str) -> None:
        _write(self._stream, f"{self._name(event.run)}: {text}")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for bar in self._bars.values():
            bar.close()
        if self._teacher is not None:
            self._teacher.close()


def _write(stream: TextIO, line: str) -> None:
    from tqdm import tqdm

    tqdm.write(line, file=stream)  # above bars
    stream.flush()
