"""Masked-language-model pretraining of a small encoder from plain text, on one CPU or GPU.

The objective is BERT's (Devlin et al. 2019, section 3.1), drawn anew each time a row is used (Liu et al. 2019,
"RoBERTa", section 4.1, as is the packing of rows); dropout is left out while pretraining (Geiping & Goldstein
2023, "Cramming"). `recipes/pretrain_tiny_encoder.py` puts the parts together.
"""

from __future__ import annotations

import gzip
import json
import math
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from adapt.spec import DataError, Diverged, OptionError, Unsupported

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MASKED_SHARE = 0.15
IGNORED = -100


@dataclass(frozen=True)
class Pretraining:
    """How a masked language model is trained; the defaults suit an encoder of some two million parameters."""

    steps: int = 10_000
    """Optimizer steps."""
    batch_size: int = 32
    """Rows a step."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW (Loshchilov & Hutter 2019), betas 0.9 and 0.98."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises linearly from zero; it then falls linearly to zero."""
    weight_decay: float = 0.01
    """Decoupled weight decay on matrices, not on biases and norms."""
    clip: float = 1.0
    """Largest global L2 norm of the gradient."""
    precision: str = "bf16"
    """`bf16`: matrix products under autocast, weights and optimizer in float32; `fp32`: no autocast."""
    seed: int = 0
    """Seed of row order and masking. The weights are initialised by whoever builds the model."""
    checkpoint_every: int = 1000
    """Steps between checkpoints, held-out scores and progress lines."""


def read_corpus(folder: str | Path, leave_out: Iterable[str] = ()) -> list[list[str]]:
    """Documents of all `.txt` and `.txt.gz` files of a folder, in the order of the file names.

    A file holds UTF-8 text, one sentence or paragraph a line, documents separated by empty lines. Returns a list
    of documents, each the list of its lines. `leave_out` names files that are not read. Raises `DataError` for a
    missing folder, a folder without text and a file that is damaged or not UTF-8.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"corpus folder {folder} does not exist: give a folder of .txt or .txt.gz files")
    documents: list[list[str]] = []
    skip = set(leave_out)
    paths = [p for p in folder.iterdir() if p.name.endswith((".txt", ".txt.gz")) and p.name not in skip]
    for path in sorted(paths):
        try:
            raw = path.read_bytes()
            text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 at byte {error.start}: convert the file to UTF-8") from error
        except (OSError, EOFError) as error:
            raise DataError(f"{path}: cannot be read ({error}): replace the file or leave it out") from error
        document: list[str] = []
        for line in [*text.splitlines(), ""]:
            if line.strip():
                document.append(line.strip())
            elif document:
                documents.append(document)
                document = []
    if not documents:
        raise DataError(f"corpus folder {folder} holds no text in .txt or .txt.gz files")
    return documents


def split_documents(documents: Sequence[list[str]], share: float, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Cut whole documents into training and held-out ones; at least one is held out, drawn with the seed."""
    if len(documents) < 2:
        raise DataError("the corpus has one document: separate documents by empty lines, one is held out")
    held_out = set(random.Random(seed).sample(range(len(documents)), max(1, round(share * len(documents)))))
    return (
        [document for i, document in enumerate(documents) if i not in held_out],
        [document for i, document in enumerate(documents) if i in held_out],
    )


def train_tokenizer(documents: Iterable[Sequence[str]], vocab_size: int = 4096, max_length: int = 128) -> Any:
    """Train a lower-casing WordPiece tokenizer; returns a `BertTokenizer` of transformers.

    The vocabulary holds the five special tokens first, `[PAD]` at 0. Characters outside the 128 most frequent
    become `[UNK]` together with their word. The same text gives the same vocabulary.
    """
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizer

    trainer = BertWordPieceTokenizer(lowercase=True)
    lines = [line for document in documents for line in document]
    counts = Counter(character for line in lines for character in trainer.normalizer.normalize_str(line))
    del counts[" "]
    alphabet = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:128])
    trainer.train_from_iterator(
        lines,
        vocab_size=vocab_size,
        min_frequency=2,
        limit_alphabet=len(alphabet),
        initial_alphabet=alphabet,
        # The trainer numbers what it meets in no fixed order and breaks ties by number: number it beforehand.
        special_tokens=[*SPECIAL_TOKENS, *alphabet, *(f"##{character}" for character in alphabet)],
        show_progress=False,
    )
    return BertTokenizer(vocab=trainer.get_vocab(), do_lower_case=True, model_max_length=max_length)


def pack(documents: Iterable[Sequence[str]], tokenizer: Any, length: int = 128) -> Tensor:
    """Pack text into rows without padding: `[CLS]`, the running text, `[SEP]`.

    Lines follow one another within and across documents, with a `[SEP]` after each document (FULL-SENTENCES of
    RoBERTa); what does not fill the last row is dropped. Returns token ids, int32 (rows, length). Raises
    `DataError` where the text does not fill a row.
    """
    stream: list[int] = []
    for document in documents:
        for ids in tokenizer(list(document), add_special_tokens=False, verbose=False)["input_ids"]:
            stream += ids
        stream.append(tokenizer.sep_token_id)
    inner = length - 2
    count = len(stream) // inner
    if count == 0:
        raise DataError(f"the text has {len(stream)} tokens, fewer than the {inner} of one row: add text")
    rows = torch.full((count, length), tokenizer.cls_token_id, dtype=torch.int32)
    rows[:, 1:-1] = torch.tensor(stream[: count * inner], dtype=torch.int32).view(count, inner)
    rows[:, -1] = tokenizer.sep_token_id
    return rows


