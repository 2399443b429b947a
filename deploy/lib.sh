# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What deploy/run and deploy/stack share: processes that end with the script, a private Redis, waiting for readiness.
# Sourced, with set -euo pipefail.

work_dir=''
child_names=()
child_pids=()

say() {
    printf '%s\n' "$*"
}

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Ends everything in the reverse order of its start, and waits for it.
clean_up() {
    local status=$? i pid tenths
    trap '' INT TERM HUP
    trap - EXIT
    for ((i = ${#child_pids[@]} - 1; i >= 0; i--)); do
        pid=${child_pids[i]}
        kill -TERM "$pid" 2>/dev/null || true
        tenths=150
        while kill -0 "$pid" 2>/dev/null && [[ $((tenths -= 1)) -gt 0 ]]; do
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    [[ -z $work_dir ]] || rm -rf "$work_dir"
    exit "$status"
}

begin() {
    trap clean_up EXIT
    # Ctrl-C is how one asks for the end: that is no failure.
    trap 'say; say "Stopping."; exit 0' INT TERM HUP
    work_dir=$(mktemp -d "${TMPDIR:-/tmp}/sse-relay.XXXXXX")
}

# start_child NAME COMMAND...: in a session of its own, so that Ctrl-C reaches only this script, which then ends them in
# order; and with a signal at our death, so that even kill -9 of this script leaves nothing running.
start_child() {
    local name=$1
    shift
    setsid setpriv --pdeathsig TERM -- "$@" &
    child_names+=("$name")
    child_pids+=("$!")
}

last_pid() {
    printf '%s\n' "${child_pids[-1]}"
}

# Returns when one of the children has ended, and fails then: none should.
watch_children() {
    local status=0 i
    wait -n || status=$?
    for i in "${!child_pids[@]}"; do
        if ! kill -0 "${child_pids[i]}" 2>/dev/null; then
            fail "${child_names[i]} ended (status $status); stopping"
        fi
    done
    fail "a process ended (status $status); stopping"
}

# port_is_taken HOST PORT: whether somebody listens there.
port_is_taken() {
    local host=$1
    case $host in
        '' | 0.0.0.0 | '[::]' | '*') host=127.0.0.1 ;;
    esac
    host=${host#[} host=${host%]}
    (exec 3<>"/dev/tcp/$host/$2") 2>/dev/null
}

# A port nobody listens on just now, outside of the range that the kernel gives to clients.
free_port() {
    local port
    for _ in {1..100}; do
        port=$((10000 + RANDOM % 20000))
        if ! port_is_taken 127.0.0.1 "$port"; then
            printf '%s\n' "$port"
            return
        fi
    done
    fail "found no free port"
}

# Starts a Redis of our own that keeps nothing on disk. Sets redis_port.
start_redis() {
    local pid
    command -v redis-server >/dev/null || fail "redis-server is missing: make deps"
    for _ in {1..20}; do
        redis_port=$(free_port)
        start_child Redis redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$work_dir" --save '' --appendonly no \
            --stream-node-max-bytes 512 --daemonize no --logfile "$work_dir/redis.log"
        pid=$(last_pid)
        while kill -0 "$pid" 2>/dev/null; do
            # Ours, and not another that took the port in between.
            if redis-cli -p "$redis_port" INFO server 2>/dev/null | grep -q "^process_id:$pid"; then
                return
            fi
            sleep 0.05
        done
        unset 'child_pids[-1]' 'child_names[-1]'
    done
    cat "$work_dir/redis.log" >&2
    fail "Redis does not start"
}

# wait_ready URL SECONDS: until it answers 200; the child started last must live.
wait_ready() {
    local url=$1 tenths=$(($2 * 10)) pid
    pid=$(last_pid)
    until [[ $(curl -s -o /dev/null -m 2 -w '%{http_code}' "$url") == 200 ]]; do
        kill -0 "$pid" 2>/dev/null || fail "${child_names[-1]} ended before it was ready; its messages are above"
        [[ $((tenths -= 1)) -gt 0 ]] || fail "$url does not answer 200; messages are above"
        sleep 0.1
    done
}
