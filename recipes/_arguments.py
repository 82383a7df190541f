"""The options that every recipe has."""

import argparse


def arguments(doc: str, data: str, config: str | None = None, revision: str | None = None) -> argparse.Namespace:
    """Read a recipe's command line.

    Args:
        doc: The recipe's docstring, shown by --help.
        data: Hub name of its data set, the default of --data.
        config: Configuration of that data set on the hub.
        revision: Its revision on the hub.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data, help="hub name, file, or folder with train, validation and test files")
    parser.add_argument("--backbone", default="minilm", help="minilm, tiny-encoder, a folder, or a hub name")
    parser.add_argument("--strategies", default="all", help="names with commas between them, or all")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--out", default="results", help="folder of results; a comparison goes on there")
    parser.add_argument("--jobs", type=int, help="runs done at the same time, the cores shared out between them")
    parser.add_argument("--max-steps", type=int, help="optimizer steps after which training ends, for a quick look")
    options = parser.parse_args()
    hub = options.data == data
    options.config, options.revision = (config, revision) if hub else (None, None)
    return options
