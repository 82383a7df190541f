"""Training speed on one GPU, beside Hugging Face's Trainer with PEFT at its best: random weights of well-known shapes.

    python benchmarks/gpu_speed.py --work gpu-work --peak-tflops 989

Both sides train the same made-up rows in batches of the same size for the same number of updates, in bf16, with LoRA of
rank 16 on every linear layer; the Trainer groups rows by length, holds frozen weights in bf16 as well, and takes the
fused AdamW and the sdpa kernel. Classification has rows of 8 to 128 tokens, of which most are short; texts are of one
length. `full`, `bottleneck` and `prefix` run on our side alone, for the ratio to our own full fine-tuning. Timed are
the training steps of each epoch after the first, which warms up (in ours CUDA graphs are captured in it; `ratio_first`
is its ratio): a repeat is an epoch of both. Memory is the highest `max_memory_allocated` of an epoch.

The Llama shapes have checkpointing on both sides, and on ours the loss in chunks of 512 tokens, which the Trainer has
not without another library: most of what the memory there differs by.

Each run is a process of its own; times stay in --work (`gpu.jsonl`: what is there of the same GPU, version of torch and
number of epochs is not run again), and ratios go to --out as `gpu_speed.json` and `gpu_speed.md`. `--device cpu
--shape tiny-encoder` tries the script without a GPU, and writes nothing; `--cases` takes some of the shapes, and leaves
the ratios of others in --out as they are.
"""

import argparse
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _forked import Forked, warm
from _state import commit

from adapt.files import write_atomically
from adapt.tables.cells import line

RANK = 16
SEED = 0


@dataclass(frozen=True)
class Case:
    """A shape, and the rows it is trained on."""

    shape: str
    kind: str
    rows: int
    batch: int
    shortest: int
    longest: int
    ours: tuple[str, ...] = ("lora", "full")
    choices: dict[str, Any] = field(default_factory=dict)


