"""Work in a process of its own, forked from this one, which has imported everything and never touched the GPU."""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from typing import Any

from adapt.comparison.worker import import_all

_IMPORTS = (
    "accelerate", "peft", "torch", "transformers", "transformers.models.bert.modeling_bert",
    "transformers.models.llama.modeling_llama", "transformers.trainer", "adapt.memory.planner", "adapt.memory.step",
    "adapt.training",
)  # fmt: skip


def warm() -> None:
    """Import what the work needs, and let it see one GPU, the first of those that are visible."""
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    import_all(_IMPORTS)


def _child(connection: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        connection.send((True, work(*arguments)))
    except BaseException:
        connection.send((False, traceback.format_exc()))


class Forked:
    """Work that is under way in a fork."""

    def __init__(self, work: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, other = context.Pipe(duplex=False)
        self._process = context.Process(target=_child, args=(other, work, arguments))
        self._process.start()
        other.close()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._connection.poll()

    def result(self) -> Any:
        """Wait for it.

        Raises:
            RuntimeError: It failed; the message is its traceback, or how the process ended.
        """
        try:
            good, value = self._connection.recv()
        except EOFError:
            good, value = False, ""
        self._process.join()
        if not good:
            raise RuntimeError(value or f"ended with exit code {self._process.exitcode}")
        return value
