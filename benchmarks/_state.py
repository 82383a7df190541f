"""The state of the code that is measured."""

import hashlib
import subprocess
from functools import cache
from pathlib import Path

from adapt.environment import code_state

ROOT = Path(__file__).parents[1]
CODE = ("adapt", "benchmarks")


@cache
def commit() -> str:
    """The last commit that changed the package or the benchmarks, with a hash of both where they are not as it left
    them.

    Outside a checkout, as on a machine that files were copied to, the hash of the package's content. Commits of results
    alone are not counted, nor results that are not committed.
    """
    own = f"code-{code_state()['code']}"
    try:
        last = _git("log", "-1", "--format=%h", "--abbrev=12", "--", *CODE)
        dirty = last and _git("status", "--porcelain", "--", *CODE)
        return f"{last}-dirty-{_content()}" if dirty else last or own
    except (OSError, subprocess.SubprocessError):
        return own


def _content() -> str:
    """Hash of the files that are measured."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in CODE for file in (ROOT / folder).rglob("*.py")):
        digest.update(f"{file.relative_to(ROOT)} ".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()
