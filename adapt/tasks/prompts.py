"""Prompts and completions of causal language modelling: from rows to token ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from adapt.spec import AdaptError, RowError
from adapt.tasks.generation import Written
from adapt.tasks.tokens import frame, lead

Message = Mapping[str, str]

_TODAY = datetime(2024, 7, 26)
"""What chat templates write as today's date, so that no result depends on it; Llama 3's own where it is told none."""
_NOW = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")
"""How a template asks for it."""
_ASKED: Sequence[Message] = ({"role": "user", "content": "a"},)
_ANSWER = "a1b"
"""A conversation of which chat templates show what they write around it."""


@dataclass(frozen=True)
class Row:
    """A row as token ids."""

    head: list[int]
    """What stands before the prompt however it is cut: the tokenizer's own first tokens."""
    prompt: list[int]
    """The prompt; empty where there is none."""
    completion: list[int] | None
    """The completion, or answer, with the token that ends it; None where the row has none."""
    text: str | None
    """The completion as it was written."""


class Prompts:
    """Writes rows as a prompt and a completion.

    They become token ids apart from each other, so that a prompt has the same tokens in training as in generation,
    where it stands alone. Spaces at the end of a prompt go to the beginning of the completion where the tokenizer
    writes a word and the space before it as one; where it puts a space before every text (SentencePiece), the last of
    them is the completion's.
    """

    def __init__(self, tokenizer: Any, template: str, separator: str) -> None:
        """
        Args:
            tokenizer: Any tokenizer.
            template: How a prompt is written, with `{prompt}` in its place.
            separator: What stands between prompt and completion.

        Raises:
            AdaptError: The tokenizer has no token that ends a text.
        """
        self.tokenizer = tokenizer
        self.template = template
        self.separator = separator
        ends = (tokenizer.eos_token_id, tokenizer.sep_token_id)
        found = next((token for token in ends if token is not None), None)
        if found is None:
            raise AdaptError("The tokenizer has no token that ends a text; set eos_token and save it.")
        self.end: int = found
        """The token that ends a completion, but for the answers of `turn_end`."""
        self.prompted = True
        """Whether a prompt is written with template and separator; else it is the beginning of a text, and stands as
        texts without a prompt do in training."""
        self._beginnings: dict[bool | None, str] = {}
        self._heads: dict[bool | None, str] = {}
        self.headed = True
        """Whether what the chat template writes before answers alone (`answer_head`) ends prompts of messages."""
        self.thinking: bool | None = False
        """What chat templates that know it are told of `enable_thinking`: whether answers begin with a thought; None:
        nothing."""

    def rows(
        self,
        prompts: Sequence[str | Sequence[Message]],
        completions: Sequence[str] | None,
        split: str | None,
    ) -> list[Row]:
        """Token ids of rows.

        Args:
            prompts: Texts, or the messages before the answer.
            completions: Texts or the answers; None for rows that have none.
            split: For error messages.

        Raises:
            RowError: The tokenizer's chat template refuses a row's messages.
        """
        space = self._lead()
        parted = [_parted(self._written(prompt, i, split), space) for i, prompt in enumerate(prompts)]
        before, _ = frame(self.tokenizer)
        each = zip(prompts, self._ids([text for text, _ in parted]), strict=True)
        headed = [self._headed(ids, before, isinstance(prompt, str)) for prompt, ids in each]
        if completions is None:
            return [Row(head, ids, None, None) for head, ids in headed]
        learnt = self._ids([moved + text for (_, moved), text in zip(parted, completions, strict=True)])
        ends = [self.end if isinstance(prompt, str) else self.turn_end for prompt in prompts]
        return [
            Row(head, ids, _once(answer, [] if ids else head, end), text)
            for (head, ids), answer, end, text in zip(headed, learnt, ends, completions, strict=True)
        ]

    def _headed(self, ids: list[int], before: list[int], text: bool) -> tuple[list[int], list[int]]:
        """What stands before a prompt however it is cut, and the rest of the prompt.

        Args:
            ids: The prompt's tokens.
            before: The special tokens that the tokenizer puts before a text.
            text: Whether the prompt is a text, not messages.
        """
        head, rest = before, ids
        if not text and self.templated:  # a chat template writes the first token itself
            own = ids[:1] == [self.tokenizer.bos_token_id]
            head, rest = (ids[:1], ids[1:]) if own else ([], ids)
        if not rest or (text and not self.prompted):
            start = self.tokenizer.bos_token_id
            head = head or [self.end if start is None else start]  # the first token needs something before it
        if text and head and rest[: len(head)] == head:  # as where the text has them itself
            rest = rest[len(head) :]
        return head, rest

    def moved(self, prompt: str | Sequence[Message]) -> str:
        """The spaces at the end of a prompt with which its completion begins."""
        return _parted(self._written(prompt, 0, None), self._lead())[1]

    def joined(self, prompt: str, written: Written) -> str:
        """A text and what a model wrote after it, with the white space between them that decoders drop at a start."""
        bare, _ = _parted(prompt, self._lead())
        before = self._ids([bare])[0]
        start, whole = (
            self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            for ids in (before, [*before, *written.ids])
        )
        if not whole.startswith(start):
            return bare + written.raw
        rest = whole.removeprefix(start)
        return bare + rest[: len(rest) - len(rest.lstrip())] + written.raw.lstrip()

    @property
    def templated(self) -> bool:
        """Whether the tokenizer says how messages are written; else `plain` does."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    @cached_property
    def turn_end(self) -> int:
        """The token that ends the answer of a conversation: the special one that the chat template writes after it
        (Gemma's `<end_of_turn>`), else `end`."""
        if not self.templated:
            return self.end
        asked = [*_ASKED, {"role": "assistant", "content": _ANSWER}]
        written = self._probed(asked) or self._probed([{"role": "system", "content": "a"}, *asked])
        _, found, rest = written.rpartition(_ANSWER)
        after = self._ids([rest.lstrip()])[0] if found else []
        special = {*self.tokenizer.all_special_ids, *getattr(self.tokenizer, "added_tokens_decoder", ())}
        return after[0] if after and after[0] in special - {self.tokenizer.unk_token_id} else self.end

    @property
    def answer_head(self) -> str:
        """What the chat template writes before an answer that is there, after what it has an answer begin with
        (gpt-oss's channel, Cohere's start of a response); a thought is left to the answer."""
        if self.thinking not in self._heads:
            self._heads[self.thinking] = self._answer_head()
        return self._heads[self.thinking]

    def _answer_head(self) -> str:
        begun = self._begun(self.thinking)
        if not begun or self.thinking:
            return ""
        before, found, _ = self._probed([*_ASKED, {"role": "assistant", "content": _ANSWER}]).rpartition(_ANSWER)
        head = before.removeprefix(begun) if found and before.startswith(begun) else ""
        return "" if "think>" in head else head

    @property
    def thinks(self) -> bool:
        """Whether the chat template begins an answer otherwise where it is to have a thought, or none (Qwen3's)."""
        return len({self._begun(thinking) for thinking in (None, False, True)}) > 1

    today = _TODAY.strftime("%d %B %Y")
    """What stands for today's date."""

    @property
    def dated(self) -> bool:
        """Whether the chat template writes today's date."""
        return self.templated and bool(_NOW.search(self.tokenizer.get_chat_template()))

    @property
    def opens_thought(self) -> bool:
        """Whether the chat template itself begins a thought, at the end of which an answer comes (DeepSeek-R1's)."""
        return self._begun(self.thinking).rstrip().endswith("<think>")

    @property
    def opening(self) -> str:
        """The beginning of a thought that the chat template writes before an answer, with the white space after it."""
        return "<think>" + self._begun(self.thinking).rpartition("<think>")[2] if self.opens_thought else ""

    def _begun(self, thinking: bool | None) -> str:
        """A prompt as the chat template writes it; empty where there is none, or it refuses it."""
        if thinking not in self._beginnings:
            before, self.thinking = self.thinking, thinking
            try:
                self._beginnings[thinking] = self._probed(_ASKED, prompt=True) if self.templated else ""
            finally:
                self.thinking = before
        return self._beginnings[thinking]

    def _probed(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        """Messages as the chat template writes them; empty where it refuses them."""
        from jinja2 import TemplateError

        try:
            return self._templated(messages, prompt=prompt)
        except (TemplateError, ValueError, TypeError, KeyError):
            return ""

    @property
    def ends(self) -> list[int]:
        """The tokens that end what a model writes."""
        return list(dict.fromkeys((self.end, self.turn_end)))

    def _written(self, prompt: str | Sequence[Message], row: int, split: str | None) -> str:
        if not isinstance(prompt, str):
            return self._rendered(prompt, row, split) if self.templated else plain(prompt)
        if not self.prompted:
            return prompt
        return self.template.replace("{prompt}", prompt) + self.separator if prompt.strip() else ""

    def _rendered(self, messages: Sequence[Message], row: int, split: str | None) -> str:
        from jinja2 import TemplateError

        if not messages:
            return ""
        try:
            return self._templated(messages, prompt=True) + (self.answer_head if self.headed else "")
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            raise RowError(
                row, split, f"the tokenizer's chat template refuses the messages: {error}", messages[0]["content"]
            ) from error

    def _templated(self, messages: Sequence[Message], *, prompt: bool) -> str:
        """Messages as the chat template writes them; for a `prompt` with what an answer begins with."""
        template = _NOW.sub(lambda now: repr(_TODAY.strftime(now[2])), self.tokenizer.get_chat_template())
        told = {} if self.thinking is None else {"enable_thinking": self.thinking}
        return self.tokenizer.apply_chat_template(
            list(messages), chat_template=template, tokenize=False, add_generation_prompt=prompt, **told
        )

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]

    def _lead(self) -> str:
        """What a completion needs before it to follow a space; see `lead`."""
        return lead(self._ids, self._ids(["a a"])[0])


def _once(ids: list[int], head: list[int], end: int) -> list[int]:
    """A completion's tokens with the one that ends it, which a text may have itself, as the first ones before it."""
    bare = ids[len(head) :] if head and ids[: len(head)] == head else ids
    return bare if bare[-1:] == [end] else [*bare, end]


def _parted(text: str, space: str) -> tuple[str, str]:
    """A prompt, and the spaces from its end that its completion begins with; `space`: see `Prompts._lead`.

    Without `space` one at the end is neither's: the completion's first token has it.
    """
    if not space:
        return text.removesuffix(" "), ""
    bare = text.rstrip(" ")
    return bare, text[len(bare) :]


def plain(messages: Sequence[Message]) -> str:
    """Messages for a tokenizer without a chat template: `role: content` a line, then `assistant: ` to be continued."""
    if not messages:
        return ""
    return "".join(f"{message['role']}: {message['content']}\n" for message in messages) + "assistant: "
