"""Run Python as if there were a GPU.

    python tests/stand_in/run.py -m pytest -n 0 tests/test_cuda.py

For where there is none: torch's build for CUDA, with its allocator, streams, graphs and choice of kernels, over a
stand-in for the driver, the runtime and cuBLAS (`*.c`), whose kernels do nothing. `kernels.py` reckons on the
processor what they would have written. So device placement, waiting, graphs, and the memory that the allocator hands
out are as on a GPU; speed, rounding, and the kernels themselves are not. There is no cuDNN, nor its attention.

Needs torch for CUDA 13 with the packages that it brings, and gcc and nm; Linux.

STAND_IN_BYTES: memory of the stand-in, 80 GiB unless given; it takes room only where it is written.
STAND_IN_KERNELS: operations on more numbers than this do nothing, to see within minutes what 8B weights would take;
what is trained means nothing then. Unless given, none is left out.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LIBRARIES = {
    "cuda.c": "libcuda.so.1", "cudart.c": "libcudart.so.13", "cublaslt.c": "libcublasLt.so.13",
    "cublas.c": "libcublas.so.13",
}  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="stand-in-") as folder:
        made = build(Path(folder))
        before = os.environ.get("PYTHONPATH", "")
        environment = os.environ | {
            "TORCH_DISABLE_NATIVE_JIT": "1",  # kernels compiled as they are needed, past the runtime
            "LD_PRELOAD": ":".join(map(str, made)),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE / "at_start"), before])),
        }
        raise SystemExit(subprocess.run([sys.executable, *sys.argv[1:]], env=environment).returncode)


def build(folder: Path) -> list[Path]:
    """Make the libraries; give their files."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise SystemExit("There is no torch; install its build for CUDA.")
    packages = Path(spec.origin).parents[1]
    cuda = packages / "nvidia" / "cu13"
    if not (cuda / "lib" / "libcudart.so.13").exists():
        raise SystemExit(f"There is no CUDA 13 beside {spec.origin}; install torch's build for it.")
    return [build_one(HERE / source, packages, folder / name) for source, name in LIBRARIES.items()]


def build_one(source: Path, packages: Path, made: Path) -> Path:
    """Compile a file, and a function that gives 0 for each of the real library's that is not in it."""
    cuda = packages / "nvidia" / "cu13"
    real, header = cuda / "lib" / made.name, cuda / "include" / "cuda.h"
    include = [f"-I{folder}" for folder in (header.parent, packages / "triton" / "backends" / "nvidia" / "include")]
    own, rest, script = (made.with_suffix(suffix) for suffix in (".o", ".rest.c", ".map"))
    subprocess.run(["gcc", "-w", "-O1", "-fPIC", *include, "-c", str(source), "-o", str(own)], check=True)
    if real.exists():
        wanted = symbols(real, dynamic=True)
    else:  # a machine without a GPU has no driver
        wanted = dict.fromkeys(re.findall(r"\b(cu[A-Z]\w*)\(", header.read_text()), "")
        wanted |= dict.fromkeys(undefined(packages / "torch" / "lib" / "libcaffe2_nvrtc.so"), "")
    missing = sorted(wanted.keys() - symbols(own).keys() - {"_init", "_fini"})
    rest.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in missing))
    link = ["-shared", f"-Wl,-soname,{made.name}"]
    versions = {version for version in wanted.values() if version}
    if versions:
        script.write_text("".join(f"{version} {{ global: *; }};\n" for version in versions))
        link.append(f"-Wl,--version-script={script}")
    subprocess.run(["gcc", "-w", "-fPIC", *link, str(own), str(rest), "-o", str(made), "-ldl", "-lpthread"], check=True)
    return made


def symbols(file: Path, *, dynamic: bool = False) -> dict[str, str]:
    """Names of the functions that a file defines, each with its version."""
    return {name: version for kind, name, version in _symbols(file, dynamic, "--defined-only") if kind in "TWi"}


def undefined(file: Path) -> list[str]:
    """Names of the driver's functions that a file needs."""
    return [name for _, name, _ in _symbols(file, True, "--undefined-only") if re.match("cu[A-Z]", name)]


def _symbols(file: Path, dynamic: bool, which: str) -> list[tuple[str, str, str]]:
    command = ["nm", which, *(["-D"] if dynamic else []), str(file)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = [re.search(r" (\w) ([\w.]+)(?:@+([\w.]+))?$", line) for line in lines]
    return [(match[1], match[2], match[3] or "") for match in found if match]


if __name__ == "__main__":
    main()
