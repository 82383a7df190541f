"""What follows a prompt, by a decoder-only language model: instructions, chat, plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from adapt.backbones.padding import READ_BEFORE
from adapt.data.table import column_of
from adapt.display import shows_fields
from adapt.spec import OptionError, RowError, Task
from adapt.tasks.generation import TextGeneration, Written, ending, generate, needs_text
from adapt.tasks.kind import Example
from adapt.tasks.losses import IGNORED, learnt_labels, unigram
from adapt.tasks.prompts import Message, Prompts, Row
from adapt.tasks.tokens import check_at_least, of_split, pad, spelling_special, unlike

if TYPE_CHECKING:
    import datasets
    import torch
    from torch import nn


@shows_fields
@dataclass(frozen=True)
class Options:
    """Options of causal language modelling."""

    max_new_tokens: int = 64
    """Most tokens written; never more than half of `max_length`, of which the prompt gets the rest."""
    beams: int = 1
    """Beams of the search for a text; 1 is greedy."""
    template: str = "{prompt}"
    """How a prompt is written; must hold `{prompt}`. Messages are written by the tokenizer's chat template, or a line
    `role: content` each where it has none."""
    separator: str = "\n"
    """What stands between a prompt, unless it is empty, and its completion."""
    stop: str = ""
    """Text before which a generated text is cut; empty: none."""
    answer_marker: str = ""
    """Exact match compares what follows the last such marker, as `####` in GSM8K; empty: whole texts."""


_THOUGHT = "</think>"
"""What ends a thought, by the convention of thinking models' chat templates."""
_PLAIN = "the tokenizer has no chat template: messages are written as a line `role: content` each"


