"""How long runs took, and about how long others will take for it."""

from __future__ import annotations

from collections.abc import Sequence

from adapt.spec import Run


class Times:
    """Of the runs of a comparison those that are alike take equally long: of one strategy, on so many rows."""

    def __init__(self, jobs: int) -> None:
        """
        Args:
            jobs: Runs done at the same time.
        """
        self._jobs = jobs
        self._known: dict[tuple[int, int | None, int | None], tuple[float, bool]] = {}

    def took(self, run: Run, seconds: float, status: str) -> None:
        """A run has ended; what failed may have done so at once, and counts only until one like it ends well."""
        well = status == "ok"
        if well or not self._known.get(_kind_of(run), (0.0, False))[1]:
            self._known[_kind_of(run)] = seconds, well

    def left(self, runs: Sequence[tuple[Run, float]]) -> float | None:
        """About how many seconds runs will take; None while there are some of a kind of which none has ended.

        Args:
            runs: Those that have not ended, and for how many seconds each has gone on.
        """
        if not all(_kind_of(run) in self._known for run, _ in runs):
            return None
        left = [max(0.0, self._known[_kind_of(run)][0] - gone) for run, gone in runs]
        return max([sum(left) / self._jobs, *left])


def _kind_of(run: Run) -> tuple[int, int | None, int | None]:
    return id(run.strategy), run.task.max_train, run.task.few_shot
