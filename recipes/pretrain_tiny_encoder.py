"""Make the tiny encoder that `adapt compare` uses by default: BERT, 1.93 M parameters, from 22 MB of text.

python recipes/pretrain_tiny_encoder.py --corpus ../shared/data/corpus --tokenizer adapt/resources/tiny-encoder

Without --tokenizer a tokenizer is trained; the shipped one is older than the fixed order of its training.

Hardware: one CPU thread with AVX512-BF16 or AMX, 2 GB of memory. Run time: 30 minutes on a free core (53 on a busy
machine). Expected: held-out loss 3.47 nats a masked token, accuracy 0.375, in rows of 128 tokens.
Stopped and started again with the same command, it goes on from its last checkpoint.
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from adapt import pretrain as mlm
from adapt.cli import plain_errors

SHORT, LONG = 32, 128
# Short rows first, as BERT did: on them a model learns several times sooner to look at neighbours.
SHORT_ROWS = mlm.Pretraining(steps=24_000, batch_size=32, learning_rate=1e-3)
LONG_ROWS = mlm.Pretraining(steps=2_500, batch_size=16, learning_rate=3e-4, checkpoint_every=500)
LEAVE_OUT = ["gum.txt.gz"]  # parts are for non-commercial use only; README.md of the result lists the rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="folder of .txt or .txt.gz files")
    parser.add_argument("--out", default="pretrained/tiny-encoder", help="model folder to write")
    parser.add_argument("--tokenizer", help="tokenizer folder to use instead of training one")
    parser.add_argument("--checkpoint", help="start of the names of the files to resume from; that of --out otherwise")
    options = parser.parse_args()
    mlm.exportable(options.out)
    torch.set_num_threads(1)  # the same sums in the same order on every machine of a kind

    documents, held_out_documents = mlm.split_documents(mlm.read_corpus(options.corpus, LEAVE_OUT), share=0.01, seed=0)
    if options.tokenizer:
        tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    else:
        tokenizer = mlm.train_tokenizer(documents, vocab_size=4096, max_length=LONG)
    rows = {length: mlm.pack(documents, tokenizer, length) for length in (SHORT, LONG)}
    held_out = {length: mlm.pack(held_out_documents, tokenizer, length) for length in (SHORT, LONG)}
    print(f"{len(documents)} documents, {rows[LONG].numel()} tokens; held out {held_out[LONG].numel()} tokens")

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
    mlm.warm_start(model, rows[LONG])

    def report(line: str) -> None:
        print(line, flush=True)
        mlm.export(model, tokenizer, options.out)  # usable from the first checkpoint on

    history = []
    for length, settings in ((SHORT, SHORT_ROWS), (LONG, LONG_ROWS)):
        checkpoint = f"{options.checkpoint or Path(options.out)}-{length}.safetensors"
        history = mlm.pretrain(
            model, mlm.MaskedLM(tokenizer), rows[length], held_out[length], settings, checkpoint, report
        )
    facts = {"short_rows": vars(SHORT_ROWS), "long_rows": vars(LONG_ROWS), "held_out": history[-1]}
    mlm.export(model, tokenizer, options.out, **facts)


if __name__ == "__main__":
    with plain_errors(goes_on=True):
        main()