LARGE = {"checkpointing": True, "loss_chunk": 512}
CASES = (
    Case("shape:bert-base", "sequence_classification", 2048, 32, 8, 128, ("lora", "full", "bottleneck", "prefix")),
    Case("shape:bert-large", "sequence_classification", 1024, 32, 8, 128),
    Case("shape:llama-1b", "causal_lm", 32, 8, 2048, 2048, choices=LARGE),
    Case("shape:llama-8b", "causal_lm", 16, 8, 2048, 2048, ("lora",), choices=LARGE),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="gpu-work", help="folder of the times")
    parser.add_argument("--out", default="results/benchmarks", help="folder of gpu_speed.json and gpu_speed.md")
    parser.add_argument("--repeats", type=int, default=3, help="epochs that are timed")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--shape", help="one backbone or shape, trained on 64 rows, in place of all cases")
    parser.add_argument("--kind", default="sequence_classification", help="of --shape")
    parser.add_argument("--peak-tflops", type=float, help="what the GPU's maker says of dense bf16 products")
    parser.add_argument("--cases", help="names of shapes with commas between them; all otherwise")
    options = parser.parse_args()
    warm()

    gpu = Forked(name_of, options.device).result()
    work, out = Path(options.work), Path(options.out)
    work.mkdir(parents=True, exist_ok=True)
    wanted = options.cases.split(",") if options.cases else [case.shape for case in CASES]
    cases = tuple(case for case in CASES if case.shape in wanted)
    if options.shape:
        cases = (Case(options.shape, options.kind, 64, 8, 8, 8 if options.kind == "causal_lm" else 32),)
    file, epochs = work / "gpu.jsonl", 1 + options.repeats
    finished = [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []
    runs = alike(finished, {"gpu": gpu, **made_by()}, epochs)
    failed = run_all(cases, runs, file, gpu=gpu, device=options.device, epochs=epochs)
    rows = ratios(runs, options.peak_tflops)
    if options.device == "cuda":
        out.mkdir(parents=True, exist_ok=True)
        numbers = out / "gpu_speed.json"
        rows = beside(json.loads(numbers.read_text()) if numbers.exists() else [], rows)
        write_atomically(numbers, json.dumps(rows, indent=1) + "\n")
        write_atomically(out / "gpu_speed.md", page(rows))
    print(page(rows))
    if failed:
        raise SystemExit(f"{failed} runs failed; call again to do them again")


def name_of(device: str) -> str:
    """The GPU's."""
    import torch

    return "none" if device == "cpu" else torch.cuda.get_device_name()


def run_all(
    cases: Sequence[Case], runs: list[dict[str, Any]], file: Path, *, gpu: str, device: str, epochs: int
) -> int:
    """Do what is not among the runs, and add it to them and to the file; give the number of failures."""
    failed = 0
    for case in cases:
        for name, strategy in [("ours", "lora"), ("trainer", "lora"), *(("ours", s) for s in case.ours[1:])]:
            key = {"shape": case.shape, "side": name, "strategy": strategy, "gpu": gpu}
            if any(key.items() <= run.items() for run in runs):
                continue
            try:
                run = Forked({"ours": ours, "trainer": trainer}[name], case, strategy, device, epochs).result()
            except RuntimeError as error:
                failed += 1
                print(f"{' '.join(key.values())}: {error}", file=sys.stderr, flush=True)
                continue
            runs.append(key | run)
            with file.open("a") as lines:
                lines.write(json.dumps(runs[-1]) + "\n")
            shown = " ".join(f"{run['tokens'] / seconds:.0f}" for seconds in run["epochs"])
            print(*key.values(), f"{shown} tokens/s, {run['graphs']} graphs", flush=True)
    return failed


def made_by() -> dict[str, str]:
    """What of the code decides how fast a run is: versions, and the state of the package and the benchmarks."""
    return {name: version(name) for name in ("torch", "transformers", "peft")} | {"commit": commit()}


def alike(runs: list[dict[str, Any]], made: Mapping[str, str], epochs: int) -> list[dict[str, Any]]:
    """Those that new runs may stand beside: made on the same GPU by the same code, of as many epochs."""
    return [run for run in runs if made.items() <= run.items() and len(run["epochs"]) == epochs]


def token_ids(case: Case, words: int = 1000) -> list[list[int]]:
    """Made-up rows; lengths spread evenly on a logarithmic scale."""
    rng = random.Random(SEED)
    rows = []
    for _ in range(case.rows):
        length = round(case.shortest * (case.longest / case.shortest) ** rng.random())
        rows.append([rng.randrange(5, words) for _ in range(length)])
    return rows


# the sides -------------------------------------------------------------------------------------------------------


def setting(case: Case, strategy: str, device: str, epochs: int = 1) -> Any:
    """What the planner would plan for, which names task, budget and configuration."""
    from adapt.memory.planner import setting_of
    from adapt.strategies import make

    fields = {"rank": RANK} if strategy == "lora" else {}
    return setting_of(
        case.shape, make(strategy, fields), kind=case.kind, device=device, precision="bf16", pooling="native",
        batch_size=case.batch, epochs=epochs, **case.choices,
    )  # fmt: skip


def ours(case: Case, strategy: str, device: str, epochs: int) -> dict[str, Any]:
    """Epochs of adapt's loop."""
    import dataclasses

    import torch
    from _random_weights import random_weights

    from adapt.tasks import KINDS
    from adapt.training import train

    found = setting(case, strategy, device, epochs)
    task = dataclasses.replace(found.task, max_length=case.longest)
    torch.manual_seed(SEED)
    load = random_weights(task, found)
    kind = KINDS[task.kind](task, load.tokenizer())
    model = found.strategy.build(load, task)
    ids = token_ids(case)
    if case.kind == "causal_lm":
        rows: list[Any] = [{"input_ids": row, "labels": row} for row in ids]
    else:
        rows = [{"input_ids": row, "label": i % 2} for i, row in enumerate(ids)]
    start(device)
    trained = train(
        model, kind, rows, [], found.budget, learning_rate=1e-4, metric=task.metric, higher_is_better=True, seed=SEED
    )
    return {
        "epochs": [epoch["seconds"] for epoch in trained.curve], "updates": trained.curve[0]["step"],
        "graphs": trained.graphs,
        **outcome(model, ids, device),
        "peak": trained.process_bytes if device == "cuda" else None,  # of all epochs: each counts from its own start
    }  # fmt: skip


def trainer(case: Case, strategy: str, device: str, epochs: int) -> dict[str, Any]:
    """Epochs of Hugging Face's Trainer."""
    import tempfile

    import peft
    import torch
    import transformers

    assert strategy == "lora"
    transformers.logging.set_verbosity_error()
    transformers.set_seed(SEED)
    config = setting(case, strategy, device).shape.config
    decoder = case.kind == "causal_lm"
    cls = transformers.AutoModelForCausalLM if decoder else transformers.AutoModelForSequenceClassification
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = cls.from_config(config, attn_implementation="sdpa")
    torch.set_default_dtype(torch.float32)
    model = peft.get_peft_model(
        model,
        peft.LoraConfig(
            task_type="CAUSAL_LM" if decoder else "SEQ_CLS", r=RANK, lora_alpha=RANK, target_modules="all-linear",
            exclude_modules=".*pooler.*",
        ),
    )  # fmt: skip
    ids = token_ids(case)
    rows = [{"input_ids": row, "labels": row if decoder else i % 2} for i, row in enumerate(ids)]
    times: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
            synchronise(device)
            times.append(time.perf_counter())

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            synchronise(device)
            times.append(time.perf_counter())

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        width = max(len(row["input_ids"]) for row in batch)
        padded = [row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in batch]
        mask = [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in batch]
        labels = padded if decoder else [row["labels"] for row in batch]  # texts of one length have no padding
        made = {"input_ids": padded, "attention_mask": mask, "labels": labels}
        return {name: torch.tensor(value) for name, value in made.items()}

    start(device)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder, per_device_train_batch_size=case.batch, num_train_epochs=epochs, learning_rate=1e-4,
            seed=SEED, report_to=[], save_strategy="no", disable_tqdm=True, bf16=True, optim="adamw_torch_fused",
            use_cpu=device == "cpu", train_sampling_strategy="group_by_length", dataloader_pin_memory=device == "cuda",
            gradient_checkpointing=bool(case.choices.get("checkpointing")), remove_unused_columns=False,
            logging_strategy="no",
        )  # fmt: skip
        done = transformers.Trainer(
            model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[Clock()]
        )
        done.train()
    return {
        "epochs": [end - begin for begin, end in itertools.pairwise(times)],
        "updates": done.state.global_step // epochs,
        "graphs": 0,
        **outcome(model, ids, device),
    }


