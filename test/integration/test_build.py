# SPDX-License-Identifier: Apache-2.0
"""The Makefile as packagers use it: what they give in CFLAGS, CPPFLAGS and LDFLAGS counts, and warnings end no build."""

import os
import shlex
import subprocess

import pytest

from relay_process import ROOT

SMALL = min((ROOT / "common").glob("*.c"), key=lambda path: path.stat().st_size).relative_to(ROOT).with_suffix(".o")


def make(objects, *args):
    """make, with @objects in place of build/normal, and without what an outer make or shell has set."""
    env = {k: os.environ[k] for k in ("PATH", "HOME", "LANG", "TMPDIR") if k in os.environ}
    command = ["make", f"OBJ={objects}", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)


def compile_small(objects, *args):
    return make(objects, objects / SMALL, *args)


def defined(objects, name):
    """What @name is to the compiler with the flags of the last build; None where it is not defined."""
    flags = shlex.split((objects / "flags").read_text())
    command = [*flags, "-E", "-dM", "-x", "c", "/dev/null"]
    macros = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = [line.split(maxsplit=2)[2] for line in macros.splitlines() if line.split()[1] == name]
    return found[0] if found else None


@pytest.mark.parametrize("variable", ["CPPFLAGS", "CFLAGS"])
def test_a_level_of_fortification_that_is_given_wins(tmp_path, variable):
    done = compile_small(tmp_path, "WERROR=1", f"{variable}=-O2 -D_FORTIFY_SOURCE=1")
    assert done.returncode == 0, done.stderr
    assert defined(tmp_path, "_FORTIFY_SOURCE") == "1"


@pytest.mark.parametrize(
    "flags, level, optimized", [(None, "2", "1"), ("-O3", "2", "1"), ("-O0 -g", None, None), ("-g", None, None)]
)
def test_our_level_of_fortification_comes_with_optimization(tmp_path, flags, level, optimized):
    done = compile_small(tmp_path, "WERROR=1", *([f"CFLAGS={flags}"] if flags else []))
    assert done.returncode == 0, done.stderr
    assert (defined(tmp_path, "_FORTIFY_SOURCE"), defined(tmp_path, "__OPTIMIZE__")) == (level, optimized)


def test_flags_of_a_sanitizer_build_are_the_packagers_too(tmp_path):
    done = compile_small(tmp_path, "VARIANT=asan", "CFLAGS=-O2 -fno-stack-protector -DMINE=7")
    assert done.returncode == 0, done.stderr
    assert defined(tmp_path, "MINE") == "7" and defined(tmp_path, "__SANITIZE_ADDRESS__")


def test_a_warning_ends_only_a_build_that_asks_for_it(tmp_path):
    header = tmp_path / "warns.h"
    header.write_text("static int nobody_calls_this(void) { return 1; }\n")
    done = compile_small(tmp_path / "plain", f"CPPFLAGS=-include {header}")
    assert done.returncode == 0 and "nobody_calls_this" in done.stderr
    done = compile_small(tmp_path / "strict", f"CPPFLAGS=-include {header}", "WERROR=1")
    assert done.returncode != 0 and "nobody_calls_this" in done.stderr


def test_make_test_asks_for_it(tmp_path):
    """Only what it would do (-n): every file that it compiles, in each variant."""
    done = make(tmp_path, "-n", "test-steps", "TEST_SANITIZERS=check-asan-unit", f"BINARY={tmp_path}/sse-relay")
    assert done.returncode == 0, done.stderr
    compiled = [line for line in done.stdout.splitlines() if " -c -o " in line]
    assert any("-fsanitize" in line for line in compiled) and any("-flto" in line for line in compiled)
    assert all("-Werror" in line for line in compiled)


def link_of(objects, *args):
    """The command that would link the relay."""
    done = make(objects, "-n", f"BINARY={objects}/sse-relay", "all", *args)
    assert done.returncode == 0, done.stderr
    return next(line for line in done.stdout.splitlines() if f" -o {objects}/sse-relay " in line).split()


def test_linker_flags_that_are_given_come_last(tmp_path):
    link = link_of(tmp_path, "LDFLAGS=-Wl,--as-needed -Wl,-z,lazy -no-pie", "CFLAGS=-O3 -m64")
    assert "-m64" in link
    for ours, given in (("-pie", "-no-pie"), ("-Wl,-z,relro,-z,now", "-Wl,-z,lazy")):
        assert link.index(ours) < link.index(given)
    libraries = min(i for i, word in enumerate(link) if word.startswith("-l"))
    assert link.index("-Wl,--as-needed") < libraries, "it counts only for what comes after it"


@pytest.mark.parametrize("variable", ["CFLAGS", "LDFLAGS"])
def test_link_time_optimization_can_be_left_out(tmp_path, variable):
    assert "-flto=auto" in link_of(tmp_path)
    given = ["CFLAGS=-O2 -fno-lto"] if variable == "CFLAGS" else ["LDFLAGS=-fno-lto"]
    assert not [word for word in link_of(tmp_path, *given) if word.startswith("-flto")]


# --- the second server ---


def second_server(directory, **env):
    path = {k: os.environ[k] for k in ("PATH", "HOME") if k in os.environ}
    command = [ROOT / "test" / "second_server", directory]
    return subprocess.run(command, env={**path, **env}, capture_output=True, text=True, timeout=60)


def test_second_server_stands_in_for_redis(tmp_path):
    """Whatever program is named: it is started under the names that tests look for."""
    named = tmp_path / "other-server"
    named.write_text("#!/bin/sh\necho other server 9.9\n")
    named.chmod(0o755)
    (tmp_path / "other-cli").symlink_to(named)
    done = second_server(tmp_path / "second", SECOND_SERVER=str(named))
    assert done.returncode == 0 and "other server 9.9" in done.stderr
    directory = done.stdout.strip()
    for name in ("redis-server", "redis-cli"):
        assert os.path.realpath(f"{directory}/{name}") == str(named)


@pytest.mark.parametrize("program", [None, "#!/bin/sh\necho libsomething is missing >&2; exit 127\n"])
def test_second_server_that_cannot_be_had_is_skipped_with_a_word(tmp_path, program):
    named = tmp_path / "other-server"
    if program:
        named.write_text(program)
        named.chmod(0o755)
    done = second_server(tmp_path / "second", SECOND_SERVER=str(named))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("second server: skipped: ")


def test_what_is_skipped_is_counted(tmp_path):
    """By test/total, which closes `make test`."""
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal" / "unit.count").write_text("5 0\n")
    done = make(tmp_path / "normal", "integration-second", f"BINARY={ROOT}/Makefile", f"BENCH_TOOL={ROOT}/Makefile",
                "SECOND_SERVER=/no/such/server", "-o", f"{ROOT}/Makefile")  # fmt: skip
    assert done.returncode == 0, done.stderr
    total = subprocess.run([ROOT / "test" / "total", tmp_path], capture_output=True, text=True)
    assert total.stdout == "5 passed, 0 failed, 1 skipped\n"
