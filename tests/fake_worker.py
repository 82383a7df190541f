"""The worker with a run that trains nothing, and that ends badly where the variable FAKE_WORKER says so."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from comparison_helpers import result_of

from adapt.comparison import worker
from adapt.comparison.jobs import Job
from adapt.inputs import Inputs, encode
from adapt.result import Result
from adapt.run import OnNote, OnStep
from adapt.spec import DataError, Diverged, Run, Unsupported

STEPS = {"short": 4, "slow": 20, "until stopped": 2400}
"""Behaviour to the steps, of a twentieth of a second each, that a run has more."""
BEHAVIOURS = json.loads(os.environ.get("FAKE_WORKER", "{}"))


def run(spec: Run, inputs: Inputs, on_step: OnStep, on_note: OnNote) -> Result:
    behaviour = BEHAVIOURS.get(f"{spec.strategy.name}_{spec.seed}", BEHAVIOURS.get("every", ""))
    if behaviour == "note":
        on_note("needs about 3 GiB,\nwhich does not fit")
    on_step(1, 2, 0.5)
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif behaviour == "exit":
        print("the last words", file=sys.stderr, flush=True)
        os._exit(3)
    elif behaviour == "leave":
        os._exit(0)
    elif behaviour == "raise":
        raise KeyError(str(Path(__file__).parent / "secret-folder" / "weights.bin"))
    elif behaviour == "bad input":
        raise DataError("row 3 has no text")
    elif behaviour == "noise":
        print("not for the runner")
        os.write(1, b"end 0 0\nwithout an end of line")
    elif behaviour == "kill the worker":
        os.kill(os.getppid(), signal.SIGKILL)
        while True:
            time.sleep(0.05)
            on_step(2, 2, 0.5)
    elif behaviour in STEPS:
        for _ in range(STEPS[behaviour]):
            time.sleep(0.05)
            on_step(1, 2, 0.5)
    elif behaviour == "unsupported":
        return Result(spec, "unsupported", str(Unsupported("not on this device")))
    elif behaviour == "diverged":
        return Result(spec, "diverged", str(Diverged("the loss is nan at step 2")))
    on_step(2, 2, 0.25)
    known = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM")
    seen: dict[str, Any] = {"pid": os.getpid(), "parent": os.getppid(), **{name: os.environ[name] for name in known}}
    if inputs.encoded_by is not encode:
        encoded = inputs.encoded(spec)
        seen["encoded"] = [id(encoded), *map(len, encoded.splits.values())]
    value = 0.5 + 0.01 * spec.seed + 0.1 * (spec.strategy.name == "full")
    return result_of(spec, value, environment=seen)


if "encode" not in BEHAVIOURS:  # rows at which nothing here looks would take most of the time
    worker.share = lambda file, before: None
    Job.inputs = lambda job: Inputs(None, None)
worker.warm = lambda: print("step by step", flush=True)  # as libraries print when they are imported
worker.run = run
worker.main()