def synchronise(device: str) -> None:
    """Wait for the GPU."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def start(device: str) -> None:
    """Count the GPU's peak from here: making the model is no part of it."""
    import torch

    synchronise(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def outcome(model: Any, ids: list[list[int]], device: str) -> dict[str, Any]:
    """What either side says of a run besides its time."""
    import torch

    cuda = device == "cuda"
    weights = sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n)
    last = getattr(model, "get_output_embeddings", lambda: None)()
    if last is not None and last.weight is model.get_input_embeddings().weight:
        weights += last.weight.numel()
    return {
        "tokens": sum(map(len, ids)),
        "peak": torch.cuda.max_memory_allocated() if cuda else None,
        "weights": weights,
        **made_by(),
    }


# ratios ----------------------------------------------------------------------------------------------------------


def flops_of(run: dict[str, Any]) -> float:
    """Floating-point operations of the model's matrix products that an update cannot do without.

    Two a weight and token forward and two for the gradient of the input; two more for that of each weight under full
    fine-tuning. Attention's own products, and what checkpointing computes again, are left out.
    """
    return (6.0 if run["strategy"] == "full" else 4.0) * run["weights"] * run["tokens"]


def ratios(runs: list[dict[str, Any]], peak_tflops: float | None) -> list[dict[str, Any]]:
    """Of each case our LoRA to the Trainer's, and our strategies to our full fine-tuning; of equal epochs."""
    found = {(run["shape"], run["side"], run["strategy"]): run for run in runs}
    rows = []
    for (shape, name, strategy), mine in found.items():
        if name != "ours":
            continue
        for peer, key in (("HF Trainer + PEFT", "trainer"), ("adapt, full", "ours")):
            other = found.get((shape, key, strategy if key == "trainer" else "full"))
            if other is None or other is mine:
                continue
            if mine["updates"] != other["updates"] or mine["tokens"] != other["tokens"]:
                raise SystemExit(f"{shape} {strategy}: the sides did not do the same work")
            first, *speed = [b / a for a, b in zip(mine["epochs"], other["epochs"], strict=True)]
            achieved = flops_of(mine) / statistics.median(mine["epochs"][1:])
            memory = mine["peak"] / other["peak"] if mine["peak"] and other["peak"] else None
            rows.append(
                {
                    "shape": shape, "strategy": strategy, "peer": peer, "repeats": len(speed),
                    "ratio_median": round(statistics.median(speed), 3), "ratio_min": round(min(speed), 3),
                    "ratio_max": round(max(speed), 3), "ratio_first": round(first, 3), "graphs": mine["graphs"],
                    "peak_ratio": None if memory is None else round(memory, 3),
                    "share_of_peak_flops": round(achieved / (peak_tflops * 1e12), 3) if peak_tflops else None,
                    "gpu": mine["gpu"], **{name: mine[name] for name in made_by()},
                }
            )  # fmt: skip
    return rows


