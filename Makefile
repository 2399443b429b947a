# SPDX-License-Identifier: Apache-2.0
# sse-relay: `make help` lists the targets. Everything generated goes to build/.
VERSION := $(file <VERSION)

PREFIX ?= /usr/local
DESTDIR ?=
PYTHON ?= /usr/bin/python3
CLANG ?= clang-19
# One version everywhere: others format differently.
CLANG_FORMAT ?= clang-format-19
# Added to every pytest run, for example PYTEST_ARGS='-k replay -x'.
PYTEST_ARGS ?=
# Tests at a time, each with processes and a Redis of its own. They mostly wait, so more than there are cores.
PYTEST_JOBS ?= 5
# Which integration tests the sanitizer runs take: a browser says nothing new there.
ASAN_SELECT ?= not browser
TSAN_SELECT ?= not browser
# What `make integration-handover` runs once more with park=handover and io_uring=off: all that is about connections. test/integration is everything.
HANDOVER_TESTS ?= $(addprefix test/integration/test_,accept.py auth_expiry.py auth_renewal.py auth_revocation.py auth_tickets.py finite.py gap.py hostile.py http.py lanes.py lifecycle.py pipe.py resume.py slow.py snapshot.py stream.py whole.py)
# What `make integration-second` runs once more with a second server in place of Redis (test/second_server): all that is about
# what the server does.
SECOND_TESTS ?= $(wildcard test/integration/test_lua_*.py) $(addprefix test/integration/test_,auth_revocation.py auth_tickets.py bridges.py cluster.py deafness.py docs.py doors.py failover.py faults.py gap.py holes.py many_topics.py publish_outage.py resume.py sentinel.py topics.py)
# Added to `make torture`, for example TORTURE_ARGS='--faults cut,failover --verbose'.
TORTURE_ARGS ?=
# Sanitizer runs that are part of `make test`; empty leaves them out.
TEST_SANITIZERS ?= check-asan-unit check-tsan-unit
# Time for each fuzzer of `make fuzz` (30) and each seed of `make torture` (120). The shell's own SECONDS is not meant.
ifneq ($(origin SECONDS),command line)
SECONDS :=
endif
FUZZ_SECONDS = $(or $(SECONDS),30)

# normal, asan, tsan or fuzz: objects of each live side by side in build/<variant>/.
VARIANT ?= normal
OBJ := build/$(VARIANT)

# One job per core unless -j was given.
ifeq ($(MAKELEVEL),0)
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)
endif
endif

# V=1 shows the commands.
Q := $(if $(V),,@)
say = @printf '  %-5s %s\n' '$(1)' '$(2)'
ifneq ($(V),)
say = @:
endif

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

