"""Training speed beside what users would take instead: Hugging Face's Trainer with PEFT, and the adapters library.

    python benchmarks/speed.py --data ../shared/data --work speed-work

Every side trains the same encoded rows in batches of the same size for the same number of updates at the same learning
rate (full fine-tuning here with ten times that for the head), on all cores. In each repeat the sides and settings of a
strategy run one after another, each repeat beginning with another of them; a ratio is that of two runs of one repeat,
between which there may be others. A peer runs in its default settings (float32, random batches, the backbone's
attention kernel) and in its best (bf16, frozen weights held in bf16, the eager or the sdpa kernel, whichever has the
lower median of its repeats, rows grouped by length as `group_by_length` does in sets of 200 batches and more: of as few
rows as these it would sort one to four batches at a time, which leaves most of the padding there). Timed are the
training steps alone, the first among them, each run in a fork that has trained nothing; memory is how far the process's
resident set rises above what it had before the model was loaded, with rows and tokenizer there. Accuracy
is the share of right labels on rows of the validation split: of rows, words, answers with both ends, next tokens.

The adapters library pins another version of transformers, so it gets an environment of its own below --work. Times stay
there, too (`runs.jsonl`: a run that is in it is not done again, and all of a workload are of one machine, the same
versions and one state of the code); only ratios are written to --out, as `speed.json` (those that are not measured
anew, and those of other processors, stay in it, unless their peer was not at what is its best today), `speed.md` and
`speed.svg`. Linux; an hour on two cores.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _state import commit

from adapt.files import write_atomically
from adapt.strategies import make
from adapt.tables.cells import line

HERE = Path(__file__).parent
PEERS = ("torch==2.13.0", "adapters==1.3.0", "accelerate")
"""What the environment of the adapters library holds."""


@dataclass(frozen=True)
class Workload:
    """Rows, and the strategies trained on them."""

    folder: str
    kind: str
    rows: int
    max_length: int
    batch: int = 32
    backbone: str = "minilm"
    strategies: tuple[str, ...] = ("full", "lora")
    adapters: tuple[str, ...] = ()
    """Strategies that the adapters library does, too."""


WORKLOADS = {
    "sst2": Workload(
        "sst2", "sequence_classification", 512, 128,
        strategies=("full", "head", "lora", "bottleneck", "prefix", "qlora"), adapters=("bottleneck", "prefix", "lora"),
    ),
    "wnut17": Workload(
        "wnut17", "token_classification", 256, 128,
        strategies=("full", "lora", "bottleneck", "prefix"), adapters=("bottleneck",),
    ),
    "squad_v11_subset": Workload("squad_v11_subset", "question_answering", 64, 256, batch=16),
    "causal-lm-20m": Workload("gsm8k", "causal_lm", 64, 512, batch=8, backbone="decoder-20m"),
}  # fmt: skip
AT_BEST = "bf16, frozen weights too; grouped in 50 batches; kernel by medians"
"""What a peer's best settings are, as rows tell it."""
EPOCHS = {"head": 5}
"""Epochs of a strategy where they are not one."""
PEER_NAMES = {"trainer": "HF Trainer + PEFT", "adapters": "adapters"}
MAIN_PEER = {"bottleneck": "adapters"}
FASTER_THAN_FULL = 1.3
ASKED = {
    "full": (4, 2), "lora": (8, 3), "bottleneck": (4, 3), "prefix": (5, 3), "qlora": (3, 2), "head": (20, 10),
}  # fmt: skip
"""The project's aims on sst2: against a peer's defaults, and its best settings."""


