"""Make the tiny decoder: Llama with grouped-query attention, 1.89 M parameters, from 22 MB of text.

    python recipes/pretrain_tiny_decoder.py --corpus ../shared/data/corpus

Hardware: one CPU thread with AVX512-BF16 or AMX, 2 GB of memory. Run time: about 25 minutes of CPU time.
Expected: held-out loss 4.00 nats a token, accuracy 0.284, in rows of 256 tokens.
Stopped and started again with the same command, it goes on from its last checkpoint.
"""

import torch
from _pretraining import documents_of, packed, parser_of, trained
from transformers import LlamaConfig, LlamaForCausalLM

from adapt import pretrain as lm
from adapt.cli import plain_errors

SHORT, LONG = 64, 256
SHORT_ROWS = lm.Pretraining(steps=8_000, batch_size=16, learning_rate=3e-3, checkpoint_every=500)
LONG_ROWS = lm.Pretraining(steps=500, batch_size=8, learning_rate=1e-3, checkpoint_every=100)


def main() -> None:
    options = parser_of(__doc__, "tiny-decoder").parse_args()
    documents, held_out_documents = documents_of(options)
    tokenizer = lm.for_decoder(lm.train_byte_tokenizer(documents, vocab_size=4096), max_length=LONG)
    rows, held_out = packed(documents, held_out_documents, tokenizer, (SHORT, LONG))

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=480,
        max_position_embeddings=LONG,
        initializer_range=0.05,  # 0.02 is for a width of thousands
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        attn_implementation="eager",  # on CPUs faster than sdpa at this length
    )
    model = LlamaForCausalLM(config)
    lm.warm_start(model, rows[LONG])

    stages = (lm.CausalLM(), SHORT, SHORT_ROWS), (lm.CausalLM(), LONG, LONG_ROWS)
    history = trained(model, tokenizer, stages, rows, held_out, options)
    facts = {"short_rows": vars(SHORT_ROWS), "long_rows": vars(LONG_ROWS), "held_out": history[-1]}
    lm.export(model, tokenizer, options.out, **facts)


if __name__ == "__main__":
    with plain_errors(goes_on=True):
        main()
