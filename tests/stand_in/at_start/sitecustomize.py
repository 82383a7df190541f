"""Read by each Python as it starts, where `run.py` put this folder into its path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import kernels

kernels.install()