NAMED = ("workload", "strategy", "side", "settings", "attention")
"""What tells runs of a repeat apart."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with the folders of the data sets")
    parser.add_argument("--work", default="speed-work", help="folder for the environment, the rows and the times")
    parser.add_argument("--out", default="results/benchmarks", help="folder of speed.json, speed.md and speed.svg")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="names with commas between them")
    parser.add_argument("--strategies", help="names with commas between them; all of a workload's otherwise")
    parser.add_argument("--repeats", type=int, default=3, help="at least 3 for results that are kept")
    parser.add_argument("--adapters-python", help="interpreter of an environment that has the adapters library")
    parser.add_argument("--table", action="store_true", help="run nothing; write table and plot from speed.json")
    options = parser.parse_args()
    out = Path(options.out)
    if not options.table:
        if options.data is None:
            parser.error("--data is needed")
        work = Path(options.work).resolve()
        work.mkdir(parents=True, exist_ok=True)
        names = options.workloads.split(",")
        wanted = options.strategies.split(",") if options.strategies else None
        runs, here = work / "runs.jsonl", environment()
        check_environments([*read(runs), *({"workload": name, "environment": here} for name in names)])
        with Sides(options.adapters_python or adapters_python(work)) as sides:
            for job in jobs(names, wanted, options.repeats, Path(options.data).resolve(), work, sides, runs):
                answer = sides.do(job)
                made_by = {"environment": here, "versions": sides.versions[job["side"]]}
                run = {**{name: job[name] for name in NAMED}, "repeat": job["seed"], **answer, **made_by}
                with runs.open("a") as file:
                    file.write(json.dumps(run) + "\n")
                shown = answer.get("error", f"{answer.get('rows', 0) / answer.get('seconds', 1):.0f} rows/s")
                print(*list(run.values())[:6], shown.splitlines()[-1], flush=True)
        out.mkdir(parents=True, exist_ok=True)
        table = out / "speed.json"
        before = json.loads(table.read_text()) if table.exists() else []
        write_atomically(table, json.dumps(beside(before, ratios(read(runs))), indent=1) + "\n")
    rows = [row for row in json.loads((out / "speed.json").read_text()) if is_of_today(row)]
    write_atomically(out / "speed.md", page(rows))
    write_atomically(out / "speed.svg", plot(rows))


def beside(before: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ratios found now, with others that were found before, by processor and workload; those before whose peer was not
    at what is its best today are dropped."""
    names = ("workload", "strategy", "peer", "peer_settings")
    measured = {(*(row[name] for name in names), hardware_of(row)) for row in found}
    kept = [row for row in before if (*(row[name] for name in names), hardware_of(row)) not in measured]
    kept = [row for row in kept if is_of_today(row)]
    return sorted(
        found + kept,
        key=lambda row: (
            hardware_of(row), list(WORKLOADS).index(row["workload"]),
            WORKLOADS[row["workload"]].strategies.index(row["strategy"]),
        ),
    )  # fmt: skip


def is_of_today(row: dict[str, Any]) -> bool:
    """Whether a row's peer was in its default settings, or at what is its best today."""
    return row["peer_settings"] != "best" or row.get("peer_at_best") == AT_BEST


