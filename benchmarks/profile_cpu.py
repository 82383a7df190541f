"""What bounds a training step on this CPU: where an epoch's time goes, and how far its products are from the limit.

    python benchmarks/profile_cpu.py --data ../shared/data

MiniLM on 512 rows of SST-2 as in `speed.py`, one epoch of each strategy under torch's profiler, on all cores. The limit
is what this CPU does in the same run on a product of the backbone's own size (800 rows, 384 by 1536, bf16), divided by
the floating-point operations of the strategy's products for a row (torch's FlopCounterMode). What share of that limit
would be needed for what is asked against peers follows from their ratios in --out's `speed.json`.

Two other ways of doing a LoRA epoch are timed beside it: each layer under `torch.compile` (for any length, without
dropout on both sides, which breaks its graphs), and two processes with one thread and half of each batch, as data
parallelism would have them before it adds their gradients. Written to --out as `profile_cpu.json` and
`profile_cpu.md`.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from _forked import Forked, warm
from speed import ASKED, MAIN_PEER, PEER_NAMES, WORKLOADS, environment, hardware_of

from adapt.files import write_atomically
from adapt.tables.cells import line

WORKLOAD = "sst2"
PARTS: Mapping[str, tuple[str, ...]] = {
    "products": ("mm", "addmm", "addmm_", "bmm", "baddbmm", "linear", "matmul", "mkldnn_linear"),
    "casts and copies": ("copy_", "_to_copy", "to", "cat", "contiguous", "clone", "_cat"),
    "dropout's random numbers": (
        "bernoulli_",
        "random_",
        "arange",
        "bitwise_right_shift",
        "bitwise_and_",
        "bitwise_xor_",
        "ge_",
        "native_dropout",
    ),
    "softmax": ("_softmax", "_softmax_backward_data"),
    "activations": ("gelu", "gelu_backward", "relu", "threshold_backward", "silu", "silu_backward"),
    "norms": ("native_layer_norm", "native_layer_norm_backward"),
    "optimizer": ("_fused_adamw_", "_foreach_norm", "_foreach_mul_", "linalg_vector_norm"),
    "embeddings": ("embedding", "embedding_dense_backward", "index_select", "index"),
}
"""Operations by what they are for; `other` is the rest."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with the folders of the data sets")
    parser.add_argument("--out", default="results/benchmarks", help="folder of profile_cpu.json and profile_cpu.md")
    parser.add_argument(
        "--strategies", default=",".join(WORKLOADS[WORKLOAD].strategies), help="names with commas between them"
    )
    parser.add_argument("--table", action="store_true", help="run nothing; write the page from profile_cpu.json")
    options = parser.parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    if not options.table:
        if options.data is None:
            parser.error("--data is needed")
        hardware = hardware_of({"environment": environment()})
        other = tried(Path(options.data))
        before = product_rate()
        rows = [profiled(name, Path(options.data)) for name in options.strategies.split(",")]
        import torch

        found = {
            "product_flops_per_second": [before, product_rate()], "strategies": rows, "tried": other,
            "threads": torch.get_num_threads(), "torch": torch.__version__, "hardware": hardware,
        }  # fmt: skip
        write_atomically(out / "profile_cpu.json", json.dumps(found, indent=1) + "\n")
    ratios = json.loads((out / "speed.json").read_text()) if (out / "speed.json").exists() else []
    write_atomically(out / "profile_cpu.md", page(json.loads((out / "profile_cpu.json").read_text()), ratios))


def product_rate(repeats: int = 200) -> float:
    """Floating-point operations a second of a feed-forward layer's product in bf16, the median of many."""
    import torch

    x, w = torch.randn(800, 384, dtype=torch.bfloat16), torch.randn(1536, 384, dtype=torch.bfloat16)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        torch.nn.functional.linear(x, w)
        times.append(time.perf_counter() - started)
    return 2 * 800 * 384 * 1536 / statistics.median(times)


