"""How long threads wait awake for one another: training alone, and beside others who want the cores.

    python benchmarks/waiting.py

LoRA on two backbones, the shipped tiny encoder and MiniLM, is trained for a few updates on the embedded task, with a
thread on each core, in a fresh process each time: once alone, once beside as many processes as there are cores that do
nothing but count. GNU's OpenMP is told how many times a thread looks whether the others are there before it sleeps
(GOMP_SPINCOUNT); the ways of waiting take turns. The package sets 10,000 for its commands and for the runs of a
comparison (`adapt.machine.short_waits`). Speeds beside that of OpenMP's own 300,000 are written to --out as
`waiting.json` and `waiting.md`. Needs the package with MiniLM, and Linux; a quarter of an hour on two CPU cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from _state import commit

from adapt.files import write_atomically
from adapt.machine import cores, short_waits
from adapt.tables.cells import line

BACKBONES = {"tiny-encoder": 30, "minilm": 6}
"""Each with its updates."""
OWN = 300_000
"""Looks, unless it is told."""
OURS = int(short_waits({})["GOMP_SPINCOUNT"])
LOOKS = (OWN, OURS, 0)
OTHERS = ("alone", "beside")
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="results/benchmarks", help="folder of waiting.json and waiting.md")
    parser.add_argument("--repeats", type=int, default=3, help="number of repeats (default: %(default)s)")
    parser.add_argument("--table", action="store_true", help="train nothing; write waiting.md from waiting.json")
    parser.add_argument("--backbone", choices=BACKBONES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.backbone:
        print(json.dumps(trained(options.backbone)))
        return
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    if not options.table:
        found = [
            {"backbone": backbone, "others": others, "looks": looks, **measured(backbone, others, looks)}
            for repeat in range(options.repeats)
            for backbone in BACKBONES
            for others in OTHERS
            for looks in LOOKS[:: (-1) ** repeat]
        ]
        write_atomically(out / "waiting.json", json.dumps(compared(found), indent=1) + "\n")
    write_atomically(out / "waiting.md", page(json.loads((out / "waiting.json").read_text())))


def measured(backbone: str, others: str, looks: int) -> dict[str, Any]:
    """What training in a fresh process takes, alone or beside others."""
    unset = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range((others != "alone") * cores())]
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--backbone", backbone],
            env=environment | {"GOMP_SPINCOUNT": str(looks)}, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    finally:
        for process in busy:
            process.kill()
            process.wait()
    found = dict(json.loads(done.stdout))
    print(f"{backbone}, {others}, {looks:,}: {found['speed']:.1f} rows a second", file=sys.stderr, flush=True)
    return found


def trained(backbone: str) -> dict[str, Any]:
    """The updates' rows a second."""
    import torch

    import adapt
    from adapt.comparison.given import embedded_data

    torch.set_num_threads(cores())
    model = adapt.fit(
        backbone, embedded_data(None), "lora", max_steps=BACKBONES[backbone], batch_size=BATCH, max_length=32,
        device="cpu", progress=False,
    )  # fmt: skip
    assert model.result is not None
    return {"speed": model.result.examples_per_second, "environment": model.result.environment}


def compared(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Speeds beside that of OpenMP's own way in the same repeat."""
    ratios: dict[str, dict[str, dict[str, list[float]]]] = {}
    for of in found:
        same = [each for each in found if (each["backbone"], each["others"]) == (of["backbone"], of["others"])]
        own = [each["speed"] for each in same if each["looks"] == OWN]
        here = ratios.setdefault(of["backbone"], {}).setdefault(of["others"], {}).setdefault(str(of["looks"]), [])
        here.append(round(of["speed"] / own[len(here)], 3))
    environment = found[0]["environment"]
    versions = {name: environment["versions"][name] for name in ("python", "torch")}
    return {
        "batch": BATCH, "cores": cores(), "updates": BACKBONES, "times_as_fast": ratios,
        "environment": {"hardware": environment["hardware"], **versions}, "commit": commit(),
    }  # fmt: skip


def page(found: dict[str, Any]) -> str:
    """The table."""
    cases = [
        (f"{backbone}, {others}" + (f" {found['cores']} busy processes" if others != "alone" else ""), ratios)
        for backbone, of in found["times_as_fast"].items()
        for others, ratios in of.items()
    ]
    looks = list(cases[0][1])
    lines = [
        "# How long threads wait awake",
        "",
        f"Training (LoRA, batch {found['batch']}, a thread on each of {found['cores']} cores) by how many times a"
        " thread looks whether the others",
        f"are there before it sleeps, as times as fast as with OpenMP's own {OWN:,}; written by",
        f"`python benchmarks/waiting.py`, which says how. The package sets {OURS:,}.",
        "",
        line(["", *(f"{int(each):,}" for each in looks)]),
        line(["---", *["---:"] * len(looks)]),
    ]
    for case, ratios in cases:
        cells = [f"{statistics.median(of):.2f} [{min(of):.2f}, {max(of):.2f}]" for of in ratios.values()]
        lines.append(line([case, "1", *cells[1:]]))
    versions = ", ".join(f"{name} {value}" for name, value in found["environment"].items() if name != "hardware")
    repeats = len(cases[0][1][looks[0]])
    made = f"{found['environment']['hardware']}; {versions}; {repeats} repeats; code {found['commit']}."
    return "\n".join([*lines, "", made, ""])


if __name__ == "__main__":
    main()
