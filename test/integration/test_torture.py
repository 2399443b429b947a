# SPDX-License-Identifier: Apache-2.0
"""A short seeded run of the torture test for `make test`: some ten faults. All kinds, again and again: `make torture`."""

import os
import subprocess
import sys

import pytest

from relay_process import BINARY, ROOT
from swarm import sanitized

SECONDS = 25
SEED = 3


@pytest.mark.slow
@pytest.mark.parametrize("auth", ["off", "on"])
def test_nothing_lost_nothing_twice(auth):
    command = [sys.executable, ROOT / "test/torture/torture.py", "--seconds", SECONDS, "--seed", SEED, "--auth", auth]
    command += ["--clients", 30 if sanitized(BINARY) else 100, "--verbose"]
    run = subprocess.run(
        [str(c) for c in command],
        env={**os.environ, "SSE_RELAY_BIN": str(BINARY), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout[-6000:]
