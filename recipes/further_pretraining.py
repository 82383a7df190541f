"""An English encoder that first goes on with its pretraining in the language of the task (Gururangan et al. 2020).

    python recipes/further_pretraining.py --data ../shared/data/masakhaner_swa

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 13 minutes of training, 1 of scoring.
Expected test score: span f1, %, without and with: full 62.6 and 63.9; head 26.5 and 34.5; lora 57.5 and 62.3.
Swahili news (MasakhaNER, Adelani et al. 2021): the sentences of train and validation without their tags, then names.
One further pretraining stands behind all seeds with it: what another one would change is in no interval.
"""

from typing import Any

from _recipe import command, fitted, name_of, parser_of, settings_of

import adapt
from adapt.backbones.source import SHIPPED
from adapt.cli import plain_errors
from adapt.comparison import Store
from adapt.strategies import SHIPPED_SETTINGS

HUB = "masakhane/masakhaner"
SPLITS = ("train", "validation")
"""Those whose texts are read."""


def main() -> None:
    options = parser_of(__doc__, data=HUB, backbone="tiny-encoder", strategies="full,head,lora").parse_args()
    with plain_errors(goes_on=True):
        on_hub: dict[str, Any] = {"config": "swa", "revision": "refs/convert/parquet"} if options.data == HUB else {}
        data = adapt.data.load(options.data, name=name_of(options.data, HUB, "masakhaner_swa"), kind="ner", **on_hub)
        parts = {split: {"text": [" ".join(words) for words in data.splits[split]["tokens"]]} for split in SPLITS}
        texts = adapt.data.load(parts, kind="masked_lm", name=f"{data.name}_texts", test=0)
        same = {"max_length": 96, "max_steps": options.max_steps}
        tiny = options.backbone in SHIPPED  # which want higher rates than the defaults
        strategy = adapt.Full(learning_rate=5e-4) if tiny else adapt.Full()
        folder, run = fitted(options.out, "further", options.backbone, texts, strategy, epochs=20, **same)
        further = adapt.load(folder).merge(folder / f"further-{run.backbone.name.rpartition('/')[2]}")
        settings = settings_of(options.strategies, SHIPPED_SETTINGS[data.kind] if tiny else {})
        for backbone in (options.backbone, further):
            adapt.compare(
                backbone, data, options.strategies, settings=settings, seeds=options.seeds, out=options.out, epochs=5,
                command=command(), **same,
            )  # fmt: skip
        print(Store(options.out).write_table())


if __name__ == "__main__":
    main()
