"""Logits of a few tokens at a time: with a large vocabulary those of a whole batch take more memory than all else.

The gradient of each chunk's loss is made as soon as its logits are there (softmax minus one-hot, by way of the output
layer), so that they are made once, and neither they nor anything of their size is kept (Hsu et al. 2024, Liger Kernel,
section 3.2; Wijmans et al. 2025, "Cut Your Losses in Large-Vocabulary Language Models").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import GradientEdge

from adapt.backbones.classes import output_layer
from adapt.backbones.kernels import kernels_of
from adapt.spec import Unsupported

_BIAS = "final_logits_bias"
"""What BART and its kin add to the logits after the output layer."""

_CHANGES = ("final_logit_softcapping", "logits_soft_cap", "logits_scaling", "logit_scale")
"""What configurations call a change of the logits after the output layer (Gemma 2, RecurrentGemma, Granite, Cohere);
1: none."""

_ADVICE = "leave loss_chunk out"

_CHUNK = 2**22
"""Logits that are held at a time where no number of tokens is asked for: 16 MiB in float32, as caches hold; more, of
`_LEAST` tokens, where the vocabulary is larger than 32,768."""
_LEAST = 128
"""Tokens below which products with the output layer, and sums of its gradient, would take too long."""


def chunk_logits(model: nn.Module, tokens: int) -> None:
    """Have the losses of a language model made from the logits of `tokens` tokens at a time; kept in `loss_chunk`.

    Raises:
        Unsupported: The model has no output layer over a vocabulary.
    """
    if output_layer(model) is None:
        raise Unsupported(f"{type(model).__name__} has no output layer over a vocabulary; {_ADVICE}")
    model.loss_chunk = tokens  # type: ignore[assignment]


def loss_chunk(model: nn.Module, inputs: torch.Tensor) -> int | None:
    """Tokens whose logits are held at a time; None: those of the whole batch.

    Without `chunk_logits` it is chosen on the CPU, where logits of a whole batch do not stay in the caches, for models
    that do nothing to them.

    Args:
        model: A language model.
        inputs: What it is called with, of which the device counts.
    """
    asked: int | None = getattr(model, "loss_chunk", None)
    return asked if asked is not None or kernels_of(inputs) != "cpu" else few_tokens(model)


def few_tokens(model: nn.Module) -> int | None:
    """Tokens whose logits are held at a time where no number is asked for; None: the model does something to them."""
    vocabulary = getattr(output_layer(model), "out_features", None)
    if vocabulary is None or _change_of(model) is not None or getattr(model, "changes_logits", False):
        return None
    return max(_LEAST, _CHUNK // int(vocabulary))


def _change_of(model: Any) -> str | None:
    """The field of the configuration, or of the decoder's (T5Gemma), that has logits changed after the output layer."""
    configs = (model.config, getattr(model.config, "decoder", None))
    return next((name for name in _CHANGES for c in configs if getattr(c, name, None) not in (None, 1)), None)


