/* SPDX-License-Identifier: Apache-2.0 */
#include "process.h"
#include "common/mem.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDED_S 0.04 /* user and system, at both ends, to a tick */

static void add_pid(struct processes *p, int pid)
{
    for (uint32_t i = 0; i < p->count; i++)
        if (p->pids[i] == pid)
            return;
    p->pids = mem_resize(p->pids, (p->count + 1) * sizeof *p->pids);
    p->pids[p->count++] = pid;
}

/* Reads a small file of /proc; returns its length, 0 if there is none. */
static size_t read_file(const char *path, char *out, size_t size)
{
    FILE *file = fopen(path, "r");
    size_t n = file ? fread(out, 1, size - 1, file) : 0;
    if (file)
        fclose(file);
    out[n] = '\0';
    return n;
}

/* Calls @visit with the number of each thread of @pid. */
static void each_thread(int pid, void (*visit)(int pid, int tid, void *arg), void *arg)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)))
        if (entry->d_name[0] != '.')
            visit(pid, atoi(entry->d_name), arg);
    if (dir)
        closedir(dir);
}

static void add_children(int pid, int tid, void *arg)
{
    char path[96], text[4096], *save = NULL;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, tid);
    read_file(path, text, sizeof text);
    for (char *word = strtok_r(text, " \n", &save); word; word = strtok_r(NULL, " \n", &save))
        add_pid(arg, atoi(word));
}

bool processes_init(struct processes *p, const struct text_list *pids)
{
    char path[64];
    for (uint32_t i = 0; i < pids->count; i++) {
        int pid = atoi(pids->items[i]);
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        if (pid <= 0 || access(path, R_OK) != 0) {
            fprintf(stderr, "sse-bench: %s: no such process\n", pids->items[i]);
            return false;
        }
        add_pid(p, pid);
    }
    for (uint32_t i = 0; i < p->count; i++) /* grows meanwhile */
        each_thread(p->pids[i], add_children, p);
    return true;
}

void processes_reset(struct processes *p)
{
    free(p->pids);
    *p = (struct processes){0};
}

static void add_runtime(int pid, int tid, void *arg)
{
    char path[96], text[128];
    snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", pid, tid);
    if (read_file(path, text, sizeof text))
        *(double *)arg += (double)strtoull(text, NULL, 10) / 1e9;
}

static struct cpu_time cpu_of(int pid)
{
    char path[64], text[1024];
    unsigned long long user = 0, sys = 0;
    struct cpu_time out = {0};
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    read_file(path, text, sizeof text);
    const char *rest = strrchr(text, ')');
    if (!rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                        &sys) != 2)
        return out;
    double second = (double)sysconf(_SC_CLK_TCK);
    out.user_s = (double)user / second;
    out.system_s = (double)sys / second;
    each_thread(pid, add_runtime, &out.exact_s);
    return out;
}

struct cpu_time processes_cpu(const struct processes *p)
{
    struct cpu_time sum = {0};
    for (uint32_t i = 0; i < p->count; i++) {
        struct cpu_time one = cpu_of(p->pids[i]);
        sum.exact_s += one.exact_s;
        sum.user_s += one.user_s;
        sum.system_s += one.system_s;
    }
    return sum;
}

/* The ticks say how much of the exact time was the user's. They count threads that have ended, too:
 * where such a thread makes a difference they are nearer than the exact time. */
struct cpu_time cpu_between(struct cpu_time from, struct cpu_time to)
{
    struct cpu_time out = {to.exact_s - from.exact_s, to.user_s - from.user_s,
                           to.system_s - from.system_s};
    double ticks = out.user_s + out.system_s;
    if (out.exact_s > 0 && ticks < out.exact_s + ROUNDED_S) {
        double user = ticks > 0 ? out.user_s / ticks : .5;
        out.user_s = out.exact_s * user;
        out.system_s = out.exact_s - out.user_s;
    }
    return out;
}

uint64_t processes_pss(const struct processes *p)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        char path[64], text[2048];
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", p->pids[i]);
        read_file(path, text, sizeof text);
        const char *at = strstr(text, "\nPss:");
        sum += at ? strtoull(at + 5, NULL, 10) * 1024 : 0;
    }
    return sum;
}
