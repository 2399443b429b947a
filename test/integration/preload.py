# SPDX-License-Identifier: Apache-2.0
"""Libraries that are loaded before all others, to stand between a program and what it calls."""

import shutil
import subprocess

import pytest

from relay_process import BINARY
from swarm import sanitized


def preload(directory, name, source):
    """Compiles C and returns the environment in which a program gets it."""
    if sanitized(BINARY):
        pytest.skip("a sanitizer must be loaded first")
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("needs a C compiler")
    text, library = directory / f"{name}.c", directory / f"{name}.so"
    text.write_text(source)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, text, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}
