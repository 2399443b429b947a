/* SPDX-License-Identifier: Apache-2.0 */
/* Messages and log entries as Redis may hand them over. */
#include "common/envelope.h"
#include "common/match.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void check_event(const struct event_fields *fields)
{
    struct event *ev = event_new(fields, 0);
    struct slice frame = event_frame(ev);
    /* One blank line, at the end: nothing in the input can start a second event. */
    if (!slice_utf8_valid(frame) ||
        memmem(frame.ptr, frame.len, "\n\n", 2) != frame.ptr + frame.len - 2)
        abort();
    if (memchr(frame.ptr, '\r', frame.len) != NULL || memchr(frame.ptr, '\0', frame.len) != NULL)
        abort();
    const char *at = event_match(ev), *name, *value;
    if ((at != NULL) != fields->has_match)
        abort();
    while (at != NULL && match_next(&at, &name, &value))
        if (*name == '\0' || slice_has_control(slice_of(name)) ||
            slice_has_control(slice_of(value)))
            abort();
    event_unref(ev);
}

static void fuzz_entry(struct envelope *env, struct slice input)
{
    struct slice parts[16];
    size_t count = 0;
    /* Split at byte 1: entry id, then names and values. */
    while (count < 16) {
        const char *end = memchr(input.ptr, 1, input.len);
        parts[count++] =
            (struct slice){input.ptr, end != NULL ? (size_t)(end - input.ptr) : input.len};
        if (end == NULL)
            break;
        input = (struct slice){end + 1, input.len - (size_t)(end + 1 - input.ptr)};
    }
    struct event_fields fields;
    if (envelope_from_entry(env, parts[0], parts + 1, count - 1, SLICE_LIT("n"), SLICE_LIT("t"),
                            &fields) == OK)
        check_event(&fields);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct slice input = {(const char *)bytes, len};
    struct envelope env = {0};
    struct event_fields fields;
    if (envelope_parse(&env, input, SLICE_LIT("n"), SLICE_LIT("t"), &fields) != ERR_INVALID)
        check_event(&fields);
    if (len > 0)
        fuzz_entry(&env, input);
    envelope_reset(&env);
    return 0;
}