def mask_tokens(
    ids: Tensor, tokenizer: Any, generator: torch.Generator, share: float = MASKED_SHARE
) -> tuple[Tensor, Tensor]:
    """Hide tokens as BERT does: a share is to be predicted, 80 % of it `[MASK]`, 10 % random, 10 % unchanged.

    `ids` is (rows, length). Exactly `round(share * n)` of the n tokens that are not special are drawn, and at
    least one. Returns the inputs, int64 (rows, length), and the targets of that shape: the original id where the
    model is asked, -100 elsewhere. Raises `DataError` where every token is special.
    """
    special = torch.tensor(sorted(tokenizer.all_special_ids))
    ids = ids.long()
    candidates = (~torch.isin(ids, special)).flatten().nonzero().flatten()  # (n,) positions in the flat batch
    if len(candidates) == 0:
        raise DataError("a batch holds special tokens only: there is nothing to mask")
    count = max(1, round(share * len(candidates)))
    chosen = candidates[torch.randperm(len(candidates), generator=generator)[:count]]
    ordinary = torch.tensor(sorted(set(range(len(tokenizer))) - set(special.tolist())))
    replaced = ordinary[torch.randint(len(ordinary), (count,), generator=generator)]
    kind = torch.rand(count, generator=generator)
    original = ids.flatten()[chosen]
    replaced = torch.where(kind < 0.9, replaced, original)
    inputs, targets = ids.clone(), torch.full_like(ids, IGNORED)
    inputs.view(-1)[chosen] = torch.where(kind < 0.8, tokenizer.mask_token_id, replaced)
    targets.view(-1)[chosen] = original
    return inputs, targets


def warm_start(model: Any, rows: Tensor, window: int = 4, period: float = 200.0) -> None:
    """Start a fresh `BertForMaskedLM` from counts of its corpus instead of from noise alone.

    Word embeddings: the singular vectors, scaled by the roots of the singular values, of the positive pointwise
    mutual information of each word with the words up to `window` tokens to its left and, apart, to its right
    (Levy & Goldberg 2014; Levy et al. 2015), brought to the configured standard deviation; words that never
    occur keep their noise. Position embeddings: sinusoids (Vaswani et al. 2017) of periods up to 2 pi `period`
    tokens. Output bias: log frequencies. `rows` is (rows, length), from `pack`. Raises `OptionError` where the
    embeddings are wider than the vocabulary is large.
    """
    words, positions = model.get_input_embeddings().weight, model.base_model.embeddings.position_embeddings.weight
    size, width = words.shape
    if size < width:
        raise OptionError(f"a vocabulary of {size} cannot fill embeddings of width {width}: use a smaller hidden_size")
    counts = torch.zeros(size, 2 * size)  # columns: the words to the left, then those to the right
    inner = rows[:, 1:-1].long()
    for distance in range(1, window + 1):
        left, right = inner[:, :-distance].flatten(), inner[:, distance:].flatten()
        weight = torch.full(left.shape, 1.0 / distance)
        counts.index_put_((right, left), weight, accumulate=True)
        counts.index_put_((left, right + size), weight, accumulate=True)
    context = counts.sum(0) ** 0.75  # lifts rare contexts
    expected = counts.sum(1, keepdim=True) * (context / context.sum())
    information = (counts / expected.clamp(min=1e-9)).clamp(min=1.0).log()
    squares, vectors = torch.linalg.eigh(information @ information.T)  # ascending
    vectors = vectors[:, -width:] * squares[-width:].clamp(min=0) ** 0.25
    seen = vectors.norm(dim=1) > 1e-3
    deviation = model.config.initializer_range
    frequency = torch.bincount(inner.flatten(), minlength=size) + 1.0
    angles = torch.arange(len(positions))[:, None] * period ** -(torch.arange(0, width, 2) / width)
    with torch.no_grad():
        words[seen] = vectors[seen] * (deviation / vectors[seen].std())
        positions[:, 0::2], positions[:, 1::2] = angles.sin() * 1.4 * deviation, angles.cos() * 1.4 * deviation
        model.get_output_embeddings().bias.copy_(frequency.log() - frequency.log().mean())


