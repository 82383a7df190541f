"""Trainable weights that are set aside while training goes on, in a file, where they take no memory.

The file has no name (on Windows the system removes it): it is gone once it is closed, and with the process, however
that ends. It lies in the folder for temporary files (TMPDIR), or in /var/tmp where that one is full or lies in memory
itself, as /tmp does on many systems. Where neither takes it, the weights are held in memory.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch
from torch import nn

from adapt import params
from adapt.files import folders_on_disk
from adapt.spec import AdaptError


class Aside:
    """A copy of a model's trainable weights, to the bit, which is gone at the end of the block."""

    def __init__(self) -> None:
        self.held_bytes = 0
        """Bytes of a copy that was held in memory, because no file could be written."""
        self._file: IO[bytes] | None = None
        self._held: dict[str, torch.Tensor] = {}

    def __enter__(self) -> Aside:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._let_go()

    def put(self, model: nn.Module) -> None:
        """Copy the weights, in place of what was put here before."""
        self._let_go()
        for folder in folders_on_disk():
            with contextlib.suppress(OSError):
                self._file = _written(model, folder)
                return
        self._held = params.trainable_state(model)
        self.held_bytes = sum(tensor.nbytes for tensor in self._held.values())

    def restore(self, model: nn.Module) -> None:
        """Copy them back, tensor by tensor.

        Raises:
            AdaptError: The file cannot be read any more.
        """
        if self._file is None:
            params.fill(model, self._held, "what was set aside")
            return
        try:
            _read(model, self._file)
        except OSError as error:
            raise AdaptError(
                f"The trained weights, set aside in a temporary file, cannot be read back ({error}); train again, with "
                "TMPDIR naming a folder on another disk."
            ) from error

    def _let_go(self) -> None:
        self._held = {}
        if self._file is not None:
            self._file.close()
            self._file = None


def _written(model: nn.Module, folder: Path) -> IO[bytes]:
    """A file of all trainable tensors, one after the other.

    Raises:
        OSError: It cannot be written.
    """
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- it is closed at the end of the block
    try:
        for parameter in params.trainable(model).values():
            file.write(_bytes_of(parameter.detach().cpu()))
        file.flush()
    except OSError:
        with contextlib.suppress(OSError):  # what could not be written is tried again
            file.close()
        raise
    return file


def _read(model: nn.Module, file: IO[bytes]) -> None:
    """Fill all trainable tensors.

    Raises:
        OSError: The file cannot be read, or ends too early.
    """
    file.seek(0)
    for parameter in params.trainable(model).values():
        tensor = torch.empty(parameter.shape, dtype=parameter.dtype)
        if file.readinto(_bytes_of(tensor)) != tensor.nbytes:  # type: ignore[attr-defined]
            raise OSError("it ends too early")
        with torch.no_grad():
            parameter.copy_(tensor)


def _bytes_of(tensor: torch.Tensor) -> Any:
    """What a tensor on the CPU holds, as an array of bytes, in place where it is contiguous."""
    return tensor.reshape(-1).view(torch.uint8).numpy()
