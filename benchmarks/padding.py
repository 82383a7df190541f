"""How much of a batch is padding: what packing rows into one, or attention without padding, could save at the most.

    python benchmarks/padding.py --data ../shared/data

Data sets and batches are those of `speed.py`, of which all training rows are counted. Written to --out as
`padding.json` and `padding.md`: the share of tokens that is padding in batches in a random order, in those of the loop
(rows of similar length together), and in those with the few lengths of CUDA graphs.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speed import WORKLOADS

from adapt.files import write_atomically
from adapt.tables.cells import line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with the folders of the data sets")
    parser.add_argument("--out", default="results/benchmarks", help="folder of padding.json and padding.md")
    parser.add_argument("--table", action="store_true", help="count nothing; write padding.md from padding.json")
    options = parser.parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    if not options.table:
        if options.data is None:
            parser.error("--data is needed")
        rows = [counted(name, Path(options.data)) for name in WORKLOADS]
        write_atomically(out / "padding.json", json.dumps(rows, indent=1) + "\n")
    write_atomically(out / "padding.md", page(json.loads((out / "padding.json").read_text())))


def counted(name: str, data: Path) -> dict[str, Any]:
    """The shares of one workload, over all its training rows."""
    from speed_worker import make_decoder

    from adapt.adapted import assemble
    from adapt.backbones import Loader
    from adapt.data import load
    from adapt.tasks import KINDS
    from adapt.training.batching import lengths_of

    workload = WORKLOADS[name]
    with tempfile.TemporaryDirectory() as folder:
        backbone = workload.backbone
        if backbone != "minilm":
            backbone = str(Path(folder) / backbone)
            make_decoder(Path(backbone))
        rows = load(data / workload.folder, name=name, kind=workload.kind)
        spec, rows, source = assemble(backbone, rows, "full", max_length=workload.max_length)
        tokenizer = Loader(source, spec.task, spec.budget, 0).tokenizer()
    kind = KINDS[workload.kind](spec.task, tokenizer)
    lengths = lengths_of(kind.encode(rows.splits["train"], split="train"))
    return {"workload": name, "batch": workload.batch, "rows": len(lengths), **shares(lengths, workload.batch)}


def shares(lengths: Sequence[int], batch: int) -> dict[str, float]:
    """Share of padding in three kinds of batches."""
    import torch

    from adapt.tasks.tokens import rounded_length
    from adapt.training.batching import length_bucketed

    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    random = [order[i : i + batch] for i in range(0, len(order), batch)]
    bucketed = length_bucketed(lengths, batch, generator)
    longest = max(lengths)

    def share(batches: Sequence[Sequence[int]], rounded: bool) -> float:
        tokens = 0
        for members in batches:
            length = max(lengths[i] for i in members)
            tokens += len(members) * (min(rounded_length(length), longest) if rounded else length)
        return round(1 - sum(lengths) / tokens, 4)

    return {"random": share(random, False), "loop": share(bucketed, False), "graphs": share(bucketed, True)}


def page(rows: list[dict[str, Any]]) -> str:
    """The shares as a table."""
    lines = [
        "# Padding in a batch",
        "",
        "The share of tokens that is padding, written by `python benchmarks/padding.py`. Packing could save at most",
        "what is padding in the batches of training, or, on GPUs with CUDA graphs, in those padded to a graph's length",
        "(where it would take a graph for each total instead).",
        "",
        "| workload | rows | batch | random batches | training's batches | for CUDA graphs |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        parts = (f"{row[name]:.1%}" for name in ("random", "loop", "graphs"))
        lines.append(line([row["workload"], f"{row['rows']:,}", str(row["batch"]), *parts]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
