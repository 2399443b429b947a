/* SPDX-License-Identifier: Apache-2.0 */
#include "common/clock.h"
#include <time.h>

static uint64_t now_us(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t clock_wall_us(void)
{
    return now_us(CLOCK_REALTIME);
}

uint64_t clock_mono_us(void)
{
    return now_us(CLOCK_MONOTONIC);
}

uint64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}

/* Takes exactly @digits digits off the front of *s. */
static bool take_number(struct slice *s, size_t digits, int *out)
{
    int n = 0;
    if (s->len < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (s->ptr[i] < '0' || s->ptr[i] > '9')
            return false;
        n = n * 10 + (s->ptr[i] - '0');
    }
    *s = (struct slice){s->ptr + digits, s->len - digits};
    *out = n;
    return true;
}

static bool take_char(struct slice *s, char c)
{
    if (s->len == 0 || s->ptr[0] != c)
        return false;
    *s = (struct slice){s->ptr + 1, s->len - 1};
    return true;
}

/* ".5" is 500,000 µs; what is finer than a microsecond is cut off. Without a fraction: 0. */
static bool take_fraction(struct slice *s, int *us)
{
    int digit, value = 0, scale = 100000;
    if (take_char(s, '.')) {
        if (!take_number(s, 1, &digit))
            return false;
        do {
            value += digit * scale;
            scale /= 10;
        } while (take_number(s, 1, &digit));
    }
    *us = value;
    return true;
}

static bool take_zone(struct slice *s, int *offset_s)
{
    int hours, minutes, sign;
    *offset_s = 0;
    if (take_char(s, 'Z') || take_char(s, 'z'))
        return true;
    if (take_char(s, '+'))
        sign = 1;
    else if (take_char(s, '-'))
        sign = -1;
    else
        return false;
    if (!take_number(s, 2, &hours) || !take_char(s, ':') || !take_number(s, 2, &minutes) ||
        hours > 23 || minutes > 59)
        return false;
    *offset_s = sign * (hours * 3600 + minutes * 60);
    return true;
}

/* The start of a day of the Gregorian calendar, years 0 to 9999, in Unix time. timegm() takes
 * February 30 for March 2, so what is no date comes back as another. */
static bool day_start(int year, int month, int day, int64_t *seconds)
{
    struct tm date = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};
    *seconds = timegm(&date);
    return date.tm_mon == month - 1 && date.tm_mday == day;
}

enum err clock_parse_rfc3339(struct slice s, uint64_t *out_us)
{
    int year, month, day, hour, minute, second, us, offset_s;
    if (!take_number(&s, 4, &year) || !take_char(&s, '-') || !take_number(&s, 2, &month) ||
        !take_char(&s, '-') || !take_number(&s, 2, &day))
        return ERR_INVALID;
    if (!take_char(&s, 'T') && !take_char(&s, 't'))
        return ERR_INVALID;
    if (!take_number(&s, 2, &hour) || !take_char(&s, ':') || !take_number(&s, 2, &minute) ||
        !take_char(&s, ':') || !take_number(&s, 2, &second))
        return ERR_INVALID;
    if (!take_fraction(&s, &us) || !take_zone(&s, &offset_s) || s.len > 0)
        return ERR_INVALID;
    int64_t seconds;
    /* Second 60 is a leap second: Unix time counts it as the first of the next minute. */
    if (!day_start(year, month, day, &seconds) || hour > 23 || minute > 59 || second > 60)
        return ERR_INVALID;
    seconds += hour * 3600 + minute * 60 + second - offset_s;
    if (seconds < 0)
        return ERR_RANGE;
    *out_us = (uint64_t)seconds * 1000000 + (uint64_t)us;
    return OK;
}