def masked_logits(model: Any, input_ids: Tensor, targets: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Logits, (masked, vocabulary), of the positions that have a target, in row-major order.

    Only these hidden states go through the language-model head, which at 15 % of the positions saves most of the
    head's time and memory. Raises `Unsupported` where transformers does not keep the head in one module.
    """
    head = getattr(model, "cls", None) or getattr(model, "lm_head", None)
    if head is None or model.base_model is model:
        raise Unsupported(f"{type(model).__name__} has no masked-language-model head in `cls` or `lm_head`")
    hidden = model.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    return head(hidden[targets != IGNORED])


def evaluate(model: Any, tokenizer: Any, rows: Tensor, batch_size: int = 64, seed: int = 0) -> dict[str, float]:
    """Held-out `loss` (nats a masked token) and `accuracy`; the same seed masks the same tokens each time."""
    generator = torch.Generator().manual_seed(seed)
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    loss = correct = count = 0.0
    with torch.no_grad():
        for batch in rows.split(batch_size):
            inputs, targets = (t.to(device) for t in mask_tokens(batch, tokenizer, generator))
            logits, wanted = masked_logits(model, inputs, targets).float(), targets[targets != IGNORED]
            loss += cross_entropy(logits, wanted, reduction="sum").item()
            correct += (logits.argmax(-1) == wanted).sum().item()
            count += len(wanted)
    model.train(was_training)
    return {"loss": loss / count, "accuracy": correct / count}


def pretrain(
    model: Any,
    tokenizer: Any,
    rows: Tensor,
    held_out: Tensor,
    settings: Pretraining,
    checkpoint: str | Path | None = None,
    report: Callable[[str], None] = print,
) -> list[dict[str, float]]:
    """Train a masked language model in place; returns its history, one entry every `checkpoint_every` steps.

    `rows` and `held_out` are token ids, (rows, length), from `pack`; the model stays on its device. With
    `checkpoint`, a file, training goes on where that file stopped and ends with the same weights as if it had
    never stopped. Raises `OptionError` where the file belongs to other settings, `Diverged` where the loss is no
    longer finite.
    """
    if len(rows) < settings.batch_size:
        raise DataError(f"{len(rows)} rows do not fill a batch of {settings.batch_size}: add text")
    device = next(model.parameters()).device
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.empty(0, dtype=torch.int64)  # what is left of this pass over the rows
    history: list[dict[str, float]] = []
    step = 0
    if checkpoint is not None and Path(checkpoint).exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if state["settings"] != asdict(settings):
            raise OptionError(f"{checkpoint} was written with other settings: remove it or use {state['settings']}")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        torch.set_rng_state(state["dropout"])
        order, history, step = state["order"], state["history"], state["step"]

    model.train()
    running = torch.zeros(())
    started, first, last = time.perf_counter(), step, step
    while step < settings.steps:
        if len(order) < settings.batch_size:
            order = torch.randperm(len(rows), generator=generator)
        batch, order = rows[order[: settings.batch_size]], order[settings.batch_size :]
        inputs, targets = (t.to(device) for t in mask_tokens(batch, tokenizer, generator))
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            logits = masked_logits(model, inputs, targets)
        loss = cross_entropy(logits.float(), targets[targets != IGNORED])
        if not math.isfinite(loss.item()):
            raise Diverged(f"loss {loss.item()} at step {step + 1}: lower the learning rate")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * schedule(step, settings)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running += loss.detach().cpu()
        step += 1
        if step % settings.checkpoint_every == 0 or step == settings.steps:
            scores = evaluate(model, tokenizer, held_out)
            history.append({"step": step, "train_loss": running.item() / (step - last), **scores})
            running, last = torch.zeros(()), step
            pace = (time.perf_counter() - started) / (step - first)
            report(
                f"step {step}/{settings.steps}  train loss {history[-1]['train_loss']:.3f}  held-out loss "
                f"{scores['loss']:.3f} accuracy {scores['accuracy']:.3f}  {batch.numel() / pace:.0f} tokens/s  "
                f"{pace * (settings.steps - step) / 60:.0f} min left"
            )
            if checkpoint is not None:
                state = {
                    "settings": asdict(settings),
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "generator": generator.get_state(),
                    "dropout": torch.get_rng_state(),
                    "order": order,
                    "history": history,
                    "step": step,
                }
                partial = Path(f"{checkpoint}.partial")
                torch.save(state, partial)
                partial.replace(checkpoint)
    return history


def schedule(step: int, settings: Pretraining) -> float:
    """Factor of the peak learning rate at a step, counted from 0: linear warm-up, then linear decay to zero."""
    warmup = max(1, round(settings.warmup * settings.steps))
    return min((step + 1) / warmup, (settings.steps - step) / max(1, settings.steps - warmup))


def export(model: Any, tokenizer: Any, folder: str | Path, **facts: Any) -> None:
    """Write a model folder that `AutoModelForMaskedLM` and `AutoTokenizer` load, weights in bfloat16.

    The folder is replaced as a whole, so that no reader sees half of one; a `README.md` that it held is kept.
    `facts` go into `config.json` under `pretraining`.
    """
    folder = Path(folder)
    partial, old = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    copy = type(model)(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16).save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    config = json.loads((partial / "config.json").read_text(encoding="utf-8"))
    (partial / "config.json").write_text(json.dumps(config | {"pretraining": facts}, indent=2) + "\n", encoding="utf-8")
    if (folder / "README.md").exists():
        shutil.copy(folder / "README.md", partial)
    for file in partial.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner reads
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