class Training:
    """A strategy on the workload's rows; called, it does an epoch and gives its seconds."""

    def __init__(self, strategy: str, data: Path, *, share: int = 1, **choices: Any) -> None:
        """
        Args:
            strategy: Its name.
            data: Folder of the data sets.
            share: Rows and batch are divided by it.
            choices: Of the budget.
        """
        from adapt.adapted import assemble
        from adapt.backbones import Loader
        from adapt.data import load, subsample
        from adapt.tasks import KINDS

        workload = WORKLOADS[WORKLOAD]
        given = load(data / workload.folder, name=WORKLOAD, kind=workload.kind)
        self.spec, rows, source = assemble(
            "minilm", given, strategy, epochs=1, batch_size=workload.batch // share, max_length=workload.max_length,
            device="cpu", **choices,
        )  # fmt: skip
        self.loader = Loader(source, self.spec.task, self.spec.budget, 0)
        self.kind = KINDS[self.spec.task.kind](self.spec.task, self.loader.tokenizer())
        train = subsample(rows.splits["train"], self.spec.task.problem, workload.rows // share, 0)
        self.examples = self.kind.encode(train, split="train")
        self.kind.fit(self.examples)
        self.build()

    def build(self) -> None:
        """Begin anew."""
        import torch

        torch.manual_seed(0)
        self.model = self.spec.strategy.build(self.loader, self.spec.task)
        self.kind.start(self.model)

    def __call__(self) -> float:
        from adapt.training import train

        rate, metric = self.spec.strategy.learning_rate, self.spec.task.metric
        assert rate is not None
        done = train(
            self.model, self.kind, self.examples, [], self.spec.budget, learning_rate=rate, metric=metric,
            higher_is_better=True, seed=0,
        )  # fmt: skip
        assert done.seconds is not None
        return done.seconds


def profiled(strategy: str, data: Path) -> dict[str, Any]:
    """An epoch under the profiler, one whose operations are counted, and the median time of three without either."""
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.flop_counter import FlopCounterMode

    training = Training(strategy, data)

    def epoch() -> float:
        training.build()
        return training()

    epoch()
    seconds = statistics.median(epoch() for _ in range(3))
    with FlopCounterMode(display=False) as counter:
        epoch()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        epoch()
    own = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    rows = len(training.examples)
    return {
        "strategy": strategy, "rows_per_second": rows / seconds, "flops_per_row": counter.get_total_flops() / rows,
        "shares": shares(own),
    }  # fmt: skip


def tried(data: Path, repeats: int = 3) -> dict[str, float]:
    """What an epoch of LoRA takes when it is done otherwise, in epochs of the usual kind beside it.

    Each is a process of its own, forked before this one computes anything.
    """
    warm()
    cores = len(os.sched_getaffinity(0))
    halves, first, later = [], [], []
    for _ in range(repeats):
        whole = Forked(epochs, data, cores).result()
        parts = [Forked(partial(epochs, data, 1, share=2)) for _ in range(2)]
        halves.append(max(statistics.median(part.result()[1:]) for part in parts) / statistics.median(whole[1:]))
        plain = statistics.median(Forked(partial(epochs, data, cores, dropout=0.0)).result()[1:])
        compiled = Forked(partial(epochs, data, cores, compiled=True, dropout=0.0)).result()
        first.append(compiled[0] / plain)
        later.append(statistics.median(compiled[1:]) / plain)
    return {
        "halves": statistics.median(halves), "compiled_first": statistics.median(first),
        "compiled": statistics.median(later),
    }  # fmt: skip


def epochs(
    data: Path, threads: int, share: int = 1, compiled: bool = False, dropout: float | None = None
) -> list[float]:
    """Seconds of six epochs of LoRA, one after another."""
    import torch

    torch.set_num_threads(threads)
    training = Training("lora", data, share=share, dropout=dropout)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        if compiled:
            for layer in training.model.base_model.encoder.layer:
                layer.compile(dynamic=True)
        return [training() for _ in range(6)]


def shares(own: Mapping[str, float]) -> dict[str, float]:
    """Share of the time of torch's operations that each part takes.

    Args:
        own: Time within each operation itself, by name; what is none of torch's is left out.
    """
    parts = dict.fromkeys((*PARTS, "other"), 0.0)
    for key, value in own.items():
        library, _, name = key.partition("::")
        if library not in ("aten", "bitsandbytes"):
            continue
        parts[next((part for part, names in PARTS.items() if name in names), "other")] += value
    total = sum(parts.values())
    return {part: round(value / total, 4) for part, value in parts.items()}


def page(found: dict[str, Any], ratios: list[dict[str, Any]]) -> str:
    """The profile as a table, with the ratios to peers that `speed.py` found."""
    limit = max(found["product_flops_per_second"])
    here = [row for row in ratios if hardware_of(row) == found["hardware"]]
    names = (*PARTS, "other")
    lines = [
        "# What bounds a step on the CPU",
        "",
        f"MiniLM on SST-2; {found['hardware']}, {found['threads']} threads; torch {found['torch']}; written by",
        "`python benchmarks/profile_cpu.py`.",
        "",
        "- Limit: rows a second if all products of the strategy ran as fast as one of the backbone's own size in bf16,",
        f"  which does {limit / 1e9:.0f} GFLOP/s here. Reached: the share of it that training reaches.",
        "- Needed: the share of the limit at which the strategy would reach its target beside its peer, in that one's",
        "  default and best settings, by the ratios on that processor in [speed.md](speed.md).",
        "- The other columns are shares of the time within torch's operations.",
        "",
        line(["strategy", "MFLOP a row", "limit, rows/s", "reached", "needed, default", "needed, best", *names]),
        line(["---", *["---:"] * (5 + len(names))]),
    ]
    for row in found["strategies"]:
        most = limit / row["flops_per_row"]
        reached = row["rows_per_second"] / most
        lines.append(line([
            row["strategy"], f"{row['flops_per_row'] / 1e6:,.0f}", f"{most:,.0f}", f"{reached:.0%}",
            *needed(row["strategy"], reached, here), *(f"{row['shares'][part]:.0%}" for part in names),
        ]))  # fmt: skip
    other = found["tried"]
    lines += [
        "",
        "Two other ways, tried with LoRA and timed in usual epochs:",
        "",
        f"- layers under `torch.compile`, without dropout: {other['compiled_first']:.0f} for the first epoch, which",
        f"  compiles, and {other['compiled']:.2f} for each later one;",
        f"- two processes, each with one thread and half of every batch: {other['halves']:.2f}, before their gradients",
        "  are added.",
    ]
    return "\n".join(lines) + "\n"


def needed(strategy: str, reached: float, ratios: list[dict[str, Any]]) -> list[str]:
    """Shares of the limit at which what is asked against a peer's default and best settings would be met."""
    peer = PEER_NAMES[MAIN_PEER.get(strategy, "trainer")]
    found = {
        row["peer_settings"]: row["ratio_median"]
        for row in ratios
        if (row["workload"], row["strategy"], row["peer"]) == (WORKLOAD, strategy, peer)
    }
    return [
        f"{reached * asked / found[settings]:.0%}" if settings in found else ""
        for settings, asked in zip(("default", "best"), ASKED[strategy], strict=True)
    ]


if __name__ == "__main__":
    main()