def compared(row: dict[str, Any]) -> tuple[str, str, str]:
    """What a row is the ratio of."""
    return row["shape"], row["strategy"], row["peer"]


def beside(earlier: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, and those of earlier calls that none of them takes the place of."""
    made = {compared(row) for row in rows}
    return [*(row for row in earlier if compared(row) not in made), *rows]


def missing(rows: list[dict[str, Any]]) -> list[str]:
    """Cases that the rows lack."""
    found = {compared(row) for row in rows}
    wanted = [(case.shape, "lora", "HF Trainer + PEFT") for case in CASES]
    wanted += [(case.shape, name, "adapt, full") for case in CASES if "full" in case.ours for name in case.ours]
    return [" ".join((shape, name, "beside", peer)) for shape, name, peer in wanted
            if (shape, name, peer) not in found and (name, peer) != ("full", "adapt, full")]  # fmt: skip


def page(rows: list[dict[str, Any]]) -> str:
    """The ratios as a table."""
    lines = [
        "# Training speed on a GPU",
        "",
        "Training with random weights in bf16, written by `python benchmarks/gpu_speed.py`. The Llama shapes have",
        "checkpointing on both sides, and the loss in chunks on ours.",
        "",
        "- Speed: how many times as fast as the peer adapt trains in an epoch after the first, median [least, most] of",
        "  the repeats; beside it in the first epoch, which warms up.",
        "- Peak memory: allocated memory over that of the peer; empty where it was not measured.",
        "- Share of peak FLOP/s: floating-point operations a second of the products that an update cannot do without,",
        "  over the maker's figure for the GPU.",
        "- Code: the last commit that had changed the package or the benchmarks; none where it was not recorded.",
        f"- Not measured: {'; '.join(missing(rows)) or 'none'}.",
        "",
        "| shape | strategy | peer | speed | in the first epoch | peak memory | share of peak FLOP/s | GPU | code |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for row in rows:
        speed = f"{row['ratio_median']:.2f} [{row['ratio_min']:.2f}, {row['ratio_max']:.2f}]"
        peak = "" if row["peak_ratio"] is None else f"{row['peak_ratio']:.2f}"
        share = "" if row["share_of_peak_flops"] is None else f"{row['share_of_peak_flops']:.1%}"
        first = f"{row['ratio_first']:.2f}"
        made = [row["gpu"], row.get("commit", "")]
        lines.append(line([row["shape"], row["strategy"], row["peer"], speed, first, peak, share, *made]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