# --- flags -----------------------------------------------------------------------------------------------------------
# What a packager gives in CFLAGS, CPPFLAGS and LDFLAGS comes behind our own, and so wins.
CFLAGS ?= $(if $(filter normal,$(VARIANT)),-O2,-O1) -g
# Warnings are errors in CI and `make test` only: other compilers warn of other things. WERROR=1 for a build by hand.
WERROR ?=
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wmissing-prototypes -Wformat=2 $(if $(WERROR),-Werror)
# Not where a level is given already (a second definition is a warning), nor without optimization (so is that).
OPTIMIZED = $(filter-out -O0,$(lastword $(filter -O%,$(CPPFLAGS) $(CFLAGS))))
FORTIFY = $(if $(OPTIMIZED),$(if $(findstring _FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2))
# The relay is linked as one program (LTO): a third of what a delivery costs outside of the kernel. Fat objects, so that
# tests and tools link as ever. Not where -fno-lto is given, nor with clang, which needs a linker of its own for it.
HAS_LTO = $(if $(filter normal,$(VARIANT)),$(if $(filter -fno-lto,$(CFLAGS) $(LDFLAGS)),,$(shell echo __clang__ | $(CC) -E -P - | grep -x __clang__)))
LTO = $(eval LTO := $$(if $$(HAS_LTO),-flto=auto))$(LTO)
LINK_LTO = $(if $(LTO),-fno-lto)
VARIANT_CFLAGS_normal = $(FORTIFY) -fstack-protector-strong $(if $(LTO),$(LTO) -ffat-lto-objects)
VARIANT_CFLAGS_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
VARIANT_CFLAGS_tsan := -fsanitize=thread -fno-omit-frame-pointer
VARIANT_CFLAGS_fuzz := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -Wno-error
VARIANT_LDFLAGS_normal := -pie -Wl,-z,relro,-z,now
VARIANT_LDFLAGS_asan := -fsanitize=address,undefined
VARIANT_LDFLAGS_tsan := -fsanitize=thread
VARIANT_LDFLAGS_fuzz := -fsanitize=fuzzer,address,undefined

PACKAGES := libmicrohttpd hiredis libcjson zlib libcrypto
# Asked once, and only when something is compiled: on a bare machine `make deps` must work before pkg-config is there.
# As system headers: our warnings are not for them.
# TLS to Redis is built in where hiredis has it (1.0 on).
TLS_PACKAGES = $(eval TLS_PACKAGES := $$(shell pkg-config --exists hiredis_ssl openssl && echo hiredis_ssl openssl))$(TLS_PACKAGES)
# Many writes in one system call are built in where liburing is.
URING_PACKAGES = $(eval URING_PACKAGES := $$(shell pkg-config --exists 'liburing >= 2.2' && echo liburing))$(URING_PACKAGES)
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(patsubst -I%,-isystem %,$$(shell pkg-config --cflags $(PACKAGES) $(TLS_PACKAGES) $(URING_PACKAGES))))$(PKG_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $$(shell pkg-config --libs $(PACKAGES) $(TLS_PACKAGES) $(URING_PACKAGES)))$(PKG_LIBS)
CHECK_CFLAGS = $(eval CHECK_CFLAGS := $$(shell pkg-config --cflags check))$(CHECK_CFLAGS)
CHECK_LIBS = $(eval CHECK_LIBS := $$(shell pkg-config --libs --static check))$(CHECK_LIBS)

ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DSSE_RELAY_VERSION='"$(VERSION)"' -I. $(WARNINGS) $(PKG_CFLAGS) $(if $(TLS_PACKAGES),-DSSE_RELAY_REDIS_TLS) $(if $(URING_PACKAGES),-DSSE_RELAY_IO_URING) -pthread -fPIE \
             $(VARIANT_CFLAGS_$(VARIANT)) $(CPPFLAGS) $(CFLAGS)
# With CFLAGS, as some of them are for the linker, too (-m32, -fsanitize=…, -flto).
ALL_LDFLAGS = -pthread $(VARIANT_LDFLAGS_$(VARIANT)) $(LINK_LTO) $(CFLAGS) $(LDFLAGS)
LIBS = $(PKG_LIBS) -lev -lm

# --- files -----------------------------------------------------------------------------------------------------------
MAIN := relay/main.c
SOURCES := $(filter-out $(MAIN),$(wildcard common/*.c relay/*.c relay/*/*.c))
GENERATED := $(if $(wildcard common/sse_relay.lua),build/sse_relay_lua.c) $(if $(wildcard relay/http/page.html),build/relay_page.c) $(if $(wildcard relay/http/client.js),build/relay_client.c)
OBJECTS := $(SOURCES:%.c=$(OBJ)/%.o) $(GENERATED:build/%.c=$(OBJ)/%.o)
LIBRARY := $(OBJ)/libsse_relay.a
BINARY := $(if $(filter normal,$(VARIANT)),build/sse-relay,$(OBJ)/sse-relay)

