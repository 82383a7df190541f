"""One side of the speed benchmark: imports its libraries once, then does each job in a fork of its own.

Run by `speed.py`, by the interpreter that has the side's libraries: `python speed_worker.py ours|trainer|adapters`.
Jobs come as one JSON object a line; the answer to each is one line. The code of the peers imports nothing of `adapt`.
"""

import ctypes
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FIELDS = ("input_ids", "attention_mask", "token_type_ids")
RANDOM_DECODER = "decoder-20m"
"""Name of the folder of a causal LM with random weights, made where it is not there."""
LAYERS = ["query", "key", "value", "dense"]
"""Linear layers of BERT's encoder, by PEFT's suffixes."""


def main() -> None:
    side = sys.argv[1]
    {"ours": import_ours, "trainer": import_trainer, "adapters": import_adapters}[side]()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    print(json.dumps({"python": sys.version.split()[0], **versions()}), file=answers, flush=True)
    for line in sys.stdin:
        print(in_a_fork(side, json.loads(line)), file=answers, flush=True)


def versions() -> dict[str, str]:
    """Package to version, of those that are installed."""
    found = {}
    for name in ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "adapters"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def in_a_fork(side: str, job: dict[str, Any]) -> str:
    """The job's answer as JSON, or what went wrong under `error`."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = {"ours": ours, "trainer": trainer, "adapters": adapters}[side](job)
        except Exception:
            answer = {"error": traceback.format_exc()}
        with os.fdopen(write, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text or json.dumps({"error": "the process died"})


# ours ------------------------------------------------------------------------------------------------------------


def import_ours() -> None:
    import peft  # noqa: F401
    import transformers  # noqa: F401

    import adapt.adapted
    import adapt.run
    import adapt.strategies.lora_layer
    import adapt.strategies.prefix_attention
    import adapt.training.loop  # noqa: F401


def encoded(job: dict[str, Any]) -> tuple[Any, Any, Any, dict[str, list[Any]]]:
    """The run of a job, its loader, its kind of task, and the rows of `train` and `test`."""
    from adapt.adapted import assemble
    from adapt.backbones import Loader
    from adapt.data import load, subsample
    from adapt.strategies import make
    from adapt.tasks import KINDS

    if job["backbone"].endswith(RANDOM_DECODER) and not Path(job["backbone"]).exists():
        make_decoder(Path(job["backbone"]))
    data = load(job["data"], name=job["workload"], kind=job["kind"])
    spec, rows, source = assemble(
        job["backbone"], data, make(job["strategy"]), seed=job["seed"], epochs=job["epochs"], batch_size=job["batch"],
        max_length=job["max_length"], device="cpu", precision="auto", warmup=0.0, clip=1.0, weight_decay=0.0,
    )  # fmt: skip
    loader = Loader(source, spec.task, spec.budget, spec.seed)
    kind = KINDS[spec.task.kind](spec.task, loader.tokenizer())
    parts = {
        "train": subsample(rows.splits["train"], spec.task.problem, job["rows"], 0),
        "test": rows.splits["validation"].select(range(min(job["test_rows"], len(rows.splits["validation"])))),
    }
    examples = {split: kind.encode(part, split="train") for split, part in parts.items()}
    kind.fit(examples["train"])
    return spec, loader, kind, examples


def ours(job: dict[str, Any]) -> dict[str, Any]:
    """Train by adapt, or (`make`) write the rows for every side."""
    import torch
    from _forked import Forked

    from adapt.backbones import Loader, resolve
    from adapt.tasks import KINDS
    from adapt.training.loop import train

    if job.get("make"):
        spec, loader, kind, rows = encoded(job)
        content = {split: [plain(example, job["kind"]) for example in part] for split, part in rows.items()}
        Path(job["dump"]).write_text(json.dumps({**content, "labels": len(spec.task.labels)}))
        loader.tokenizer().save_pretrained(job["tokenizer"])
        return {"rows": len(rows["train"]), "backbone": str(loader.backbone.path)}
    spec, rows = Forked(lambda: encoded(job)[::3]).result()  # which takes with it what memory that took
    loader = Loader(resolve(job["backbone"]), spec.task, spec.budget, spec.seed)
    kind = KINDS[spec.task.kind](spec.task, loader.tokenizer())
    kind.fit(rows["train"])
    before = resident()
    torch.manual_seed(spec.seed)
    model = spec.strategy.build(loader, spec.task)
    kind.start(model)
    rate = spec.strategy.learning_rate
    assert rate is not None
    trained = train(
        model, kind, rows["train"], [], spec.budget, learning_rate=rate, metric=spec.task.metric,
        higher_is_better=True, seed=spec.seed,
    )  # fmt: skip
    assert trained.process_bytes is not None
    return {
        "seconds": trained.seconds,
        "rows": trained.rows,
        "updates": trained.curve[-1]["step"],
        "peak": trained.process_bytes - before,
        "accuracy": accuracy(model, job),
        "precision": spec.budget.precision,
        "attention_used": loader.attention(),
    }


def make_decoder(folder: Path) -> None:
    """A Llama of 20 million random parameters, whose vocabulary of 32,000 holds that of MiniLM's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from adapt.backbones import resolve

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32_000, hidden_size=256, intermediate_size=688, num_hidden_layers=5, num_attention_heads=4,
            num_key_value_heads=4, max_position_embeddings=512, tie_word_embeddings=False, pad_token_id=0,
            bos_token_id=101, eos_token_id=102,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(resolve("minilm").path)
    tokenizer.add_special_tokens({"eos_token": "[SEP]", "bos_token": "[CLS]"})
    tokenizer.save_pretrained(folder)


