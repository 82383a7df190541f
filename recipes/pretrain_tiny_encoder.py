"""Make the tiny encoder that `adapt compare` uses by default: BERT, 1.94 M parameters, from 22 MB of text.

    python recipes/pretrain_tiny_encoder.py --corpus ../shared/data/corpus --tokenizer adapt/resources/tiny-encoder

Without --tokenizer one is trained, which is not the shipped one: that is older than the fixed order of its training.

Hardware: one CPU thread with AVX512-BF16 or AMX, 2 GB of memory. Run time: 30 minutes on a free core (53 on a busy
machine). Expected: held-out loss 3.47 nats a masked token, accuracy 0.375, in rows of 128 tokens.
Stopped and started again with the same command, it goes on from its last checkpoint.
"""

from typing import Any

import torch
from _pretraining import documents_of, packed, parser_of, trained
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from adapt import pretrain as lm
from adapt.cli import plain_errors
from adapt.files import path_of
from adapt.spec import AdaptError

SHORT, LONG = 32, 128
# Short rows first, as BERT did: on them a model learns several times sooner to look at neighbours.
SHORT_ROWS = lm.Pretraining(steps=24_000, batch_size=32, learning_rate=1e-3)
LONG_ROWS = lm.Pretraining(steps=2_500, batch_size=16, learning_rate=3e-4, checkpoint_every=500)


def main() -> None:
    parser = parser_of(__doc__, "tiny-encoder")
    parser.add_argument("--tokenizer", help="tokenizer folder to use instead of training one")
    options = parser.parse_args()
    tokenizer = tokenizer_of(options.tokenizer) if options.tokenizer else None
    documents, held_out_documents = documents_of(options)
    if tokenizer is None:
        tokenizer = lm.train_tokenizer(documents, vocab_size=4096, max_length=LONG)
    rows, held_out = packed(documents, held_out_documents, tokenizer, (SHORT, LONG))

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        num_hidden_layers=4,
        num_attention_heads=5,
        intermediate_size=640,
        max_position_embeddings=LONG,
        initializer_range=0.05,  # 0.02 is for a width of 768
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",  # on CPUs faster than sdpa at this length
    )
    model = BertForMaskedLM(config)
    lm.warm_start(model, rows[LONG])

    objective = lm.MaskedLM(tokenizer)
    stages = (objective, SHORT, SHORT_ROWS), (objective, LONG, LONG_ROWS)
    history = trained(model, tokenizer, stages, rows, held_out, options)
    facts = {"short_rows": vars(SHORT_ROWS), "long_rows": vars(LONG_ROWS), "held_out": history[-1]}
    lm.export(model, tokenizer, options.out, **facts)


def tokenizer_of(folder: str) -> Any:
    try:
        return AutoTokenizer.from_pretrained(path_of(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise AdaptError(f"--tokenizer {folder} is no folder with a tokenizer; give one, or leave it out.") from error


if __name__ == "__main__":
    with plain_errors(goes_on=True):
        main()
