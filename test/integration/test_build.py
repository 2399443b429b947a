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