def plain(example: dict[str, Any], kind: str) -> dict[str, Any]:
    """An encoded row as Hugging Face's models and collators take it."""
    row = {name: example[name] for name in FIELDS if name in example}
    if kind == "sequence_classification":
        return row | {"labels": example["label"]}
    if kind == "token_classification":
        labels = [-100] * len(row["input_ids"])
        for position, tag in zip(example["positions"], example["tags"], strict=True):
            labels[position] = tag
        return row | {"labels": labels}
    if kind == "question_answering":
        return row | dict(zip(("start_positions", "end_positions"), example["target"], strict=True))
    return {"input_ids": row["input_ids"], "attention_mask": [1] * len(row["input_ids"]), "labels": example["labels"]}


# peers -----------------------------------------------------------------------------------------------------------


def import_trainer() -> None:
    import bitsandbytes  # noqa: F401
    import peft  # noqa: F401
    import transformers
    from transformers import Trainer  # noqa: F401

    transformers.logging.set_verbosity_error()


def trainer(job: dict[str, Any]) -> dict[str, Any]:
    """Train by Hugging Face's Trainer, with PEFT where the strategy is one of its methods."""
    import torch
    import transformers

    content = json.loads(Path(job["dump"]).read_text())
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["tokenizer"])
    before = resident()
    transformers.set_seed(job["seed"])
    names = {
        "sequence_classification": ("AutoModelForSequenceClassification", "SEQ_CLS"),
        "token_classification": ("AutoModelForTokenClassification", "TOKEN_CLS"),
        "question_answering": ("AutoModelForQuestionAnswering", "QUESTION_ANS"),
        "causal_lm": ("AutoModelForCausalLM", "CAUSAL_LM"),
    }
    cls, task_type = names[job["kind"]]
    options: dict[str, Any] = {} if job["attention"] is None else {"attn_implementation": job["attention"]}
    if frozen_low(job):
        options["dtype"] = torch.bfloat16
    if job["kind"] in ("sequence_classification", "token_classification"):
        options["num_labels"] = content["labels"]
    if job["strategy"] == "qlora":
        options["device_map"] = {"": "cpu"}
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_8bit=True, llm_int8_skip_modules=["classifier", "pooler", "qa_outputs"]
        )
    model = getattr(transformers, cls).from_pretrained(job["path"], **options)
    if job["strategy"] == "head":
        for name, parameter in model.base_model.named_parameters():
            parameter.requires_grad_(name.startswith("pooler"))
    elif job["strategy"] != "full":
        model = with_peft(model, job, task_type)
    trained_in_float32(model)
    return trained_by(transformers.Trainer, model, content, tokenizer, job, before)


def frozen_low(job: dict[str, Any]) -> bool:
    """Whether frozen weights are held in bfloat16; bitsandbytes' are in 8 bits."""
    return job["settings"] == "best" and job["strategy"] not in ("full", "qlora")


def trained_in_float32(model: Any) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def with_peft(model: Any, job: dict[str, Any], task_type: str) -> Any:
    import peft

    if job["strategy"] == "prefix":
        return peft.get_peft_model(
            model, peft.PrefixTuningConfig(task_type=task_type, num_virtual_tokens=job["tokens"])
        )
    if job["strategy"] == "qlora":
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    targets = "all-linear" if job["kind"] == "causal_lm" else LAYERS
    config = peft.LoraConfig(
        task_type=task_type, r=job["rank"], lora_alpha=job["rank"], target_modules=targets, exclude_modules=".*pooler.*"
    )
    return peft.get_peft_model(model, config)


def import_adapters() -> None:
    import adapters  # type: ignore[import-not-found]  # noqa: F401
    import transformers
    from adapters import AdapterTrainer  # noqa: F401

    transformers.logging.set_verbosity_error()