def read(file: Path) -> list[dict[str, Any]]:
    """Finished runs; those that ended in an error are left out, to be done again."""
    runs = [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []
    return [run for run in runs if "error" not in run]


class Sides:
    """The warm process of each side."""

    def __init__(self, adapters: str) -> None:
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "PYTHONWARNINGS": "ignore",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self.processes = {
            side: subprocess.Popen(
                [python, str(HERE / "speed_worker.py"), side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env=environment,
            )
            for side, python in (("ours", sys.executable), ("trainer", sys.executable), ("adapters", adapters))
        }  # fmt: skip
        self.versions: dict[str, dict[str, str]] = {}
        """Side to package to version."""
        self.prepared: dict[str, dict[str, Any]] = {}
        """Workload to what its jobs share."""
        for side, process in self.processes.items():
            if not (text := self._answer(process)):
                raise SystemExit(f"The side '{side}' did not start; its message is above.")
            self.versions[side] = json.loads(text)

    def __enter__(self) -> "Sides":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.close()
            process.wait()

    def do(self, job: dict[str, Any]) -> dict[str, Any]:
        """The answer of the job's side."""
        process = self.processes[job["side"]]
        assert process.stdin is not None
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._answer(process))
        return answer

    @staticmethod
    def _answer(process: "subprocess.Popen[str]") -> str:
        assert process.stdout is not None
        return process.stdout.readline()


def adapters_python(work: Path) -> str:
    """The interpreter of an environment with the adapters library, made where it is not there."""
    folder = work / "adapters-env"
    python, whole = folder / "bin" / "python", folder / "installed.txt"
    if not whole.exists():  # an installation that was interrupted is made anew
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
        whole.write_text("\n".join(PEERS) + "\n")
    return str(python)


def jobs(
    names: list[str], wanted: list[str] | None, repeats: int, data: Path, work: Path, sides: Sides, runs: Path
) -> Iterator[dict[str, Any]]:
    """What is not done yet, repeat by repeat, the sides of a strategy next to each other."""
    for repeat in range(repeats):
        for name in names:
            workload = WORKLOADS[name]
            if name not in sides.prepared:
                sides.prepared[name] = prepared(name, workload, data, work, sides)
            common = sides.prepared[name]
            for strategy in workload.strategies:
                if wanted is not None and strategy not in wanted:
                    continue
                own = common | numbers(strategy) | {"seed": repeat, "epochs": EPOCHS.get(strategy, 1)}
                variants: list[tuple[str, str | None, str | None]] = [("ours", None, None)]
                peers = {"trainer": strategy != "bottleneck", "adapters": strategy in workload.adapters}
                for side in (side for side, able in peers.items() if able):
                    variants.append((side, "default", None))
                    variants += [(side, "best", kernel) for kernel in ("eager", "sdpa")]
                turn = repeat % len(variants)
                done = {(*(run[name] for name in NAMED), run["repeat"]) for run in read(runs)}
                for side, settings, kernel in variants[turn:] + variants[:turn]:
                    if (name, strategy, side, settings, kernel, repeat) not in done:
                        yield own | {"side": side, "settings": settings, "attention": kernel}


def faster(done: list[dict[str, Any]], workload: str, strategy: str, side: str) -> str:
    """The attention kernel whose repeats have the lower median."""
    times: dict[str, list[float]] = {}
    for run in done:
        if tuple(run[name] for name in NAMED[:-1]) == (workload, strategy, side, "best"):
            times.setdefault(run["attention"], []).append(run["seconds"])
    return min(times, key=lambda kernel: statistics.median(times[kernel]))


def numbers(strategy: str) -> dict[str, Any]:
    """Our defaults, which the peers are given."""
    lora, prefix, bottleneck = (make(name) for name in ("lora", "prefix", "bottleneck"))
    return {
        "strategy": strategy, "learning_rate": make(strategy).learning_rate, "rank": lora.rank,  # type: ignore[attr-defined]
        "tokens": prefix.virtual_tokens, "factor": bottleneck.reduction_factor,  # type: ignore[attr-defined]
    }  # fmt: skip


def prepared(name: str, workload: Workload, data: Path, work: Path, sides: Sides) -> dict[str, Any]:
    """What all jobs of a workload share; its rows are encoded once, for every side."""
    backbone = workload.backbone if workload.backbone == "minilm" else str(work / workload.backbone)
    job = {
        "workload": name, "kind": workload.kind, "data": str(data / workload.folder), "rows": workload.rows,
        "test_rows": 500, "max_length": workload.max_length, "batch": workload.batch, "backbone": backbone,
        "dump": str(work / f"{name}.json"), "tokenizer": str(work / f"{name}-tokenizer"),
        "scratch": str(work / "scratch"),
    }  # fmt: skip
    answer = sides.do(job | {"make": True, "side": "ours", "strategy": "full", "seed": 0, "epochs": 1})
    if "backbone" not in answer:
        raise SystemExit(answer.get("error", f"the rows of {name} could not be made"))
    return job | {"path": answer["backbone"]}


def ratios(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours against each peer, and what is trained in part against our own full fine-tuning."""
    check_environments(runs)
    rows = []
    for workload, strategy, side, settings in dict.fromkeys(
        (r["workload"], r["strategy"], r["side"], r["settings"]) for r in runs
    ):
        if side == "ours":
            if strategy in ("full", "head"):
                continue
            peer, name, settings, kernel = of(runs, workload, "full", "ours"), "adapt, full", "default", None
        else:
            kernel = None if settings == "default" else faster(runs, workload, strategy, side)
            peer, name = of(runs, workload, strategy, side, settings, kernel), PEER_NAMES[side]
        ours = of(runs, workload, strategy, "ours")
        both = sorted(ours.keys() & peer.keys())
        if both:
            what = {"workload": workload, "strategy": strategy, "peer": name, "peer_settings": settings}
            rows.append(what | compared([ours[i] for i in both], [peer[i] for i in both]) | {"attention_peer": kernel})
    return rows


def of(
    runs: list[dict[str, Any]], workload: str, strategy: str, side: str, settings: str | None = None,
    kernel: str | None = None,
) -> dict[int, dict[str, Any]]:  # fmt: skip
    """Repeat to run."""
    wanted = (workload, strategy, side, settings, kernel)
    return {
        run["repeat"]: run
        for run in runs
        if (run["workload"], run["strategy"], run["side"], run["settings"], run["attention"]) == wanted
    }


def compared(ours: list[dict[str, Any]], peer: list[dict[str, Any]]) -> dict[str, Any]:
    """How many times as fast ours was, repeat by repeat; accuracies of each repeat; median memory, in bytes."""
    for mine, theirs in zip(ours, peer, strict=True):
        if (mine["rows"], mine["updates"]) != (theirs["rows"], theirs["updates"]):
            raise SystemExit(f"The sides did not do the same work: {mine} against {theirs}.")
    found = [theirs["seconds"] / mine["seconds"] for mine, theirs in zip(ours, peer, strict=True)]
    return {
        "ratio_median": round(statistics.median(found), 3),
        "ratio_min": round(min(found), 3),
        "ratio_max": round(max(found), 3),
        "repeats": len(found),
        "accuracy_ours": [round(run["accuracy"], 4) for run in ours],
        "accuracy_peer": [round(run["accuracy"], 4) for run in peer],
        "peak_ours": int(statistics.median(run["peak"] for run in ours)),
        "peak_peer": int(statistics.median(run["peak"] for run in peer)),
        "rows": ours[0]["rows"],
        "updates": ours[0]["updates"],
        "precision_ours": ours[0]["precision"],
        "attention_ours": ours[0]["attention_used"],
        "versions_peer": peer[0]["versions"],
        "peer_at_best": AT_BEST,
        "environment": ours[0]["environment"],
    }


def check_environments(runs: list[dict[str, Any]]) -> None:
    """
    Raises:
        SystemExit: Runs of a workload, of which ratios are made, are not of one environment.
    """
    found: dict[str, Any] = {}
    for run in runs:
        own = run.get("environment")
        if own is None or found.setdefault(run["workload"], own) != own:
            raise SystemExit(
                f"Runs of {run['workload']} are of several machines, versions or states of the code, or do not tell; "
                "remove from runs.jsonl those that are not to count, or give another --work."
            )


def environment() -> dict[str, Any]:
    """Hardware, versions and state of the code; the adapters library has transformers of its own."""
    cpu: dict[str, str] = {}
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = text.partition(":")
        cpu.setdefault(name.strip(), value.strip())
    hardware = cpu.get("model name", platform.machine())
    if "cpu family" in cpu:  # virtual machines give all models of a maker one name
        hardware += f" (family {cpu['cpu family']}, model {cpu.get('model')})"
    names = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
    return {
        "hardware": hardware,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "peers": list(PEERS),
        "commit": commit(),
    }


def page(rows: list[dict[str, Any]]) -> str:
    """The ratios as Markdown."""
    lines = [
        "# Training speed beside peers",
        "",
        "Rows a second of adapt over those of the peer: median [lowest, highest] of the repeats. Written by",
        "`python benchmarks/speed.py --table` from `speed.json`; the script says how it is measured.",
        "",
        "- Target: what the project set out to reach.",
        "- Accuracy: whether both sides learn in the same few updates (one epoch, head: five). It does not compare",
        "  quality: each side has its own head (ours the mean of all tokens on sst2, the Trainer's a pooler), our full",
        "  fine-tuning gives its head ten times the rate, and nine in ten words of wnut17 are no name.",
        "- Settings: default is float32 with random batches, where ours are bf16 and grouped by length: most of those",
        "  ratios. Best is bf16, frozen weights too, rows grouped by length, and the attention kernel with",
        "  the lower median.",
        "- Updates: optimizer steps that are timed. Of head they are five epochs, for which ours computes the features",
        "  once: its ratio grows with their number.",
    ]
    for hardware in dict.fromkeys(map(hardware_of, rows)):
        lines += ["", f"## {hardware}", "", *_table([row for row in rows if hardware_of(row) == hardware])]
    return "\n".join(lines) + "\n"


def hardware_of(row: dict[str, Any]) -> str:
    """The processor that a row was measured on, and how many of its cores."""
    given = row["environment"]
    return f"{given['hardware']}, {given['cores']} cores"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows of one processor, and what they were measured with."""
    lines = [
        "| workload | strategy | peer | settings | updates | speed-up | target | accuracy: ours, peer "
        "| memory: ours, peer |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        asked = ""
        if row["peer"] == "adapt, full":
            asked = f"{FASTER_THAN_FULL}"
        elif row["workload"] == "sst2" and row["peer"] == MAIN_PEER.get(row["strategy"], PEER_NAMES["trainer"]):
            asked = str(ASKED[row["strategy"]][row["peer_settings"] == "best"])
        settings = row["peer_settings"] + (f", {row['attention_peer']}" if row["attention_peer"] else "")
        accuracies = [statistics.mean(row[f"accuracy_{whose}"]) for whose in ("ours", "peer")]
        peaks = [row[f"peak_{whose}"] / 2**20 for whose in ("ours", "peer")]
        lines.append(line([
            row["workload"], row["strategy"], row["peer"], settings, str(row["updates"]),
            f"{row['ratio_median']:.2f} [{row['ratio_min']:.2f}, {row['ratio_max']:.2f}]", asked,
            f"{accuracies[0]:.3f} / {accuracies[1]:.3f}", f"{peaks[0]:.0f} / {peaks[1]:.0f} MiB",
        ]))  # fmt: skip
    machines: dict[str, list[str]] = {}
    for row in rows:
        machines.setdefault(_machine(row), []).append(row["workload"])
    for machine, workloads in machines.items():
        which = f"{', '.join(dict.fromkeys(workloads))}: " if len(machines) > 1 else ""
        lines += ["", f"{which}{machine}."]
    theirs = next((row["versions_peer"] for row in rows if row["peer"] == "adapters" and "versions_peer" in row), None)
    if theirs:
        lines += ["", f"The adapters library: {', '.join(f'{name} {one}' for name, one in theirs.items())}."]
    if any("grouped" not in row and "peer_at_best" not in row for row in rows):
        lines += ["", "Memory was measured when what ours took to read the rows was not counted."]
    return lines


def _machine(row: dict[str, Any]) -> str:
    """What a row was measured with, by which state of the code where it tells, and how often."""
    given = row["environment"]
    names = ("python", "torch", "transformers", "peft", "bitsandbytes", "accelerate")
    versions = ", ".join(f"{name} {given[name]}" for name in names)
    code = f"commit {given['commit']}; " if given.get("commit") else ""
    return f"{versions}; {code}{row['repeats']} repeats"


def plot(rows: list[dict[str, Any]]) -> str:
    """The ratios as bars with their ranges, as SVG."""
    height, left, width = 18, 600, 420
    several = len(set(map(hardware_of, rows))) > 1
    most = max(row["ratio_max"] for row in rows)

    def x(ratio: float) -> float:
        return left + width * ratio / most

    bars = []
    for i, row in enumerate(rows):
        y = 30 + i * height
        colour = (
            "#b0b0b0" if row["peer"] == "adapt, full" else "#4477aa" if row["peer_settings"] == "best" else "#99bbdd"
        )
        name = f"{row['workload']}, {row['strategy']}: {row['peer']}, {row['peer_settings']}"
        name += f"; {hardware_of(row)}" if several else ""
        low, middle, high = (x(row[f"ratio_{name}"]) for name in ("min", "median", "max"))
        bars += [
            f'<text x="{left - 6}" y="{y + 12}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{left}" y="{y + 2}" width="{middle - left:.1f}" height="{height - 5}" fill="{colour}"/>',
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 8}" y2="{y + 8}" stroke="black"/>',
            f'<text x="{high + 4:.1f}" y="{y + 12}">{row["ratio_median"]:.1f}</text>',
        ]  # fmt: skip
    bottom = 30 + len(rows) * height
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 60}" height="{bottom + 10}" '
            'font-family="sans-serif" font-size="11">',
            '<text x="6" y="16">Times as fast as the peer (median; line: lowest to highest repeat; 1: equal)</text>',
            *bars,
            f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="24" y2="{bottom}" stroke="black" stroke-dasharray="3"/>',
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    main()