class CausalLM(TextGeneration):
    """The completion token by token after the prompt, whose own tokens take no part in the loss.

    Of messages only the last one, the assistant's, is learnt. A prompt that is too long loses its beginning. A
    completion that leaves no room for it loses its end, with the token that ends a text, and the prompt has at most
    half the room; generated texts are still compared with the whole completion. A text without prompt that is longer
    than `max_length` becomes several blocks, each after a token that begins a text. Texts are generated only for a
    metric that judges them, and for new rows.
    """

    Options: ClassVar[type] = Options
    pipeline: ClassVar[str | None] = "text-generation"
    long_texts: ClassVar[str] = "prompts and answers cut to {} tokens, texts without a prompt read so many at a time"
    form: ClassVar[tuple[str, ...]] = ("template", "separator")
    decides_loss: ClassVar[tuple[str, ...]] = ("max_length", "template", "separator")
    decides_texts: ClassVar[tuple[str, ...]] = ("max_new_tokens", "beams", "stop", "answer_marker")

    def __init__(self, task: Task, tokenizer: Any) -> None:
        """
        Raises:
            OptionError: The metric does not go with the problem, or an option is out of range.
            AdaptError: The tokenizer has no token that ends a text.
        """
        super().__init__(task, tokenizer)
        check_at_least(self.options, max_new_tokens=1, beams=1)
        if "{prompt}" not in self.options.template:
            raise OptionError(f"template is '{self.options.template}'; it must hold {{prompt}}, where the prompt goes.")
        if task.max_length < 4:
            raise OptionError(f"max_length is {task.max_length}; a language model needs at least 4 tokens.")
        self._prompts = Prompts(tokenizer, self.options.template, self.options.separator)
        self._conversed: bool | None = False
        """Whether conversations were learnt; None: the model was saved before that was known."""
        self.marker = self.options.answer_marker
        self._new = min(self.options.max_new_tokens, task.max_length // 2)

    def encode(self, rows: datasets.Dataset, *, split: str | None = None) -> list[Example]:
        """Prompts with their completions to token ids.

        Labelled rows have `labels`, `IGNORED` at the prompt, and `references`; rows for which a text is to be written
        have `prompt_ids`, which leave room for it within `max_length`.

        Raises:
            RowError: Messages cannot be used.
        """
        if not len(rows):
            return []
        prompts, completions = _columns(rows, split)
        if "messages" in rows.column_names and not self._prompts.templated and _PLAIN not in self.notes:
            self.notes.append(_PLAIN)
        if split == "train" and "messages" in rows.column_names:
            self._conversed = True
            self._begin_answers(completions or ())
        if completions and "messages" in rows.column_names:
            completions = self._opened_once(completions, of_split(split))
        writes = split is None or (split != "train" and needs_text(self.task.metric))
        examples: list[Example] = []
        counts: Counter[str] = Counter()
        for i, row in enumerate(self._prompts.rows(prompts, completions, split)):
            own: Example = {"row": i, "prompted": bool(row.prompt)}
            examples += [own | part for part in self._fitted(row, writes, counts)]
        length, of = f"{self.task.max_length} tokens", of_split(split)
        notes = {
            "cut": f"prompts of {of} lost their beginning to fit {length}",
            "little": f"prompts of {of} kept less than a quarter beside their answers; a larger max_length has room",
            "ended": f"answers of {of} lost their end to fit {length}; losses count the tokens kept",
            "shortened": f"prompts of {of} lost their beginning where a text was written, to leave room for "
            f"{self._new} tokens in {length}",
            "longer": f"answers of {of} are longer than the {self._new} tokens that are written (max_new_tokens, at "
            "most half of max_length)",
            "parted": f"texts of {of} were cut into blocks of {length}",
        }
        self.notes += [f"{counts[name]} {note}" for name, note in notes.items() if counts[name]]
        self.notes += spelling_special(self.tokenizer, completions or (), f"completions of {of}")
        self.notes += unlike(self.tokenizer, completions or (), f"completions of {of}") if writes else []
        if split == "train":  # which comes first, so that prompts of other splits are written as new ones will be
            self.fit(examples)
        return examples

    def _fitted(self, row: Row, writes: bool, counts: Counter[str]) -> list[Example]:
        """What of a row fits `max_length`; several blocks of a long text without prompt.

        Args:
            row: As token ids.
            writes: Whether a text is to be written for it.
            counts: What did not fit, by the names of `encode`, is added here.
        """
        room = self.task.max_length - len(row.head)
        most = max(1, room - self._new)  # tokens of a prompt after which a text is written
        asked: Example = {"prompt_ids": row.head + row.prompt[-most:]} if writes else {}
        if row.completion is None:
            counts["cut"] += len(row.prompt) > most
            return [{**asked, "input_ids": asked["prompt_ids"]}]
        asked["references"] = [row.text]
        counts["longer"] += writes and len(row.completion) > self._new
        if not row.prompt:
            blocks = [row.completion[start : start + room] for start in range(0, len(row.completion), room)]
            counts["parted"] += len(blocks) > 1
            return [_labelled(asked, row.head, block) for block in blocks]
        left = room - len(row.completion)
        if left < 1:
            left = min(len(row.prompt), room // 2)
            counts["ended"] += 1
        counts["cut"] += len(row.prompt) > left
        counts["shortened"] += writes and min(len(row.prompt), left) > most
        counts["little"] += min(len(row.prompt), left) < len(row.prompt) / 4
        prompt = row.prompt[max(0, len(row.prompt) - left) :]
        return [_labelled(asked, row.head + prompt, row.completion[: room - left])]

    def fit(self, examples: Sequence[Example]) -> None:
        """Whether any training row has a prompt; where none has, new prompts are texts to go on with."""
        self._prompts.prompted = any(example["prompted"] for example in examples)

    def _begin_answers(self, answers: Sequence[str]) -> None:
        """Have chat templates of thinking models begin answers as those to be learnt do, with a thought or without."""
        own = self._prompts
        own.thinking = any(_THOUGHT in answer for answer in answers)
        if own.opens_thought and not own.thinking:
            self.notes.append(
                "the chat template begins each answer with a thought (<think>), which no answer to be learnt ends "
                f"({_THOUGHT}): they are learnt as thoughts; use a model that need not think"
            )

    def _opened_once(self, answers: Sequence[str], of: str) -> list[str]:
        """Answers, whose thoughts begin with one `<think>`: that of the chat template, or their own."""
        opening = self._prompts.opening
        if opening:
            made = [_without_opening(answer, opening) for answer in answers]
            told = "begin with the <think> that the chat template writes before them: it is left out of them"
        else:
            lacking = [_THOUGHT in answer and "<think>" not in answer.partition(_THOUGHT)[0] for answer in answers]
            made = [f"<think>\n{answer}" if lacks else answer for answer, lacks in zip(answers, lacking, strict=True)]
            told = "end a thought that they do not begin: <think> is put before them"
        changed = sum(one != other for one, other in zip(made, answers, strict=True))
        self.notes += [f"{changed} answers of {of} {told}"] if changed else []
        return made

    def state(self) -> dict[str, float]:
        """`prompted`: 1 where training rows had prompts, else 0; `turn_end`, the token that ends the answers of
        conversations, where it is not the one that ends texts; `thinking`, 1 or 0, where the chat template can
        begin answers with a thought or without; `headed`, 1, where it writes something before answers alone; and
        `conversed`, whether conversations were learnt."""
        own = self._prompts
        said = {"turn_end": float(own.turn_end)} if own.turn_end != own.end else {}
        said |= {"thinking": float(own.thinking)} if own.thinking is not None and own.thinks else {}
        said |= {"headed": 1.0} if own.headed and own.answer_head else {}
        known = {} if self._conversed is None else {"conversed": float(self._conversed)}
        return {"prompted": float(own.prompted), **said, **known}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Set back what `state` gave; models that do not say were saved before it did, and write prompts as such, end
        answers as texts, or begin them as the chat template does unasked, without what it writes before answers
        alone."""
        self._prompts.prompted = bool(state.get("prompted", 1))
        conversed = state.get("conversed")
        self._conversed = None if conversed is None else bool(conversed)
        self._prompts.turn_end = int(state.get("turn_end", self._prompts.end))
        thinking = state.get("thinking")
        self._prompts.thinking = None if thinking is None else bool(thinking)
        self._prompts.headed = bool(state.get("headed", 0))

    def beside_plain(self) -> list[str]:
        """How prompts or conversations were written."""
        own = self._prompts
        if self._conversed and not own.templated:
            return ["Messages were written as a line `role: content` each, and `assistant: ` before the answer."]
        if self._conversed:
            told = [f"with enable_thinking={own.thinking}"] if own.thinks and own.thinking is not None else []
            told += [f"with {own.today} as today's date"] if own.dated else []
            head = own.answer_head if own.headed else ""
            told += [f"and {head!r} after its beginning of an answer, as it stands before answers"] if head else []
            return [", ".join(["Conversations were written by the tokenizer's chat template", *told]) + "."]
        if not own.prompted or self._conversed is None:
            return []
        template = [] if own.template == "{prompt}" else [f"Prompts were written as {own.template!r}."]
        return [*template, f"Between prompt and completion stood {own.separator!r}."]

    def end_of(self, columns: Collection[str]) -> int | None:
        """The end of a text, or of an answer."""
        return self._prompts.turn_end if "messages" in columns else self._prompts.end

    def collate(self, examples: Sequence[Example], *, longest: int | None = None) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` and `labels`, padded on the right, and for texts to be written `prompt_ids`
        and `prompt_mask`, padded on the left: (batch, length) each."""
        batch = super().collate(examples, longest=longest)
        if "prompt_ids" in examples[0]:
            prompts = [example["prompt_ids"] for example in examples]
            batch["prompt_ids"] = pad(prompts, self.tokenizer.pad_token_id, left=True, longest=longest)
            batch["prompt_mask"] = pad([[1] * len(ids) for ids in prompts], 0, left=True, longest=longest)
        return batch

    def asked(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[dict[str, Any], torch.Tensor]:
        """What a model is called with, and what each of its positions but the last is to predict, (batch, length - 1);
        `IGNORED` takes no part."""
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "use_cache": False}
        return inputs, batch["labels"][:, 1:]

    def terms(self, examples: Sequence[Example]) -> int:
        """Tokens of the completions; the first of a text is predicted from nothing."""
        return learnt_labels(examples, first=1)

    def written(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> list[Written]:
        """What the model writes after the prompts, up to the text that stops it."""
        if "prompt_ids" not in batch:
            return []
        ids, mask = batch["prompt_ids"], batch["prompt_mask"]
        written: dict[int, Written] = {}
        for rows, length in _groups(model, mask):
            made = generate(
                model,
                self.tokenizer,
                {"input_ids": ids[rows, -length:], "attention_mask": mask[rows, -length:]},
                new_tokens=self._new,
                beams=self.options.beams,
                ends=self._prompts.ends,
            )
            written |= zip(rows, made, strict=True)
        return [self._stopped(written[row]) for row in range(len(ids))]

    def writes(self, model: nn.Module) -> dict[str, int | list[int]]:
        """What a text ends with, where the model's settings of generation do not say it."""
        return ending(model, self._prompts.ends)

    def _stopped(self, written: Written) -> Written:
        """What was written up to the text that stops it, which white space at its beginning is no part of."""
        raw, stop = written.raw, self.options.stop
        place = raw.find(stop, len(raw) - len(raw.lstrip())) if stop else -1
        return written if place < 0 else replace(written, raw=raw[:place], ended=True)

    def learnable(self, output: Mapping[str, Any], prompt: str | Sequence[Message]) -> tuple[Any, str]:
        """Prompt and completion from which what was written is learnt token by token as it was written.

        Where new prompts are texts to go on with, they are part of the text that is learnt.

        Args:
            output: Of `outputs`, with a text.
            prompt: Of its row, or the messages before the answer.
        """
        written: Written = output["written"]
        if isinstance(prompt, str) and prompt and not self._prompts.prompted:
            return "", self._prompts.joined(prompt, written)
        spaces = len(written.raw) - len(written.raw.lstrip(" "))
        opened = "" if isinstance(prompt, str) else self._prompts.opening
        return prompt, opened + written.raw[min(spaces, len(self._prompts.moved(prompt))) :]

    def baseline(self, train: Sequence[Example], examples: Sequence[Example]) -> tuple[str, list[Any]] | None:
        """Each token by its share of the training completions, one added to every token's count (Laplace)."""
        found = Counter(token for example in train for token in example["labels"] if token != IGNORED)
        nll = unigram(found, len(self.tokenizer))
        outputs = []
        for example in examples:
            learnt = [token for token in example["labels"] if token != IGNORED]
            outputs.append({"nll": nll(learnt), "tokens": len(learnt), "text": None})
        return "unigram", outputs


def _without_opening(answer: str, opening: str) -> str:
    """An answer without `opening`, `<think>` and the white space that is written after it."""
    before, found, rest = answer.partition("<think>")
    return rest.removeprefix(opening.removeprefix("<think>")) if found and not before.strip() else answer


def _labelled(own: Example, before: list[int], learnt: list[int]) -> Example:
    return {**own, "input_ids": before + learnt, "labels": [IGNORED] * len(before) + learnt}


def _groups(model: Any, mask: torch.Tensor) -> list[tuple[list[int], int]]:
    """Prompts after which texts are written at once, and how long they are with their padding: all of a batch, or
    those of one length, without padding, where the model would read it.

    Args:
        model: Of transformers, whose `model_type` tells whether it would.
        mask: (batch, length); padding is on the left.
    """
    if model.config.model_type not in READ_BEFORE:
        return [(list(range(len(mask))), mask.shape[1])]
    lengths = mask.sum(dim=1).tolist()
    return [([row for row, own in enumerate(lengths) if own == length], length) for length in sorted(set(lengths))]


def _columns(rows: datasets.Dataset, split: str | None) -> tuple[list[Any], list[str] | None]:
    """Prompts (texts or messages) and completions; None for rows that are to be completed.

    Raises:
        RowError: The last message of a labelled row is not the assistant's.
    """
    if "messages" not in rows.column_names:
        labelled = "completion" in rows.column_names
        return column_of(rows, "prompt"), column_of(rows, "completion") if labelled else None
    every = column_of(rows, "messages")
    answered = [bool(messages) and messages[-1]["role"] == "assistant" for messages in every]
    if not all(answered):
        if split is not None:
            row = answered.index(False)
            text = every[row][-1]["content"] if every[row] else ""
            raise RowError(row, split, "the last message is not the assistant's, which is what is learnt.", text)
        return every, None
    return [messages[:-1] for messages in every], [messages[-1]["content"] for messages in every]
