/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics as text: for Prometheus, and as JSON. */
#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "common/json.h"
#include "relay/kit/metrics_parts.h"

static void put_head(struct buf *b, const char *prefix, const char *name, const char *help,
                     const char *type)
{
    buf_printf(b, "# HELP %s%s %s\n# TYPE %s%s %s\n", prefix, name, help, prefix, name, type);
}

static void put_label_value(struct buf *b, const char *text)
{
    for (; *text; text++) {
        if (*text == '\n') {
            buf_puts(b, "\\n");
            continue;
        }
        if (*text == '"' || *text == '\\')
            buf_putc(b, '\\');
        buf_putc(b, *text);
    }
}

static void put_seconds(struct buf *b, uint64_t us)
{
    buf_printf(b, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
}

static void put_total(struct buf *b, struct metrics *const *sets, size_t count, size_t which)
{
    uint64_t total = metrics_total(sets, count, (enum metric)which);
    if (metrics_rows[which].kind != METRIC_SIGNED) {
        buf_put_u64(b, total);
        return;
    }
    bool negative = (int64_t)total < 0;
    buf_puts(b, negative ? "-" : "");
    put_seconds(b, negative ? -total : total);
}

static bool starts_family(size_t which)
{
    return which == 0 || strcmp(metrics_rows[which].name, metrics_rows[which - 1].name) != 0;
}

static void put_thread(struct buf *b, size_t index, size_t count)
{
    if (index + 1 == count)
        buf_puts(b, "bus");
    else
        buf_put_u64(b, index);
}

static void put_row(struct buf *b, struct metrics *const *sets, size_t count, size_t which)
{
    const struct metrics_row *row = &metrics_rows[which];
    if (starts_family(which))
        put_head(b, METRICS_PREFIX, row->name, row->help,
                 row->kind == METRIC_COUNTER ? "counter" : "gauge");
    if (row->kind == METRIC_PER_SET) {
        for (size_t i = 0; i < count; i++) {
            buf_printf(b, METRICS_PREFIX "%s{worker=\"", row->name);
            put_thread(b, i, count);
            buf_puts(b, "\"} ");
            put_seconds(b, metrics_value(sets[i], (enum metric)which));
            buf_putc(b, '\n');
        }
        return;
    }
    buf_printf(b, METRICS_PREFIX "%s", row->name);
    if (row->label)
        buf_printf(b, "{%s=\"%s\"}", row->label, row->value);
    buf_putc(b, ' ');
    put_total(b, sets, count, which);
    buf_putc(b, '\n');
}

static const char *type_in(const struct strings *types, size_t slot)
{
    return slot ? types->items[slot - 1] : "other";
}

static void put_types(struct buf *b, struct metrics *const *sets, size_t count)
{
    const struct strings *types = metrics_types(sets[0]);
    if (!types)
        return;
    put_head(b, METRICS_PREFIX, metrics_types_family.name, metrics_types_family.help, "counter");
    for (unsigned slot = 0; slot <= types->count; slot++) {
        buf_printf(b, METRICS_PREFIX "%s{type=\"", metrics_types_family.name);
        put_label_value(b, type_in(types, slot));
        buf_puts(b, "\"} ");
        buf_put_u64(b, metrics_total_type(sets, count, slot));
        buf_putc(b, '\n');
    }
}

static void put_histogram(struct buf *b, const struct metrics_family *family,
                          const struct metrics_distribution *d)
{
    uint64_t below = 0;
    put_head(b, METRICS_PREFIX, family->name, family->help, "histogram");
    for (size_t i = 0; i < METRICS_BUCKETS; i++) {
        below += d->buckets[i];
        buf_printf(b, METRICS_PREFIX "%s_bucket{le=\"%s\"} %" PRIu64 "\n", family->name,
                   metrics_bounds[i].seconds, below);
    }
    buf_printf(b, METRICS_PREFIX "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", family->name, d->count);
    buf_printf(b, METRICS_PREFIX "%s_sum ", family->name);
    put_seconds(b, d->sum_us);
    buf_printf(b, "\n" METRICS_PREFIX "%s_count %" PRIu64 "\n", family->name, d->count);
}

static void put_build(struct buf *b, const char *version, const char *node, const char *bus_kind)
{
    put_head(b, METRICS_PREFIX, "build_info", "Always 1; what runs here.", "gauge");
    buf_puts(b, METRICS_PREFIX "build_info{version=\"");
    put_label_value(b, version);
    buf_puts(b, "\",node=\"");
    put_label_value(b, node);
    buf_puts(b, "\",redis=\"");
    put_label_value(b, bus_kind);
    buf_puts(b, "\"} 1\n");
}

/* --- the process, under the names that every Prometheus client library uses --- */

static bool process_start_seconds(double *out)
{
    char text[1024];
    FILE *f = fopen("/proc/self/stat", "re");
    size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
    unsigned long long ticks = 0;
    struct timespec wall, boot;
    if (f)
        fclose(f);
    text[n] = '\0';
    const char *p =
        strrchr(text, ')'); /* the command's name may hold spaces; field 22 is the start */
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    if (!p || sscanf(p, " %llu", &ticks) != 1)
        return false;
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    *out = (double)wall.tv_sec - (double)boot.tv_sec + (double)(wall.tv_nsec - boot.tv_nsec) / 1e9 +
           (double)ticks / (double)sysconf(_SC_CLK_TCK);
    return true;
}

static bool process_resident_bytes(uint64_t *out)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long long size, resident;
    bool ok = f && fscanf(f, "%llu %llu", &size, &resident) == 2;
    if (f)
        fclose(f);
    if (ok)
        *out = (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
    return ok;
}

/* From Linux 6.2 on the directory's size is the number of files. To list them takes nearly 1 us for
 * each, while the streams of this thread wait, and leaves 0.9 KB for each in the kernel. */
static bool process_open_files(uint64_t *out)
{
    struct stat status;
    if (stat("/proc/self/fd", &status) == 0 && status.st_size > 0) {
        *out = (uint64_t)status.st_size;
        return true;
    }
    DIR *dir = opendir("/proc/self/fd");
    uint64_t n = 0;
    const struct dirent *entry;
    if (!dir)
        return false;
    while ((entry = readdir(dir)) != NULL)
        n += entry->d_name[0] != '.';
    closedir(dir);
    *out = n - 1; /* without the directory itself */
    return true;
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void put_process(struct buf *b)
{
    double start;
    uint64_t n;
    struct rusage usage;
    struct rlimit files;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        put_head(b, "process_", "cpu_seconds_total", "CPU time, user and system.", "counter");
        buf_printf(b, "process_cpu_seconds_total %.6f\n",
                   seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime));
    }
    if (process_start_seconds(&start)) {
        put_head(b, "process_", "start_time_seconds", "Start of the process, Unix time.", "gauge");
        buf_printf(b, "process_start_time_seconds %.2f\n", start);
    }
    if (process_resident_bytes(&n)) {
        put_head(b, "process_", "resident_memory_bytes", "Resident memory.", "gauge");
        buf_printf(b, "process_resident_memory_bytes %" PRIu64 "\n", n);
    }
    if (process_open_files(&n)) {
        put_head(b, "process_", "open_fds", "Open file descriptors.", "gauge");
        buf_printf(b, "process_open_fds %" PRIu64 "\n", n);
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        put_head(b, "process_", "max_fds", "Limit of open file descriptors.", "gauge");
        buf_printf(b, "process_max_fds %" PRIu64 "\n", (uint64_t)files.rlim_cur);
    }
}

