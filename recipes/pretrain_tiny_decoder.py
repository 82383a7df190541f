"""Make the tiny decoder: Llama with grouped-query attention, 1.82 M parameters, from 22 MB of text.

python recipes/pretrain_tiny_decoder.py --corpus ../shared/data/corpus

Hardware: one CPU thread with AVX512-BF16 or AMX, 2 GB of memory. Run time: about 25 minutes of CPU time.
Expected: held-out loss 4.00 nats a token, accuracy 0.284, in rows of 256 tokens.
Stopped and started again with the same command, it goes on from its last checkpoint.
"""

import argparse
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from adapt import pretrain as lm
from adapt.cli import plain_errors

SHORT, LONG = 64, 256
SHORT_ROWS = lm.Pretraining(steps=8_000, batch_size=16, learning_rate=3e-3, checkpoint_every=500)
LONG_ROWS = lm.Pretraining(steps=500, batch_size=8, learning_rate=1e-3, checkpoint_every=100)
LEAVE_OUT = ["gum.txt.gz"]  # parts are for non-commercial use only; README.md of the result lists the rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="folder of .txt or .txt.gz files")
    parser.add_argument("--out", default="pretrained/tiny-decoder", help="model folder to write")
    parser.add_argument("--checkpoint", help="start of the names of the files to resume from; that of --out otherwise")
    options = parser.parse_args()
    lm.exportable(options.out)
    torch.set_num_threads(1)  # the same sums in the same order on every machine of a kind

    documents, held_out_documents = lm.split_documents(lm.read_corpus(options.corpus, LEAVE_OUT), share=0.01, seed=0)
    tokenizer = lm.for_decoder(lm.train_byte_tokenizer(documents, vocab_size=4096), max_length=LONG)
    rows = {length: lm.pack(documents, tokenizer, length) for length in (SHORT, LONG)}
    held_out = {length: lm.pack(held_out_documents, tokenizer, length) for length in (SHORT, LONG)}
    print(f"{len(documents)} documents, {rows[LONG].numel()} tokens; held out {held_out[LONG].numel()} tokens")

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

    def report(line: str) -> None:
        print(line, flush=True)
        lm.export(model, tokenizer, options.out)  # usable from the first checkpoint on

    objective, history = lm.CausalLM(), []
    for length, settings in ((SHORT, SHORT_ROWS), (LONG, LONG_ROWS)):
        checkpoint = f"{options.checkpoint or Path(options.out)}-{length}.safetensors"
        history = lm.pretrain(model, objective, rows[length], held_out[length], settings, checkpoint, report)
    facts = {"short_rows": vars(SHORT_ROWS), "long_rows": vars(LONG_ROWS), "held_out": history[-1]}
    lm.export(model, tokenizer, options.out, **facts)


if __name__ == "__main__":
    with plain_errors(goes_on=True):
        main()
