"""Make the tiny encoder-decoder: T5, 1.89 M parameters, from 22 MB of text.

python recipes/pretrain_tiny_encoder_decoder.py --corpus ../shared/data/corpus

Hardware: one CPU thread with AVX512-BF16 or AMX, 2 GB of memory. Run time: about 12 minutes of CPU time.
Expected: held-out losses in rows of 128 tokens, nats a token: spans 5.06, whole texts 4.94, prefixes 4.91. It is far
from converged: more steps of short rows make it better.
Stopped and started again with the same command, it goes on from its last checkpoint.
"""

import argparse
from pathlib import Path

import torch
from transformers import T5Config, T5ForConditionalGeneration

from adapt import pretrain as lm

SHORT, LONG = 64, 128
SHORT_ROWS = lm.Pretraining(steps=12_000, batch_size=16, learning_rate=3e-3, checkpoint_every=1_000)
LONG_ROWS = lm.Pretraining(steps=1_000, batch_size=8, learning_rate=1e-3, checkpoint_every=250)
LEAVE_OUT = ["gum.txt.gz"]  # parts are for non-commercial use only; README.md of the result lists the rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="folder of .txt or .txt.gz files")
    parser.add_argument("--out", default="adapt/resources/tiny-encoder-decoder", help="model folder to write")
    parser.add_argument(
        "--checkpoint", default="tiny-encoder-decoder", help="start of the names of files to resume from"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)  # the same sums in the same order on every machine of a kind

    documents, held_out_documents = lm.split_documents(lm.read_corpus(options.corpus, LEAVE_OUT), share=0.01, seed=0)
    tokenizer = lm.for_encoder_decoder(lm.train_byte_tokenizer(documents, vocab_size=4096), max_length=512)
    rows = {length: lm.pack(documents, tokenizer, length) for length in (SHORT, LONG)}
    held_out = {length: lm.pack(held_out_documents, tokenizer, length) for length in (SHORT, LONG)}
    print(f"{len(documents)} documents, {rows[LONG].numel()} tokens; held out {held_out[LONG].numel()} tokens")

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=128,
        d_kv=32,
        d_ff=336,
        num_layers=3,
        num_decoder_layers=3,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    model = T5ForConditionalGeneration(config)
    lm.warm_start(model, rows[LONG])

    def report(line: str) -> None:
        print(line, flush=True)
        lm.export(model, tokenizer, options.out)  # usable from the first checkpoint on

    # Spans make the encoder understand, whole texts make the decoder copy, and prefixes make it write on its own.
    spans, whole, prefix = lm.SpanCorruption(tokenizer), lm.SpanCorruption(tokenizer, whole=True), lm.PrefixLM()
    objective = lm.Mixture((spans, whole, prefix))
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    for length, settings in ((SHORT, SHORT_ROWS), (LONG, LONG_ROWS)):
        checkpoint = f"{options.checkpoint}-{length}.safetensors"
        lm.pretrain(model, objective, rows[length], held_out[length], settings, checkpoint, report)
    parts: dict[str, lm.Objective] = {"spans": spans, "whole": whole, "prefix": prefix}
    scores = {name: lm.evaluate(model, part, held_out[LONG]) for name, part in parts.items()}
    print(scores)
    facts = {"short_rows": vars(SHORT_ROWS), "long_rows": vars(LONG_ROWS), "held_out": scores}
    lm.export(model, tokenizer, options.out, **facts)


if __name__ == "__main__":
    main()
