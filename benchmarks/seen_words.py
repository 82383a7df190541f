"""Full fine-tuning of a multilingual encoder that trains only the embeddings of words that occur, beside all of them.

    python benchmarks/seen_words.py --data ../shared/data

An encoder of the shape of XLM-R's base model (Conneau et al. 2020) with random weights is trained for a few updates on
NusaX (Javanese, folder `nusax_jav` below --data), the two ways in turn, in a process of their own each. Its words are
MiniLM's, for XLM-R's own tokenizer cannot be had without a network: how many occur is that one's. Compared are the peak
of a step, as counted and as planned, how far the process's memory rises, and rows a second. Ratios and bytes are
written to --out as `seen_words.json` and `seen_words.md`. Needs the package with MiniLM and 8 GiB; ten minutes on two
CPU cores.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from _forked import Forked, warm
from _state import commit

from adapt.files import write_atomically
from adapt.tables.cells import line

SHAPE = "shape:xlm-roberta-base"
WAYS = ("all", "seen")
BATCH, UPDATES, LENGTH = 16, 6, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with the folder nusax_jav")
    parser.add_argument("--out", default="results/benchmarks", help="folder of seen_words.json and seen_words.md")
    parser.add_argument("--repeats", type=int, default=3, help="number of repeats (default: %(default)s)")
    parser.add_argument("--table", action="store_true", help="train nothing; write seen_words.md from seen_words.json")
    options = parser.parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    if not options.table:
        if options.data is None:
            parser.error("--data is needed")
        warm()
        with tempfile.TemporaryDirectory() as folder:
            Forked(make, folder).result()
            found = [
                {way: Forked(trained, folder, options.data, way, seed).result() for way in WAYS[:: (-1) ** seed]}
                for seed in range(options.repeats)
            ]
        write_atomically(out / "seen_words.json", json.dumps(compared(found), indent=1) + "\n")
    write_atomically(out / "seen_words.md", page(json.loads((out / "seen_words.json").read_text())))


def make(folder: str) -> None:
    """Write the encoder, with random weights, and the tokenizer."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from adapt.backbones import resolve
    from adapt.memory.shapes import shape_of

    torch.manual_seed(0)
    AutoModel.from_config(shape_of(SHAPE).config, add_pooling_layer=False).save_pretrained(folder)
    AutoTokenizer.from_pretrained(resolve("minilm").path).save_pretrained(folder)


def trained(folder: str, data: str, way: str, seed: int) -> dict[str, Any]:
    """What a few updates take."""
    import adapt
    from adapt.memory.shapes import shape_of
    from adapt.strategies import make

    strategy = make("full", {"learning_rate": 2e-5, "embeddings": way})
    rows = adapt.data.load(Path(data) / "nusax_jav", name="nusax_jav", max_validation=16, max_test=16)
    model = adapt.fit(
        folder, rows, strategy, seed=seed, max_steps=UPDATES, batch_size=BATCH,
        max_length=LENGTH, pooling="mean", device="cpu", progress=False,
    )  # fmt: skip
    result = model.result
    assert result is not None
    assert result.process_bytes is not None
    assert result.baseline_bytes is not None
    encoded = model.fitted.kind.encode(rows.splits["train"], split="train")
    length = max(len(example["input_ids"]) for example in encoded)
    options: dict[str, Any] = {"batch": (BATCH, length), "labels": len(result.run.task.labels)}
    planned = adapt.memory.plan(
        folder, strategy, pooling="mean", device="cpu", words=result.seen_words, **options
    )  # fmt: skip
    return {
        "words": result.seen_words, "vocabulary": shape_of(SHAPE).config.vocab_size,
        "seconds": result.train_seconds, "peak": result.memory["peak"], "planned": planned.peak,
        "process": result.process_bytes - result.baseline_bytes, "precision": result.run.budget.precision,
        "loss": result.curve[-1]["loss"], "environment": result.environment,
    }  # fmt: skip


def compared(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The repeats as one: bytes, and times as fast."""
    first = found[0]["seen"]
    versions, hardware = first["environment"]["versions"], first["environment"]["hardware"]
    ratios = [repeat["all"]["seconds"] / repeat["seen"]["seconds"] for repeat in found]
    middle: dict[str, dict[str, Any]] = {way: {} for way in WAYS}
    for way in WAYS:
        for name in ("peak", "planned", "process"):
            middle[way][name] = int(statistics.median(repeat[way][name] for repeat in found))
        middle[way]["loss"] = [round(repeat[way]["loss"], 4) for repeat in found]
    return {
        "shape": SHAPE, "batch": BATCH, "updates": UPDATES, "words": first["words"], "vocabulary": first["vocabulary"],
        "precision": first["precision"], **middle, "times_as_fast": [round(ratio, 3) for ratio in ratios],
        "environment": {"hardware": hardware, **{name: versions[name] for name in ("python", "torch", "transformers")}},
        "commit": commit(),
    }  # fmt: skip


def page(found: dict[str, Any]) -> str:
    """The table."""
    gib = 2**30
    ratios = found["times_as_fast"]
    lines = [
        "# Word embeddings that occur, or all",
        "",
        f"Full fine-tuning of {found['shape']}, random weights, batch {found['batch']}, {found['precision']}, on NusaX"
        " (Javanese), on the CPU;",
        "written by `python benchmarks/seen_words.py`, which says how.",
        f"{found['words']:,} of {found['vocabulary']:,} words occur (MiniLM's tokenizer). Process: how far the memory",
        "of the whole process rises, from before the backbone is loaded to the peak of training.",
        "",
        "| `full.embeddings` | peak of a step | planned | process | speed-up |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for way in WAYS:
        sizes = (f"{found[way][name] / gib:.2f} GiB" for name in ("peak", "planned", "process"))
        speed = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]" if way == "seen" else ""
        lines.append(line([way, *sizes, speed]))
    versions = ", ".join(f"{name} {value}" for name, value in found["environment"].items() if name != "hardware")
    made = f"{found['environment']['hardware']}; {versions}; {len(ratios)} repeats; code {found['commit']}."
    return "\n".join([*lines, "", made, ""])


if __name__ == "__main__":
    main()
