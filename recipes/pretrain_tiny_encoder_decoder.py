"""Make the tiny encoder-decoder: BART, 1.90 M parameters, from 22 MB of text.

    python recipes/pretrain_tiny_encoder_decoder.py --corpus ../shared/data/corpus

Hardware: one CPU thread with AVX512-BF16 or AMX, 2 GB of memory. Run time: about 30 minutes of CPU time.
Expected: held-out losses in rows of 128 tokens, nats a token: spans 4.24, whole texts 2.08, prefixes 4.82.
Stopped and started again with the same command, it goes on from its last checkpoint.
"""

import torch
from _pretraining import documents_of, packed, parser_of, trained
from transformers import BartConfig, BartForConditionalGeneration

from adapt import pretrain as lm
from adapt.cli import plain_errors

FIRST, SHORT, LONG = 16, 64, 128
FIRST_ROWS = lm.Pretraining(steps=600, batch_size=64, learning_rate=1e-3, checkpoint_every=100)
SHORT_ROWS = lm.Pretraining(steps=8_000, batch_size=16, learning_rate=2e-3, checkpoint_every=500)
LONG_ROWS = lm.Pretraining(steps=500, batch_size=8, learning_rate=1e-3, checkpoint_every=250)


def main() -> None:
    options = parser_of(__doc__, "tiny-encoder-decoder").parse_args()
    documents, held_out_documents = documents_of(options)
    tokenizer = lm.for_encoder_decoder(lm.train_byte_tokenizer(documents, vocab_size=4096), max_length=512)
    rows, held_out = packed(documents, held_out_documents, tokenizer, (FIRST, SHORT, LONG))

    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=128,
        encoder_layers=3,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=416,
        decoder_ffn_dim=416,
        max_position_embeddings=512,
        dropout=0.0,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
    )
    model = BartForConditionalGeneration(config)
    lm.warm_start(model, rows[LONG])

    # Copying first: a decoder that learns the language first learns to do without its encoder, and stays so. Then
    # spans make the encoder understand, whole texts keep the decoder copying, and prefixes make it write on its own.
    spans, whole, prefix = lm.SpanCorruption(tokenizer), lm.SpanCorruption(tokenizer, whole=True), lm.PrefixLM()
    mixture = lm.Mixture((spans, whole, prefix))
    stages = (lm.Copying(), FIRST, FIRST_ROWS), (mixture, SHORT, SHORT_ROWS), (mixture, LONG, LONG_ROWS)
    trained(model, tokenizer, stages, rows, held_out, options)
    parts: dict[str, lm.Objective] = {"spans": spans, "whole": whole, "prefix": prefix}
    scores = {name: lm.evaluate(model, part, held_out[LONG]) for name, part in parts.items()}
    print(scores)
    facts = {
        "first_rows": vars(FIRST_ROWS),
        "short_rows": vars(SHORT_ROWS),
        "long_rows": vars(LONG_ROWS),
        "held_out": scores,
    }
    lm.export(model, tokenizer, options.out, **facts)


if __name__ == "__main__":
    with plain_errors(goes_on=True):
        main()
