"""Progress of a comparison on standard error: a line for each run, and on a terminal bars."""

from __future__ import annotations

from types import TracebackType
from typing import TextIO

from adapt.comparison.runner import Event, OnEvent
from adapt.display import AskedBar, StepBar, write_line
from adapt.spec import Run


class Progress:
    """One line for each run that ends or was done before, and on a terminal a bar for each that runs."""

    def __init__(self, stream: TextIO | None, *, rates: bool = False, on_event: OnEvent | None = None) -> None:
        """
        Args:
            stream: Where to; None: nothing is shown.
            rates: Whether a run is named by its learning rate, too.
            on_event: Told of each event once it has been shown.
        """
        self._stream = stream
        self._rates = rates
        self._on_event = on_event
        self._bars: dict[int, StepBar] = {}
        self._found = 0
        self._teacher: AskedBar | None = None

    def __call__(self, event: Event) -> None:
        if self._stream is not None:
            self._show(event)
        if self._on_event is not None:
            self._on_event(event)

    def _show(self, event: Event) -> None:
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
            self._found += 1
            again = "" if event.status == "ok" else f" (remove runs/{event.run.filename()} to do it again)"
            self._line(event, f"{event.status}, done before{again}")
        elif event.what == "ended":
            if (bar := self._bars.pop(key, None)) is not None:
                bar.close()
            why = f": {event.reason}" if event.reason else ""
            self._line(event, f"{event.status}{why}{self._come(event)}")

    def _name(self, run: Run) -> str:
        task, strategy = run.task, run.strategy
        rows = f" {task.max_train} rows" if task.max_train else ""
        rows += f" {task.few_shot} a class" if task.few_shot else ""
        fold = f" fold {task.fold[0]}" if task.fold else ""
        at = f" at {strategy.learning_rate:g}" if self._rates and strategy.learning_rate is not None else ""
        return f"{task.name}{rows}{fold} {strategy.name}{at} seed {run.seed}"

    def _come(self, event: Event) -> str:
        """How far a comparison of several runs has come, after one of them has ended."""
        total = self._found + event.total
        if total < 2:
            return ""
        told = f"{self._found + event.done:,} of {total:,}"
        if event.seconds_left is not None and event.done < event.total:
            told += f", about {_spoken(event.seconds_left)} left"
        return f" ({told})"

    def _line(self, event: Event, text: str) -> None:
        write_line(self._stream, f"{self._name(event.run)}: {text}")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for bar in self._bars.values():
            bar.close()
        if self._teacher is not None:
            self._teacher.close()


def _spoken(seconds: float) -> str:
    """A time to wait, as roughly as it is known: `20 s`, `4 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(10, 10 * round(seconds / 10))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
