"""bitsandbytes is imported without torch's compiler, and what it has compiled is compiled when it is called."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from adapt.backbones.slow_imports import _when_called, import_bitsandbytes


@pytest.mark.parametrize("need", ["adapt.LoRA()._add_branches(None, (), set())", "adapt.QLoRA()._quantization()"])
def test_no_strategy_loads_the_compiler(need: str) -> None:
    code = f"""
import contextlib, sys, adapt
with contextlib.suppress(AttributeError):  # there is no model
    {need}
import peft
print([name for name in ('bitsandbytes', 'torch._inductor.compile_fx') if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["['bitsandbytes']"], done.stderr


def test_a_function_is_compiled_once_and_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []

    def compile_(function: Any, **options: Any) -> Any:
        compiled.append(options)
        return lambda *args: -function(*args)

    monkeypatch.setattr(torch, "compile", compile_)

    @_when_called
    def plus(a: int, b: int) -> int:
        return a + b

    @_when_called(dynamic=False)
    def times(a: int, b: int) -> int:
        return a * b

    assert not compiled
    assert [plus(1, 2), plus(3, 4), times(2, 3)] == [-3, -7, -6]
    assert compiled == [{}, {"dynamic": False}]
    assert times.__name__ == "times"


def test_torch_is_left_as_it_was() -> None:
    before = torch.compile
    import_bitsandbytes()
    assert torch.compile is before
    assert "bitsandbytes" in sys.modules