def adapters(job: dict[str, Any]) -> dict[str, Any]:
    """Train by the adapters library."""
    import adapters as library
    import torch
    import transformers
    from adapters import AdapterTrainer, AutoAdapterModel

    content = json.loads(Path(job["dump"]).read_text())
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["tokenizer"])
    before = resident()
    transformers.set_seed(job["seed"])
    options = {} if job["attention"] is None else {"attn_implementation": job["attention"]}
    model = AutoAdapterModel.from_pretrained(job["path"], **options)
    configs = {
        "bottleneck": lambda: library.DoubleSeqBnConfig(reduction_factor=job["factor"]),
        "prefix": lambda: library.PrefixTuningConfig(prefix_length=job["tokens"], flat=True),
        "lora": lambda: library.LoRAConfig(
            r=job["rank"], alpha=job["rank"], attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True
        ),
    }
    model.add_adapter("a", config=configs[job["strategy"]]())
    add = {
        "sequence_classification": model.add_classification_head,
        "token_classification": model.add_tagging_head,
    }[job["kind"]]
    add("a", num_labels=content["labels"])
    if frozen_low(job):
        model.to(torch.bfloat16)
    model.train_adapter("a")
    trained_in_float32(model)
    return trained_by(AdapterTrainer, model, content, tokenizer, job, before)


def trained_by(
    trainer_class: Any, model: Any, content: dict[str, Any], tokenizer: Any, job: dict[str, Any], before: int
) -> dict[str, Any]:
    """Train by a Trainer with its default settings or its best ones, and score."""
    import torch
    import transformers

    best = job["settings"] == "best"
    arguments = transformers.TrainingArguments(
        output_dir=job["scratch"], per_device_train_batch_size=job["batch"], num_train_epochs=job["epochs"],
        learning_rate=job["learning_rate"], seed=job["seed"], report_to=[], save_strategy="no", disable_tqdm=True,
        use_cpu=True, dataloader_pin_memory=False, bf16=best,
    )  # fmt: skip
    times: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            peak_of_process().write_text("5")
            times.append(time.perf_counter())

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.perf_counter())

    class Grouped(torch.utils.data.Sampler[int]):
        """Rows of like length in one batch, and the batches in a random order: what `group_by_length` comes to in sets
        of 200 batches and more, where it sorts 50 batches at a time; of sets as small as these it sorts one to four."""

        def __init__(self) -> None:
            self.lengths = [len(row["input_ids"]) for row in content["train"]]

        def __len__(self) -> int:
            return len(self.lengths)

        def __iter__(self) -> Iterator[int]:
            order = sorted(range(len(self)), key=self.lengths.__getitem__)
            batches = [order[i : i + job["batch"]] for i in range(0, len(order), job["batch"])]
            full = len(order) // job["batch"]
            for i in [*torch.randperm(full).tolist(), *range(full, len(batches))]:
                yield from batches[i]

    class OneOfThem(trainer_class):
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return Grouped() if best else super()._get_train_sampler(*args, **kwargs)

    collator = collator_for(tokenizer, job["kind"])
    done = OneOfThem(
        model=model, args=arguments, train_dataset=content["train"], data_collator=collator, callbacks=[Clock()]
    )
    done.train()
    peak = resident("VmHWM") - before
    return {
        "seconds": times[1] - times[0],
        "rows": len(content["train"]) * job["epochs"],
        "updates": done.state.global_step,
        "peak": peak,
        "accuracy": accuracy(model, job),
    }


# both ------------------------------------------------------------------------------------------------------------


def collator_for(tokenizer: Any, kind: str) -> Any:
    import transformers

    if kind in ("token_classification", "causal_lm"):
        return transformers.DataCollatorForTokenClassification(tokenizer)
    return transformers.DataCollatorWithPadding(tokenizer)


def accuracy(model: Any, job: dict[str, Any]) -> float:
    """Share of labels that the logits get right: of rows, words, answers (both ends) or next tokens."""
    import torch
    import transformers

    rows = json.loads(Path(job["dump"]).read_text())["test"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["tokenizer"])
    collate = collator_for(tokenizer, job["kind"])
    right = total = 0
    model.eval()
    for start in range(0, len(rows), 64):
        batch = collate(rows[start : start + 64])
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(**{name: batch[name] for name in FIELDS if name in batch})
        if job["kind"] == "question_answering":
            hits = (out.start_logits.argmax(-1) == batch["start_positions"]) & (
                out.end_logits.argmax(-1) == batch["end_positions"]
            )
        else:
            found, labels = out.logits.argmax(-1), batch["labels"]
            if job["kind"] == "causal_lm":
                found, labels = found[:, :-1], labels[:, 1:]
            hits = (found == labels)[labels != -100]
        right, total = right + int(hits.sum()), total + hits.numel()
    return right / total


def resident(field: str = "VmRSS") -> int:
    """Bytes of this process's resident set now, without what is free, or (`VmHWM`) at its peak since the mark was set
    back."""
    if field == "VmRSS":
        trim()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError("this benchmark reads /proc/self/status, which only Linux has")


def trim() -> None:
    """Have the C library give back what is free, on every side alike."""
    ctypes.CDLL(None).malloc_trim(0)


def peak_of_process() -> Path:
    """Writing 5 sets the mark of the resident set's peak back (proc(5)); what is free is none of it."""
    trim()
    return Path("/proc/self/clear_refs")


if __name__ == "__main__":
    main()