def before_logits(
    model: nn.Module, inputs: Mapping[str, Any]
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """What goes into the output layer, and what makes logits of it.

    The model runs as ever, but its output layer is given one position, whose logits tell whether the model does
    anything with them that is not known here.

    Args:
        model: A language model.
        inputs: What it is called with.

    Returns:
        (batch, length, hidden), and a function from (..., hidden) to (..., vocabulary).

    Raises:
        Unsupported: The model changes the logits after its output layer (scales or caps them). Whether it does is
            found out once, and kept in `changes_logits`.
    """
    layer = output_layer(model)
    assert layer is not None
    bias = getattr(model, _BIAS, None)
    states: list[torch.Tensor] = []

    def keep(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        states.append(args[0])
        return (args[0][:1, :1].detach(),)

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        found = layer(hidden)
        return found if bias is None else found + bias.to(found.device)

    handle = layer.register_forward_pre_hook(keep)
    try:
        probe = model(**inputs).logits
    finally:
        handle.remove()
    if len(states) != 1:
        model.changes_logits = True  # type: ignore[assignment]
        raise Unsupported(f"{type(model).__name__} does not call its output layer; {_ADVICE}")
    (hidden,) = states
    _check_unchanged(model, probe, hidden, logits)
    return hidden, logits


def _check_unchanged(
    model: nn.Module, probe: torch.Tensor, hidden: torch.Tensor, logits: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """
    Args:
        model: A language model.
        probe: (1, 1, vocabulary), what it gave for the first position.
        hidden: (batch, length, hidden), what would have gone into its output layer.
        logits: What is known of how it makes logits.

    Raises:
        Unsupported: It does something else, too, as its configuration says or the probe shows.
    """
    changed = _change_of(model)
    if changed is not None:  # said here because a plan has no values to look at
        raise Unsupported(f"{type(model).__name__} changes its logits after the output layer ({changed}); {_ADVICE}")
    if getattr(model, "changes_logits", None) is None:
        with torch.no_grad():
            expected = logits(hidden[:1, :1])
        same = probe.shape == expected.shape and torch.equal(  # of weights that hold NaN the loss tells
            probe.float().nan_to_num(), expected.float().nan_to_num()
        )
        model.changes_logits = not same  # type: ignore[assignment]
    if model.changes_logits:
        raise Unsupported(f"{type(model).__name__} changes its logits after the output layer; {_ADVICE}")


LossAndSlope = Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]
"""From the logits of some positions, (positions, vocabulary) without a graph, and which they are, to the sum of their
losses, a float32 scalar, and its gradient, of the shape and dtype of the logits."""


def summed_loss(
    model: nn.Module, hidden: torch.Tensor, wanted: torch.Tensor, logits: Callable[[torch.Tensor], torch.Tensor],
    tokens: int,
) -> torch.Tensor:  # fmt: skip
    """Sum of the negative log-likelihoods, a float32 scalar, with gradients of hidden states and output layer.

    It goes backward once.

    Args:
        model: Whose output layer it is.
        hidden: (positions, hidden), from `before_logits`.
        wanted: (positions), what is to be predicted.
        logits: From `before_logits`.
        tokens: Positions whose logits are held at a time.
    """

    def of(found: torch.Tensor, which: slice) -> tuple[torch.Tensor, torch.Tensor]:
        return _loss_and_slope(found, wanted[which, None])

    total = summed(model, hidden, of, logits, tokens)
    return each_loss(hidden, wanted, logits, tokens).sum() if total is None else total


def summed(
    model: nn.Module, hidden: torch.Tensor, of: LossAndSlope, logits: Callable[[torch.Tensor], torch.Tensor],
    tokens: int,
) -> torch.Tensor | None:  # fmt: skip
    """The sum of any loss over positions, as `summed_loss`; None where nothing asks for its gradient."""
    layer = output_layer(model)
    assert layer is not None
    trained = [p for p in layer.parameters() if p.requires_grad]
    if not (torch.is_grad_enabled() and (trained or hidden.requires_grad)):
        return None
    total: torch.Tensor = _SummedLoss.apply(hidden, of, logits, tokens, *trained)
    return total


@torch.no_grad()
def each_loss(
    hidden: torch.Tensor, wanted: torch.Tensor, logits: Callable[[torch.Tensor], torch.Tensor], tokens: int
) -> torch.Tensor:
    """The negative log-likelihood of each position, (positions) in float32; arguments as those of `summed_loss`."""
    parts = zip(hidden.split(tokens), wanted.split(tokens), strict=True)
    return torch.cat(
        [nn.functional.cross_entropy(logits(part[None])[0].float(), of, reduction="none") for part, of in parts]
    )


class _SummedLoss(torch.autograd.Function):
    """The gradient is made in the forward pass, where the logits are; the backward pass scales it."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        of: LossAndSlope,
        logits: Callable[[torch.Tensor], torch.Tensor],
        tokens: int,
        *trained: torch.Tensor,
    ) -> torch.Tensor:
        """See `summed`."""
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        into_hidden = ctx.needs_input_grad[0]
        of_hidden = torch.empty_like(hidden) if into_hidden else None
        of_trained: list[torch.Tensor | None] = [None] * len(trained)

        def add(which: slice) -> None:  # what a chunk held is let go of before the next
            part = hidden[which].detach().requires_grad_(into_hidden)
            with torch.enable_grad(), _gradients_in_forward():
                found = logits(part[None])[0]
                loss, slope = of(found.detach(), which)
                total.add_(loss)
                sought: list[Any] = [*([part] if into_hidden else []), *_before_casts(found, trained)]
                made = list(torch.autograd.grad(found, sought, slope))
            if of_hidden is not None:
                of_hidden[which] = made.pop(0)
            for i, gradient in enumerate(made):
                held = of_trained[i]
                if held is None:
                    of_trained[i] = gradient.to(trained[i].dtype)
                else:
                    _add(held, gradient)

        for start in range(0, len(hidden), tokens):
            add(slice(start, start + tokens))
        ctx.made = of_hidden, of_trained
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.made is None:
            raise RuntimeError("the gradient of this loss was made with it, and is handed out once")
        of_hidden, of_trained = ctx.made
        ctx.made = None
        for gradient in (of_hidden, *of_trained):
            if gradient is not None:
                gradient.mul_(upstream)
        return of_hidden, None, None, None, *of_trained


def _before_casts(made: torch.Tensor, trained: Sequence[torch.Tensor]) -> list[torch.Tensor | GradientEdge]:
    """Where the gradient of each tensor is read: of the copy in fewer bits that autocast made of it, where it has one.

    The gradient of the tensor itself is that, cast, and would take twice as much beside it.
    """
    users: dict[int, list[Any]] = {id(tensor): [] for tensor in trained}
    todo, seen = [made.grad_fn], set[Any]()
    while todo:
        node: Any = todo.pop()
        for after, _ in node.next_functions:
            if id(getattr(after, "variable", None)) in users:
                users[id(after.variable)].append(node)
            elif after is not None and after not in seen:
                seen.add(after)
                todo.append(after)

    def place(tensor: torch.Tensor) -> torch.Tensor | GradientEdge:
        uses = users[id(tensor)]
        if len(uses) == 1 and uses[0].name().startswith("ToCopy"):
            (copy,) = uses[0]._input_metadata
            if copy.dtype.itemsize < tensor.dtype.itemsize and copy.device == tensor.device:
                return GradientEdge(uses[0], 0)
        return tensor

    return [place(tensor) for tensor in trained]


def _add(held: torch.Tensor, gradient: torch.Tensor) -> None:
    """Add in place. The CPU first makes a copy in the dtype of the sum, which is kept small."""
    if kernels_of(held) != "cpu" or held.dtype == gradient.dtype or held.dim() == 0:
        held.add_(gradient)
        return
    rows = max(1, _CHUNK * len(held) // max(1, held.numel()))
    for to, part in zip(held.split(rows), gradient.split(rows), strict=True):
        to.add_(part)


def _loss_and_slope(logits: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed negative log-likelihood in float32, and its gradient: softmax minus one-hot, in the dtype of the logits.

    Args:
        logits: (positions, vocabulary).
        wanted: (positions, 1).
    """
    shares = logits.to(torch.float32, copy=True)
    top = shares.amax(-1, keepdim=True)
    chosen = shares.gather(-1, wanted)
    weight = shares.sub_(top).exp_().sum(-1, keepdim=True)
    shares.div_(weight).scatter_add_(-1, wanted, torch.full_like(top, -1.0))
    return (weight.log() + top - chosen).sum(), shares.to(logits.dtype)


_within = False


def makes_gradients() -> bool:
    """Whether gradients are being made within the forward pass."""
    return _within


def in_backward() -> bool:
    """Whether autograd is running the backward pass of a step."""
    return not _within and torch._C._current_graph_task_id() != -1


@contextmanager
def _gradients_in_forward() -> Iterator[None]:
    global _within
    _within = True
    try:
        yield
    finally:
        _within = False