UNIT_MAINS := $(wildcard test/unit/test_*.c)
UNIT_HELPERS := $(filter-out $(UNIT_MAINS),$(wildcard test/unit/*.c))
UNIT_PROGRAMS := $(UNIT_MAINS:test/unit/%.c=$(OBJ)/test/unit/%)
BENCH_TOOL := $(if $(filter normal,$(VARIANT)),build/sse-bench,$(OBJ)/sse-bench)
BENCH_HELPERS := $(addprefix $(OBJ)/test/bench/,epoll_baseline match slow_readers token_streams)
BENCH_MAINS := $(addprefix test/bench/,sse_bench.c epoll_baseline.c match.c slow_readers.c token_streams.c)
BENCH_OBJECTS := $(patsubst %.c,$(OBJ)/%.o,$(filter-out $(BENCH_MAINS),$(wildcard test/bench/*.c)))
FUZZERS := $(patsubst test/fuzz/%.c,build/fuzz/test/fuzz/%,$(wildcard test/fuzz/fuzz_*.c))
FORMATTED := $(wildcard common/*.[ch] relay/*.[ch] relay/*/*.[ch] test/unit/*.[ch] test/fuzz/*.[ch] test/bench/*.[ch])
PYTEST_DIRS := $(wildcard test/lua test/integration)
SCRIPTS := tools/embed deploy/install-deps deploy/run deploy/stack deploy/lib.sh test/unit/run test/sanitizers test/second_server test/total docs/model/check .ci/run

# --- build -----------------------------------------------------------------------------------------------------------
.PHONY: all
all: $(BINARY) ## build the relay: build/sse-relay

# Not both: gcc leaves out its linker plugin, and with it all of this, where it sees -fno-lto, whatever comes after that.
$(BINARY): private LINK_LTO = $(LTO)
$(BINARY): $(OBJ)/relay/main.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

# Made anew each time: a file that was deleted must not live on in the archive.
$(LIBRARY): $(OBJECTS)
	$(call say,AR,$@)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(OBJ)/%.o: %.c $(OBJ)/flags
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(if $(filter test/unit/%,$<),$(CHECK_CFLAGS)) -MMD -MP -c -o $@ $<

$(OBJ)/%.o: build/%.c $(OBJ)/flags
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# Changes only when the flags do, so that everything is built anew then.
$(OBJ)/flags: always
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(CC) $(ALL_CFLAGS))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(CC) $(ALL_CFLAGS))' >$@

build/sse_relay_lua.c: common/sse_relay.lua tools/embed Makefile
	$(call say,EMBED,$<)
	@mkdir -p $(@D)
	$(Q)tools/embed common/lua_library.h sse_relay_lua $< >$@

build/relay_page.c: relay/http/page.html tools/embed tools/page_csp Makefile
	$(call say,EMBED,$<)
	@mkdir -p $(@D)
	$(Q)tools/embed relay/http/page.h relay_page $< >$@
	$(Q)printf 'const char relay_page_csp[] = "%s";\n' "$$($(PYTHON) tools/page_csp $<)" >>$@

# What is served: the code without comments, and each as gzip, too. The validators are of the plain text.
CLIENT := build/client/client.js build/client/client.d.ts
build/client/client.js: relay/http/client.js tools/strip_comments
	@mkdir -p $(@D)
	$(Q)$(PYTHON) tools/strip_comments $< >$@
build/client/client.d.ts: relay/http/client.d.ts
	@mkdir -p $(@D)
	$(Q)cp $< $@
$(CLIENT:%=%.gz): %.gz: %
	$(Q)gzip -9nc $< >$@

embed_client = tools/embed relay/http/library.h relay_client_$(1) build/client/$(2) && \
	tools/embed relay/http/library.h relay_client_$(1)_gz build/client/$(2).gz && \
	printf 'const char relay_client_$(1)_etag[] = "W/\\"%.32s\\"";\n' "$$(sha256sum <build/client/$(2))"
build/relay_client.c: $(CLIENT) $(CLIENT:%=%.gz) tools/embed Makefile
	$(call say,EMBED,$(CLIENT))
	$(Q){ $(call embed_client,js,client.js) && $(call embed_client,types,client.d.ts); } >$@

-include $(shell find build -name '*.d' -type f 2>/dev/null)

.PHONY: always
always:

# --- dependencies ----------------------------------------------------------------------------------------------------
.PHONY: deps deps-run deps-fuzz deps-bench deps-guard
deps: ## install what building, running and testing need (Debian packages)
	@deploy/install-deps build run test
deps-run:
	@deploy/install-deps build run
deps-fuzz:
	@deploy/install-deps build fuzz
deps-bench:
	@deploy/install-deps build bench || echo "bench: peers that are not installed will be skipped"
deps-guard:
	@deploy/install-deps build guard || echo "bench-guard: valgrind could not be installed"

# --- try it ----------------------------------------------------------------------------------------------------------
.PHONY: run stack
run: deps-run ## one relay with a private Redis on 127.0.0.1:8080
	@+$(MAKE) --no-print-directory all
	@exec deploy/run
stack: ## two relays behind HAProxy with a demo publisher on 127.0.0.1:8080
	@deploy/install-deps build run stack
	@+$(MAKE) --no-print-directory all
	@exec deploy/stack

# --- tests -----------------------------------------------------------------------------------------------------------
.PHONY: unit-programs
unit-programs: $(UNIT_PROGRAMS)

$(OBJ)/test/unit/%: $(OBJ)/test/unit/%.o $(UNIT_HELPERS:%.c=$(OBJ)/%.o) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(CHECK_LIBS) $(LIBS)
# The parts of the load generator that others must be able to trust.
$(OBJ)/test/unit/test_bench: $(BENCH_OBJECTS)
.SECONDARY: $(UNIT_MAINS:%.c=$(OBJ)/%.o) $(UNIT_HELPERS:%.c=$(OBJ)/%.o)

.PHONY: check integration integration-handover integration-second
check: unit-programs ## unit tests (VARIANT=asan or tsan for a sanitizer build)
	@test/unit/run $(VARIANT) $(UNIT_PROGRAMS)

# Older sanitizer runtimes do not know the memory layout of newer kernels' randomisation.
STEADY = $(if $(filter tsan,$(VARIANT)),$$(setarch -R true 2>/dev/null && echo setarch -R))
PYTEST = env PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m pytest -n $(PYTEST_JOBS) -o cache_dir=$(abspath build/pytest-cache)

integration: $(BINARY) $(BENCH_TOOL) ## Lua and integration tests with the built relay and a real Redis
	SSE_RELAY_BIN=$(abspath $(BINARY)) SSE_BENCH_BIN=$(abspath $(BENCH_TOOL)) $(STEADY) $(PYTEST) --junitxml=$(OBJ)/integration.xml $(PYTEST_ARGS) $(PYTEST_DIRS)

integration-handover: $(BINARY) $(BENCH_TOOL) ## those about connections once more, with park=handover and io_uring=off
	SSE_RELAY_TEST_OPTIONS='park=handover io_uring=off' SSE_RELAY_BIN=$(abspath $(BINARY)) SSE_BENCH_BIN=$(abspath $(BENCH_TOOL)) $(STEADY) $(PYTEST) \
		-m "not browser" --junitxml=$(OBJ)/integration-handover.xml $(PYTEST_ARGS) $(HANDOVER_TESTS)

integration-second: $(BINARY) $(BENCH_TOOL) ## those about Redis once more, with Valkey in its place (skipped where it cannot be had)
	@if servers=$$(test/second_server build/second-server); then \
		PATH=$$servers:$$PATH SSE_RELAY_BIN=$(abspath $(BINARY)) SSE_BENCH_BIN=$(abspath $(BENCH_TOOL)) $(STEADY) $(PYTEST) \
			--junitxml=$(OBJ)/integration-second.xml $(PYTEST_ARGS) $(SECOND_TESTS); \
	else \
		printf '<testsuite name="second server" tests="1" failures="0" errors="0" skipped="1"></testsuite>\n' >$(OBJ)/integration-second.xml; \
	fi

.PHONY: check-asan check-asan-unit check-asan-integration check-tsan check-tsan-unit check-tsan-integration
check-asan: ## unit and integration tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@+$(MAKE) --no-print-directory check-asan-unit
	@+$(MAKE) --no-print-directory check-asan-integration
check-asan-unit:
	@+$(MAKE) --no-print-directory VARIANT=asan check
check-asan-integration:
	@+. test/sanitizers && $(MAKE) --no-print-directory VARIANT=asan PYTEST_ARGS='-m "$(ASAN_SELECT)" $(PYTEST_ARGS)' integration

check-tsan: ## unit and integration tests under ThreadSanitizer
	@+$(MAKE) --no-print-directory check-tsan-unit
	@+$(MAKE) --no-print-directory check-tsan-integration
check-tsan-unit:
	@+$(MAKE) --no-print-directory VARIANT=tsan check
check-tsan-integration:
	@+. test/sanitizers && $(MAKE) --no-print-directory VARIANT=tsan PYTEST_ARGS='-m "$(TSAN_SELECT)" $(PYTEST_ARGS)' integration

.PHONY: layers format format-check shellcheck
layers: ## check that files include only files of lower layers
	@$(PYTHON) test/layers --self-test
	@$(PYTHON) test/layers
format: ## format the C code
	$(CLANG_FORMAT) -i $(FORMATTED)
format-check: ## fail where the C code is not formatted
	@$(CLANG_FORMAT) --dry-run --Werror $(FORMATTED) && echo "format: $(words $(FORMATTED)) files as they should be"
shellcheck: ## check the shell scripts
	@shellcheck -x $(SCRIPTS) && echo "shellcheck: $(words $(SCRIPTS)) scripts clean"

.PHONY: test test-steps
test: deps ## everything, from nothing: dependencies, build, checks, all tests
	@rm -f build/*/unit.count build/*/integration*.xml
	@+status=0; $(MAKE) --no-print-directory test-steps || status=$$?; test/total build || status=1; exit $$status
test-steps: export WERROR = 1
test-steps:
	@+$(MAKE) --no-print-directory all
	@+$(MAKE) --no-print-directory layers
	@+$(MAKE) --no-print-directory format-check
	@+$(MAKE) --no-print-directory shellcheck
	@+$(MAKE) --no-print-directory check
	@+$(MAKE) --no-print-directory model-lanes
	@+$(MAKE) --no-print-directory integration
	@+$(MAKE) --no-print-directory integration-handover
	@+$(MAKE) --no-print-directory integration-second
	@+$(MAKE) --no-print-directory bench-guard
	@+for step in $(TEST_SANITIZERS); do $(MAKE) --no-print-directory $$step || exit 1; done

# --- under every failure ---------------------------------------------------------------------------------------------
.PHONY: torture
torture: $(BINARY) ## nothing lost, nothing twice under every failure: [SECONDS=120] [SEED=N | SEEDS=N,N… | SEEDS=regression]
	@SSE_RELAY_BIN=$(abspath $(BINARY)) PYTHONDONTWRITEBYTECODE=1 $(PYTHON) test/torture/torture.py \
		--seconds $(or $(SECONDS),120) $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(TORTURE_ARGS)

# --- the models ------------------------------------------------------------------------------------------------------
# What to run instead of what takes half a minute, for example LANES_ARGS='--random 600000 --length 6' (two minutes).
LANES_ARGS ?=
.PHONY: model model-handover model-lanes
model: ## check the models of the hand-over and of the lanes
	@+$(MAKE) --no-print-directory model-handover
	@+$(MAKE) --no-print-directory model-lanes
model-handover: ## check the model of the hand-over with spin (skipped where spin is not installed)
	@CC=$(CC) docs/model/check
model-lanes: ## check the id rule of the lanes: our rule holds, and each wrong one is caught
	@timeout --kill-after=10 600 $(PYTHON) -B docs/model/lanes.py $(LANES_ARGS)

# --- fuzzing and benchmarks ------------------------------------------------------------------------------------------
.PHONY: fuzz
fuzz: deps-fuzz ## run each fuzzer for SECONDS=30
	@+$(MAKE) --no-print-directory VARIANT=fuzz CC=$(CLANG) fuzzers
	@. test/sanitizers; for fuzzer in $(FUZZERS); do \
		name=$${fuzzer##*/}; found=build/fuzz/corpus/$$name; mkdir -p $$found; \
		echo "$$name: $(FUZZ_SECONDS) s"; \
		$$fuzzer -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1 -artifact_prefix=build/fuzz/ \
			$$found $$(ls -d test/fuzz/corpus/$$name 2>/dev/null) >$$fuzzer.log 2>&1 \
			|| { tail -n 50 $$fuzzer.log; exit 1; }; \
		grep -E 'number_of_executed_units|new_units_added' $$fuzzer.log; \
	done

.PHONY: fuzzers
fuzzers: $(FUZZERS)
$(FUZZERS): build/fuzz/test/fuzz/%: build/fuzz/test/fuzz/%.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

# What to run, for example BENCH_ARGS='--quick fanout'.
BENCH_ARGS ?=
.PHONY: bench
bench: deps-bench ## measure this machine: build/bench/report.md (BENCH_ARGS='--quick fanout' for a part)
	@+$(MAKE) --no-print-directory all bench-programs
	@SSE_RELAY_BIN=$(abspath $(BINARY)) $(PYTHON) test/bench/run $(BENCH_ARGS)

# Flow control on real sockets (docs/performance.md, 11). SCALE=10: a tenth of the streams and events.
SCALE ?= 1
.PHONY: bench-slow bench-llm bench-pipe
bench-slow: ## 1,000 stalled, 1,000 slow and 1,000 healthy streams, about two hours [SCALE=10]
	@+$(MAKE) --no-print-directory bench BENCH_ARGS='--runs 3 --seconds 60 --scale $(SCALE) --out build/bench-slow slow-readers'
bench-llm: ## 500 streams of tokens, each reloaded once, 5 minutes [SCALE=10]
	@+$(MAKE) --no-print-directory bench BENCH_ARGS='--runs 5 --seconds 20 --scale $(SCALE) --out build/bench-llm llm'

bench-pipe: ## the same tokens by pipes, against calls of Redis, 5 minutes [SCALE=10]
	@+$(MAKE) --no-print-directory bench BENCH_ARGS='--runs 5 --seconds 20 --scale $(SCALE) --out build/bench-pipe pipe'

# Whether a delivery costs what it did. GUARD_UPDATE=1 takes what is measured for the figures to keep.
GUARD_ARGS ?=
.PHONY: bench-guard
bench-guard: deps-guard ## fail where a delivery takes 5% more instructions than it did [GUARD_UPDATE=1]
	@+$(MAKE) --no-print-directory VARIANT=normal all
	@SSE_RELAY_BIN=$(abspath build/sse-relay) $(PYTHON) test/bench/guard.py --cflags='$(strip $(CFLAGS) $(CPPFLAGS))' \
		$(if $(GUARD_UPDATE),--update) $(GUARD_ARGS)

.PHONY: bench-programs
bench-programs: $(BENCH_TOOL) $(BENCH_HELPERS) ## build the load generator: build/sse-bench

$(BENCH_TOOL): $(OBJ)/test/bench/sse_bench.o $(BENCH_OBJECTS) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
$(BENCH_HELPERS): %: %.o $(BENCH_OBJECTS) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

# --- documents -------------------------------------------------------------------------------------------------------
.PHONY: docs
docs: all ## write what the binary knows into docs/operations.md and deploy/sse-relay.json, and the examples of docs/scaling.md
	$(Q)env -i PATH="$$PATH" $(BINARY) --print-config >build/sse-relay.json
	$(Q)env -i PATH="$$PATH" $(BINARY) --print-docs >build/options.md
	$(Q)sed -e '/<!-- options:begin -->/r build/options.md' -e '/<!-- options:begin -->/,/<!-- options:end -->/{/^<!-- /!d}' \
		docs/operations.md >build/operations.md
	$(Q)cmp -s build/sse-relay.json deploy/sse-relay.json || cp build/sse-relay.json deploy/sse-relay.json
	$(Q)cmp -s build/operations.md docs/operations.md || cp build/operations.md docs/operations.md
	$(Q)$(PYTHON) -B test/bench/capacity.py --write-docs docs/scaling.md

# --- install ---------------------------------------------------------------------------------------------------------
.PHONY: install uninstall
install: all ## install below PREFIX=/usr/local (DESTDIR= for packaging)
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/sse-relay
	install -D -m 644 common/sse_relay.lua $(DESTDIR)$(PREFIX)/share/sse-relay/sse_relay.lua
	install -D -m 644 deploy/sse-relay.json $(DESTDIR)$(PREFIX)/share/doc/sse-relay/sse-relay.json
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|@VERSION@|$(VERSION)|' deploy/sse-relay.1 >$(DESTDIR)$(PREFIX)/share/man/man1/sse-relay.1
	chmod 644 $(DESTDIR)$(PREFIX)/share/man/man1/sse-relay.1
	sed 's|/usr/local|$(PREFIX)|g' deploy/sse-relay.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/sse-relay.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/sse-relay.service

uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/sse-relay $(DESTDIR)$(PREFIX)/share/man/man1/sse-relay.1 \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/sse-relay.service
	rm -rf $(DESTDIR)$(PREFIX)/share/sse-relay $(DESTDIR)$(PREFIX)/share/doc/sse-relay

.PHONY: clean help
clean: ## remove build/
	rm -rf build
help: ## this list
	@grep -hE '^[a-z-]+:.* ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.* ## /\1\t/' | \
		while IFS="$$(printf '\t')" read -r target text; do printf '  make %-14s %s\n' "$$target" "$$text"; done
