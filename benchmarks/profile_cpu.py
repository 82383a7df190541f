"""What bounds a training step on this CPU: where an epoch's time goes, and how far its products are from the limit.

    python benchmarks/profile_cpu.py --data ../shared/data

MiniLM on 512 rows of SST-2 as in `speed.py`, one epoch of each strategy under torch's profiler, on all cores. The limit
is what this CPU does in the same run on a product of the backbone's own size (800 rows, 384 by 1536, bf16), divided by
the floating-point operations of the strategy's products for a row (torch's FlopCounterMode). Written to --out as
`profile_cpu.json` and `profile_cpu.md`.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speed import WORKLOADS

from adapt.files import write_atomically

WORKLOAD = "sst2"
STRATEGIES = ("full", "lora", "bottleneck", "prefix", "qlora", "head")
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
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="names with commas between them")
    parser.add_argument("--table", action="store_true", help="run nothing; write the page from profile_cpu.json")
    options = parser.parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    if not options.table:
        if options.data is None:
            parser.error("--data is needed")
        before = product_rate()
        rows = [profiled(name, Path(options.data)) for name in options.strategies.split(",")]
        found = {"product_flops_per_second": [before, product_rate()], "strategies": rows, **machine()}
        write_atomically(out / "profile_cpu.json", json.dumps(found, indent=1) + "\n")
    write_atomically(out / "profile_cpu.md", page(json.loads((out / "profile_cpu.json").read_text())))


def machine() -> dict[str, Any]:
    """What it ran on."""
    import platform

    import torch

    return {"threads": torch.get_num_threads(), "torch": torch.__version__, "processor": platform.machine()}


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


def profiled(strategy: str, data: Path) -> dict[str, Any]:
    """An epoch under the profiler, one whose operations are counted, and the median time of three without either."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.flop_counter import FlopCounterMode

    from adapt.adapted import assemble
    from adapt.backbones import Loader
    from adapt.data import load, subsample
    from adapt.tasks import KINDS
    from adapt.training import train

    workload = WORKLOADS[WORKLOAD]
    given = load(data / workload.folder, name=WORKLOAD, kind=workload.kind)
    spec, rows, source = assemble(
        "minilm", given, strategy, epochs=1, batch_size=workload.batch, max_length=workload.max_length, device="cpu"
    )
    loader = Loader(source, spec.task, spec.budget, 0)
    kind = KINDS[spec.task.kind](spec.task, loader.tokenizer())
    examples = kind.encode(subsample(rows.splits["train"], spec.task.problem, workload.rows, 0), split="train")
    kind.fit(examples)
    rate = spec.strategy.learning_rate
    assert rate is not None

    def epoch() -> float:
        torch.manual_seed(0)
        model = spec.strategy.build(loader, spec.task)
        kind.start(model)
        done = train(
            model, kind, examples, [], spec.budget, learning_rate=rate, metric=spec.task.metric, higher_is_better=True,
            seed=0,
        )  # fmt: skip
        assert done.seconds is not None
        return done.seconds

    epoch()
    seconds = statistics.median(epoch() for _ in range(3))
    with FlopCounterMode(display=False) as counter:
        epoch()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        epoch()
    own = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    return {
        "strategy": strategy, "rows_per_second": len(examples) / seconds,
        "flops_per_row": counter.get_total_flops() / len(examples), "shares": shares(own),
    }  # fmt: skip


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


def page(found: dict[str, Any]) -> str:
    """The profile as a table."""
    limit = max(found["product_flops_per_second"])
    lines = [
        "# What bounds a step on the CPU",
        "",
        f"`python benchmarks/profile_cpu.py`: MiniLM, SST-2, {found['threads']} threads, torch {found['torch']}. A",
        f"product of the backbone's own size in bf16 does {limit / 1e9:.0f} GFLOP/s here; the limit is that over the",
        "operations of the strategy's products for a row. Shares are of the time within torch's operations.",
        "",
        "| strategy | MFLOP a row | limit, rows/s | reached | " + " | ".join((*PARTS, "other")) + " |",
        "| --- | ---: | ---: | ---: | " + " | ".join("---:" for _ in (*PARTS, "other")) + " |",
    ]
    for row in found["strategies"]:
        most = limit / row["flops_per_row"]
        parts = " | ".join(f"{row['shares'][part]:.0%}" for part in (*PARTS, "other"))
        lines.append(
            f"| {row['strategy']} | {row['flops_per_row'] / 1e6:,.0f} | {most:,.0f} | "
            f"{row['rows_per_second'] / most:.0%} | {parts} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
