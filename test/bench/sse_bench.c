/* SPDX-License-Identifier: Apache-2.0 */
/* sse-bench: a load generator for servers of Server-Sent Events. */
#include "bench.h"
#include "common/mem.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_BAD = 1, EXIT_USAGE = 2 };

int main(int argc, char **argv)
{
    struct bench *b = mem_zero(1, sizeof *b);
    int status = EXIT_USAGE;
    if (bench_init(b, argc, argv)) {
        status = EXIT_SUCCESS;
        if (b->options.help) {
            options_help();
        } else if (b->options.version) {
            printf("sse-bench %s\n", SSE_RELAY_VERSION);
        } else {
            (b->options.storm ? bench_storm : bench_steady)(b);
            if (!b->options.quiet && !(b->options.json && strcmp(b->options.json, "-") == 0))
                report_text(b);
            bool written = !b->options.json || report_json(b);
            status = written && report_is_good(b) ? EXIT_SUCCESS : EXIT_BAD;
        }
    }
    bench_reset(b);
    free(b);
    return status;
}
