# SPDX-License-Identifier: Apache-2.0
"""A wall clock that can be set while a program runs."""

from preload import preload

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long step(void)
{
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK_STEP_FILE"), "re");
    if (file) {
        if (fscanf(file, "%ld", &seconds) != 1)
            seconds = 0;
        fclose(file);
    }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    static int (*next)(clockid_t, struct timespec *);
    if (!next)
        next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int rc = next(clock, ts);
    if (clock == CLOCK_REALTIME)
        ts->tv_sec += step();
    return rc;
}

int gettimeofday(struct timeval *tv, void *zone)
{
    struct timespec ts;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}
"""


class SteppedClock:
    """relay_factory(env=clock.env), then clock.step(3600)."""

    def __init__(self, directory):
        self.file = directory / "clock_step"
        self.env = {**preload(directory, "stepped_clock", SOURCE), "CLOCK_STEP_FILE": str(self.file)}

    def step(self, seconds):
        """From now on the wall clock differs by this from what it would be."""
        aside = self.file.with_suffix(".new")
        aside.write_text(str(seconds))
        aside.rename(self.file)