void metrics_put_prometheus(struct buf *b, struct metrics *const *sets, size_t count,
                            const char *version, const char *node, const char *bus_kind)
{
    for (size_t i = 0; i < METRIC_COUNT; i++)
        put_row(b, sets, count, i);
    put_types(b, sets, count);
    for (size_t i = 0; i < HISTOGRAM_COUNT; i++) {
        struct metrics_distribution d;
        metrics_sum_histogram(sets, count, (enum histogram)i, &d);
        put_histogram(b, &metrics_histograms[i], &d);
    }
    put_build(b, version, node, bus_kind);
    put_process(b);
}

/* --- JSON --- */

static void put_json_threads(struct buf *b, struct metrics *const *sets, size_t count, size_t which)
{
    buf_putc(b, '{');
    for (size_t i = 0; i < count; i++) {
        buf_puts(b, i > 0 ? ",\"" : "\"");
        put_thread(b, i, count);
        buf_puts(b, "\":");
        put_seconds(b, metrics_value(sets[i], (enum metric)which));
    }
    buf_putc(b, '}');
}

static void put_json_row(struct buf *b, struct metrics *const *sets, size_t count, size_t which)
{
    const struct metrics_row *row = &metrics_rows[which];
    if (starts_family(which))
        buf_printf(b, "%s\"" METRICS_PREFIX "%s\":%s", which > 0 ? "," : "", row->name,
                   row->label ? "{" : "");
    else
        buf_putc(b, ',');
    if (row->kind == METRIC_PER_SET) {
        put_json_threads(b, sets, count, which);
        return;
    }
    if (row->label)
        buf_printf(b, "\"%s\":", row->value);
    put_total(b, sets, count, which);
    if (row->label && (which + 1 == METRIC_COUNT || starts_family(which + 1)))
        buf_putc(b, '}');
}

static void put_json_types(struct buf *b, struct metrics *const *sets, size_t count)
{
    const struct strings *types = metrics_types(sets[0]);
    if (!types)
        return;
    buf_printf(b, ",\"" METRICS_PREFIX "%s\":{", metrics_types_family.name);
    for (unsigned slot = 0; slot <= types->count; slot++) {
        buf_puts(b, slot ? "," : "");
        json_put_string(b, slice_of(type_in(types, slot)));
        buf_putc(b, ':');
        buf_put_u64(b, metrics_total_type(sets, count, slot));
    }
    buf_putc(b, '}');
}

static void put_json_histogram(struct buf *b, const struct metrics_family *family,
                               const struct metrics_distribution *d)
{
    buf_printf(b, ",\"" METRICS_PREFIX "%s\":{\"count\":%" PRIu64 ",\"sum\":", family->name,
               d->count);
    put_seconds(b, d->sum_us);
    if (d->count == 0) {
        buf_puts(b, ",\"p50\":null,\"p99\":null}");
        return;
    }
    buf_puts(b, ",\"p50\":");
    put_seconds(b, metrics_quantile_us(d, 0.5));
    buf_puts(b, ",\"p99\":");
    put_seconds(b, metrics_quantile_us(d, 0.99));
    buf_putc(b, '}');
}

void metrics_put_json(struct buf *b, struct metrics *const *sets, size_t count)
{
    buf_putc(b, '{');
    for (size_t i = 0; i < METRIC_COUNT; i++)
        put_json_row(b, sets, count, i);
    put_json_types(b, sets, count);
    for (size_t i = 0; i < HISTOGRAM_COUNT; i++) {
        struct metrics_distribution d;
        metrics_sum_histogram(sets, count, (enum histogram)i, &d);
        put_json_histogram(b, &metrics_histograms[i], &d);
    }
    buf_putc(b, '}');
}
