"""Fixtures shared by all tests: tiny backbones on disk, synthetic data, and the real data where it is there.

Torch and the package are imported within them: the process that hands out the tests to others needs neither.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

for _name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_EVALUATE_OFFLINE"):
    os.environ[_name] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402
from needed import lacking  # noqa: E402

if TYPE_CHECKING:
    from adapt.adapted import Adapted
    from adapt.data import Data

gc.set_threshold(10_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests run side by side, and give the same bits anywhere."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.set_num_interop_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _garbage_of_this_file_alone() -> None:
    """What is there when the tests of a file begin stays: to look through it for garbage takes up to a third of a
    second, and a sixth of the time of all tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_random_state() -> None:
    """Each test starts from the same global random state, whatever ran before it."""
    import torch

    torch.default_generator.manual_seed(1234)  # torch's own function would note where it was called, for each device


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folder of a tiny random backbone of an architecture, made once."""
    import tiny

    root, made = tmp_path_factory.mktemp("backbones"), {}

    def make(architecture: str, layers: int = tiny.LAYERS, seed: int = 0, *, masked: bool = False) -> Path:
        key = f"{architecture}-{layers}-{seed}{'-masked' if masked else ''}"
        if key not in made:
            made[key] = tiny.save_backbone(root / key, architecture, layers, seed, masked=masked)
        return made[key]

    return make


@pytest.fixture
def copy(backbone: Callable[..., Path], tmp_path: Path) -> Path:
    """A backbone folder of its own, to be changed."""
    return Path(shutil.copytree(backbone("bert"), tmp_path / "copy"))


@pytest.fixture(scope="session")
def task_data() -> Callable[[str], Data]:
    """A synthetic data set by its name in `tiny.TASKS`, made once."""
    import tiny

    made: dict[str, Data] = {}

    def make(name: str) -> Data:
        if name not in made:
            made[name] = tiny.TASKS[name]()
        return made[name]

    return make


@pytest.fixture(scope="session")
def teachers(backbone: Callable[..., Path]) -> Callable[[str], Adapted]:
    """A teacher by the name of its task in `distillation_helpers.CELLS`, made once."""
    from distillation_helpers import teacher_of

    made: dict[str, Adapted] = {}

    def make(task: str) -> Adapted:
        if task not in made:
            made[task] = teacher_of(task, backbone)
        return made[task]

    return make


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets: `ADAPT_DATA`, or `shared/data` beside the repository."""
    root = Path(os.environ.get("ADAPT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / "sst2").is_dir():
        lacking(f"the real data sets are not at {root}; set ADAPT_DATA to their folder")
    return root
