/* SPDX-License-Identifier: Apache-2.0 */
/* The load generator's own account: if it is wrong, no figure and no verdict is right. */
#include <cjson/cJSON.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "rng.h"
#include "test/bench/histogram.h"
#include "test/bench/ledger.h"
#include "test/bench/payload.h"
#include "test/bench/process.h"
#include "test/bench/sse_reader.h"
#include "test/bench/tag.h"
#include "test/bench/topics.h"
#include "test/unit/tests_run.h"

/* --- histogram --- */

static struct histogram histogram;

START_TEST(test_percentiles_are_exact_for_small_values)
{
    histogram_reset(&histogram);
    for (uint64_t i = 1; i <= 100; i++)
        histogram_add(&histogram, i);
    ck_assert_uint_eq(histogram_at(&histogram, 0), 1);
    ck_assert_uint_eq(histogram_at(&histogram, .5), 50);
    ck_assert_uint_eq(histogram_at(&histogram, .99), 99);
    ck_assert_uint_eq(histogram_at(&histogram, 1), 100);
    ck_assert_uint_eq(histogram.min_ns, 1);
    ck_assert_double_eq_tol(histogram_mean(&histogram), 50.5, 1e-9);
}
END_TEST

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

START_TEST(test_percentiles_are_at_most_one_percent_too_high_and_never_too_low)
{
    enum { N = 20000 };
    static uint64_t values[N];
    static const double fractions[] = {.001, .1, .5, .9, .99, .999, 1};
    struct rng rng = rng_seeded("histogram");
    histogram_reset(&histogram);
    for (size_t i = 0; i < N; i++) {
        values[i] = rng_next(&rng) >> (24 + rng_below(&rng, 40)); /* all magnitudes up to 2^40 */
        histogram_add(&histogram, values[i]);
    }
    qsort(values, N, sizeof values[0], compare);
    for (size_t i = 0; i < sizeof fractions / sizeof fractions[0]; i++) {
        double rank = fractions[i] * N;
        uint64_t exact = values[(size_t)(rank + .999999) - 1];
        uint64_t got = histogram_at(&histogram, fractions[i]);
        ck_assert_uint_ge(got, exact);
        ck_assert_double_le((double)got, (double)exact * 1.01);
    }
    ck_assert_uint_eq(histogram_at(&histogram, 1), values[N - 1]);
}
END_TEST

START_TEST(test_a_histogram_takes_any_value_and_none)
{
    histogram_reset(&histogram);
    ck_assert_uint_eq(histogram_at(&histogram, .5), 0);
    histogram_add(&histogram, UINT64_MAX);
    ck_assert_uint_eq(histogram_at(&histogram, .5), UINT64_MAX);
    histogram_add(&histogram, 0);
    ck_assert_uint_eq(histogram_at(&histogram, .5), 0);
}
END_TEST

/* --- tag --- */

START_TEST(test_a_tag_is_read_as_it_was_written)
{
    struct tag in = {UINT32_MAX, UINT32_MAX, 1 << 24, UINT32_MAX, UINT64_C(1) << 62}, out;
    char data[200 + TAG_MAX];
    for (size_t size = 0; size <= 200; size += 20) {
        size_t len = tag_write(&in, data, size);
        ck_assert_uint_ge(len, size);
        ck_assert_uint_le(len, size < TAG_MAX ? TAG_MAX : size);
        ck_assert(tag_read(data, len, &out));
        ck_assert_uint_eq(out.run, in.run);
        ck_assert_uint_eq(out.g, in.g);
        ck_assert_uint_eq(out.topic, in.topic);
        ck_assert_uint_eq(out.s, in.s);
        ck_assert_uint_eq(out.at_ns, in.at_ns);
        for (size_t cut = 0; cut < 40; cut++)
            ck_assert(!tag_read(data, cut, &out));
    }
}
END_TEST

START_TEST(test_a_tag_is_found_within_what_a_server_made_of_it)
{
    static const char wrapped[] = "{\"data\":\"sb1 7 8 9 10 11 abc\"}", alien[] = "sb1 7 8 x";
    struct tag out;
    ck_assert(tag_read(wrapped, sizeof wrapped - 1, &out));
    ck_assert_uint_eq(out.at_ns, 11);
    ck_assert(!tag_read(alien, sizeof alien - 1, &out));
}
END_TEST

/* --- payload --- */

START_TEST(test_json_is_valid_as_long_as_asked_and_each_time_different)
{
    struct tag tag = {UINT32_MAX, 0, 7, 1, UINT64_C(1) << 62}, found;
    struct buf out = {0}, other = {0};
    for (size_t size = 0; size < 3000; size = size < 400 ? size + 1 : size + 97) {
        tag.g++;
        buf_clear(&out);
        payload_write(&out, PAYLOAD_JSON, &tag, size);
        ck_assert(size < 250 ? out.len >= size && out.len <= 250 : out.len == size);
        ck_assert(tag_read(out.ptr, out.len, &found));
        ck_assert_uint_eq(found.g, tag.g);
        ck_assert_ptr_null(memchr(out.ptr, '\n', out.len));
        const char *end = NULL;
        cJSON *json = cJSON_ParseWithLengthOpts(out.ptr, out.len, &end, false);
        ck_assert_ptr_nonnull(json);
        ck_assert_ptr_eq(end, out.ptr + out.len);
        cJSON_Delete(json);
    }
    struct tag next = tag;
    next.g++;
    for (int i = 0; i < 2; i++) {
        buf_clear(&out);
        buf_clear(&other);
        payload_write(&out, PAYLOAD_JSON, &tag, 1024);
        payload_write(&other, PAYLOAD_JSON, i ? &next : &tag, 1024);
        ck_assert_int_eq(memcmp(out.ptr + 200, other.ptr + 200, 800) == 0, i == 0);
    }
    buf_reset(&out);
    buf_reset(&other);
}
END_TEST

/* --- SSE reader --- */

struct seen {
    size_t count, bytes; /* of the event stream */
    struct sse_event events[8];
};

static void note(void *arg, const struct sse_event *ev)
{
    struct seen *seen = arg;
    ck_assert_uint_lt(seen->count, 8);
    seen->events[seen->count++] = *ev;
}

/* Feeds the answer in two pieces (or more: byte by byte when @cut is 0). */
static enum sse_phase feed_bytes(const char *answer, size_t len, size_t cut, struct seen *seen)
{
    struct sse_reader reader = {0};
    char scratch[4096];
    size_t at = 0;
    memset(seen, 0, sizeof *seen);
    while (at < len) {
        size_t part = cut == 0 ? 1 : at == 0 && cut < len ? cut : len - at;
        size_t kept = sse_reader_resume(&reader, scratch);
        memcpy(scratch + kept, answer + at, part);
        seen->bytes += sse_reader_take(&reader, scratch, kept, kept + part, note, seen);
        at += part;
    }
    enum sse_phase phase = reader.phase;
    ck_assert_int_eq(reader.error != NULL, phase == SSE_BROKEN);
    sse_reader_reset(&reader);
    return phase;
}

static enum sse_phase feed(const char *answer, size_t cut, struct seen *seen)
{
    return feed_bytes(answer, strlen(answer), cut, seen);
}

static void check_seen(const struct seen *seen)
{
    ck_assert_uint_eq(seen->count, 3);
    ck_assert_int_eq(seen->events[0].kind, SSE_CONNECTED);
    ck_assert_uint_eq(seen->events[0].id, 41);
    ck_assert_int_eq(seen->events[1].kind, SSE_EVENT);
    ck_assert_uint_eq(seen->events[1].id, 42);
    ck_assert(seen->events[1].has_tag);
    ck_assert_uint_eq(seen->events[1].tag.g, 2);
    ck_assert_uint_eq(seen->events[1].data_len, 17);
    ck_assert_int_eq(seen->events[2].kind, SSE_GAP);
    ck_assert(!seen->events[2].has_tag);
}

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
#define GZIP "Content-Encoding: gzip\r\n\r\n"

START_TEST(test_what_is_told_and_numbers_are_read)
{
    static const char answer[] =
        HEAD "\r\nid: 7\nevent: relay.dropped\ndata: {\"count\":12}\n\n"
             "event: relay.gap\ndata: {\"from\":\"34\",\"to\":\"56\",\"reason\":\"trimmed\"}\n\n"
             "id: 8\ndata: 17,18,19,\n\n"
             "id: 9\ndata: 20,20,\n\n"
             "data: {\"topic\":\"t\"}\n\n";
    struct seen seen;
    for (size_t cut = 0; cut < sizeof answer - 1; cut++) {
        feed(answer, cut, &seen);
        ck_assert_uint_eq(seen.count, 5);
        ck_assert_uint_eq(seen.events[0].count, 12);
        ck_assert_uint_eq(seen.events[1].from, 34);
        ck_assert_uint_eq(seen.events[2].numbers, 3);
        ck_assert_uint_eq(seen.events[2].first_number, 17);
        ck_assert_uint_eq(seen.events[2].last_number, 19);
        ck_assert_uint_eq(seen.events[3].numbers, 1);
        ck_assert_uint_eq(seen.events[4].numbers, 0);
    }
}
END_TEST

START_TEST(test_events_are_the_same_wherever_reads_are_cut)
{
    static const char plain[] =
        HEAD "\r\n:ok\nretry: 3000\nid: 41\nevent: relay.connected\ndata: {}\n\n"
             ":\nid: 42\ndata: sb1 1 2 3 4 5 xyz\n\nevent: t\n\n"
             "event:a.gap\r\ndata:x\r\n\r\n";
    static const char chunked[] =
        HEAD "Transfer-Encoding: chunked\r\n\r\n"
             "32\r\n:ok\nretry: 3000\nid: 41\nevent: relay.connected\ndata\r\n"
             "1;x=y\r\n:\r\n"
             "3E\r\n {}\n\n:\nid: 42\ndata: sb1 1 2 3 4 5 xyz\n\nevent:a.gap\r\ndata:x\r\n\r\n\r\n"
             "0\r\n\r\n";
    struct seen seen;
    for (size_t cut = 0; cut < sizeof plain; cut++) {
        ck_assert_int_eq(feed(plain, cut, &seen), SSE_BODY);
        ck_assert_uint_eq(seen.bytes, strlen(plain) - strlen(HEAD "\r\n"));
        check_seen(&seen);
    }
    for (size_t cut = 0; cut < sizeof chunked; cut++) {
        ck_assert_int_eq(feed(chunked, cut, &seen), SSE_BODY);
        check_seen(&seen);
    }
}
END_TEST

/* A head, then two gzip members, with a full flush somewhere within the first. */
static size_t zip_answer(char *out, size_t size, const char *body, size_t body_len)
{
    size_t first = body_len / 2, at = strlen(HEAD GZIP);
    memcpy(out, HEAD GZIP, at);
    for (int member = 0; member < 2; member++) {
        z_stream z = {0};
        ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
        z.next_in = (Bytef *)(uintptr_t)(body + (member ? first : 0));
        z.avail_in = (uInt)(first / 2);
        z.next_out = (Bytef *)out + at;
        z.avail_out = (uInt)(size - at);
        ck_assert_int_eq(deflate(&z, Z_FULL_FLUSH), Z_OK);
        z.avail_in = (uInt)((member ? body_len - first : first) - first / 2);
        ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
        at += z.total_out;
        deflateEnd(&z);
    }
    return at;
}

START_TEST(test_a_compressed_stream_is_the_same_wherever_reads_are_cut)
{
    static const char body[] = ":ok\nretry: 3000\nid: 41\nevent: relay.connected\ndata: {}\n\n"
                               ":\nid: 42\ndata: sb1 1 2 3 4 5 xyz\n\nevent: t\n\n"
                               "event:a.gap\r\ndata:x\r\n\r\n";
    char answer[1024];
    struct seen seen;
    size_t len = zip_answer(answer, sizeof answer, body, strlen(body));
    for (size_t cut = 0; cut <= len; cut++) {
        ck_assert_int_eq(feed_bytes(answer, len, cut, &seen), SSE_BODY);
        ck_assert_uint_eq(seen.bytes, strlen(body));
        check_seen(&seen);
    }
}
END_TEST

START_TEST(test_a_compressed_stream_may_inflate_to_much_more_than_is_read_at_once)
{
    enum { BLOCKS = 7, LINE = 100000 };
    static char body[BLOCKS * (LINE + 8)];
    char answer[4096];
    struct seen seen;
    size_t body_len = 0;
    for (int i = 0; i < BLOCKS; i++) {
        body_len += (size_t)sprintf(body + body_len, "data:");
        memset(body + body_len, 'x', LINE);
        body_len += LINE;
        body_len += (size_t)sprintf(body + body_len, "\n\n");
    }
    size_t len = zip_answer(answer, sizeof answer, body, body_len);
    ck_assert_int_eq(feed_bytes(answer, len, len, &seen), SSE_BODY);
    ck_assert_uint_eq(seen.bytes, body_len);
    ck_assert_uint_eq(seen.count, BLOCKS);
    for (int i = 0; i < BLOCKS; i++)
        ck_assert_uint_eq(seen.events[i].data_len, LINE);
}
END_TEST

START_TEST(test_a_corrupted_compressed_stream_is_broken)
{
    static const char body[] = "data: one\n\ndata: two two two two two two\n\ndata: three\n\n";
    char answer[1024];
    struct seen seen;
    size_t len = zip_answer(answer, sizeof answer, body, strlen(body));
    answer[len - 6] ^= 1; /* the check sum at the end of the second member */
    ck_assert_int_eq(feed_bytes(answer, len, 0, &seen), SSE_BROKEN);
    ck_assert_uint_eq(seen.count, 3);
    answer[strlen(HEAD GZIP)] ^= 1; /* the first member's first byte */
    ck_assert_int_eq(feed_bytes(answer, len, 0, &seen), SSE_BROKEN);
    ck_assert_uint_eq(seen.count, 0);
    ck_assert_int_eq(feed(HEAD "Content-Encoding: br\r\n\r\ndata: x\n\n", 0, &seen), SSE_BROKEN);
    ck_assert_int_eq(feed(HEAD "Content-Encoding: identity\r\n\r\ndata: x\n\n", 0, &seen),
                     SSE_BODY);
    ck_assert_uint_eq(seen.count, 1);
}
END_TEST

START_TEST(test_what_is_no_stream_is_told_apart)
{
    struct seen seen;
    ck_assert_int_eq(feed("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\ndata: x\n\n", 5, &seen),
                     SSE_REFUSED);
    ck_assert_int_eq(feed("SSH-2.0-OpenSSH_9.2p1 of some length\r\n\r\n", 9, &seen), SSE_BROKEN);
    ck_assert_uint_eq(seen.count, 0);
}
END_TEST

/* --- topics --- */

static const char *text_of(struct buf *buf)
{
    buf_putc(buf, '\0');
    buf->len = 0;
    return buf->ptr;
}

START_TEST(test_targets_repeat_what_names_the_topic)
{
    struct topics t = {"b.%g.%d", 40, 10, 3, 1};
    struct buf out = {0};
    topics_put_target(&t, "/events?a=1&topic=%t&c=%i%%", 2, &out);
    /* The third client: the third group, and topics 4 and 5. */
    ck_assert_str_eq(text_of(&out), "/events?a=1&topic=b.2.%2A&topic=b.0.4&topic=b.0.5&c=2%");
    topics_put_target(&t, "/all", 7, &out);
    ck_assert_str_eq(text_of(&out), "/all");
    buf_reset(&out);
}
END_TEST

START_TEST(test_a_clients_topics_are_sorted_and_unique)
{
    struct topics t = {"b.%g.%d", 25, 10, 3, 1};
    uint32_t set[16];
    ck_assert_uint_eq(topics_set_max(&t), 12);
    ck_assert_uint_eq(topics_set(&t, 0, set), 10); /* topics 0 and 1 are in group 0 */
    ck_assert_uint_eq(topics_set(&t, 2, set), 7);  /* the last group has five, and 4 and 5 */
    static const uint32_t expected[] = {4, 5, 20, 21, 22, 23, 24};
    ck_assert_mem_eq(set, expected, sizeof expected);
}
END_TEST

/* --- ledger --- */

START_TEST(test_an_event_is_complete_when_answered_and_received_by_all)
{
    struct ledger l;
    ledger_init(&l, 1, 2);
    ck_assert_uint_eq(ledger_add(&l, 0, 2, 5, LEDGER_MEASURED), 1);
    ledger_receive(&l, 1);
    ledger_ack(&l, 1, true, 99);
    ck_assert_uint_eq(l.open, 1);
    ck_assert_uint_eq(ledger_first_open(&l), 1);
    ledger_receive(&l, 1);
    ck_assert_uint_eq(l.open, 0);
    ck_assert_uint_eq(ledger_first_open(&l), 2);
    ledger_receive(&l, 1); /* one too many changes nothing here */
    ck_assert_uint_eq(l.open, 0);
    ck_assert_uint_eq(ledger_add(&l, 1, 3, 6, 0), 2);
    ledger_ack(&l, 2, false, 0);
    ck_assert_uint_eq(l.open, 0);
    ck_assert_uint_eq(l.failed, 1);
    ck_assert_uint_eq(l.complete_measured, 1);
    ck_assert_ptr_null(ledger_get(&l, 3));
    ledger_reset(&l);
}
END_TEST

START_TEST(test_sums_tell_what_a_client_should_have)
{
    enum { TOPICS = 5, EVENTS = 200 };
    static const uint32_t asked[] = {1, 3};
    struct rng rng = rng_seeded("ledger");
    struct ledger l;
    ledger_init(&l, 1, TOPICS);
    struct ledger_sum all = {0}, late = {0};
    for (uint64_t g = 1; g <= EVENTS; g++) {
        uint32_t topic = (uint32_t)rng_below(&rng, TOPICS);
        ck_assert_uint_eq(ledger_add(&l, topic, 0, 0, 0), g);
        ledger_ack(&l, g, g % 7 != 0, g);
        if (g % 7 == 0 || (topic != 1 && topic != 3))
            continue;
        all.count++;
        all.hash += tag_hash(g);
        late.count += g > 100;
        late.hash += g > 100 ? tag_hash(g) : 0;
    }
    struct ledger_index *index = ledger_index_new(&l, TOPICS);
    struct ledger_sum sum = ledger_index_sum(index, asked, 2, 0, EVENTS);
    ck_assert_uint_eq(sum.count, all.count);
    ck_assert_uint_eq(sum.hash, all.hash);
    sum = ledger_index_sum(index, asked, 2, 100, EVENTS);
    ck_assert_uint_eq(sum.count, late.count);
    ck_assert_uint_eq(sum.hash, late.hash);
    ledger_index_free(index);
    ledger_reset(&l);
}
END_TEST

/* --- CPU time --- */

START_TEST(test_cpu_time_of_threads_that_ended_is_not_lost)
{
    struct cpu_time from = {1, .8, .2};
    struct cpu_time to = {2.005, 1.6, .4}; /* the same threads live */
    struct cpu_time cpu = cpu_between(from, to);
    ck_assert_double_eq_tol(cpu.user_s + cpu.system_s, 1.005, 1e-9);
    ck_assert_double_eq_tol(cpu.system_s, .201, 1e-9);
    to.exact_s = 1.5; /* one has ended */
    cpu = cpu_between(from, to);
    ck_assert_double_eq_tol(cpu.user_s, .8, 1e-9);
    ck_assert_double_eq_tol(cpu.system_s, .2, 1e-9);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("bench");
    tcase_add_test(tc, test_percentiles_are_exact_for_small_values);
    tcase_add_test(tc, test_percentiles_are_at_most_one_percent_too_high_and_never_too_low);
    tcase_add_test(tc, test_a_histogram_takes_any_value_and_none);
    tcase_add_test(tc, test_a_tag_is_read_as_it_was_written);
    tcase_add_test(tc, test_a_tag_is_found_within_what_a_server_made_of_it);
    tcase_add_test(tc, test_json_is_valid_as_long_as_asked_and_each_time_different);
    tcase_add_test(tc, test_what_is_told_and_numbers_are_read);
    tcase_add_test(tc, test_events_are_the_same_wherever_reads_are_cut);
    tcase_add_test(tc, test_a_compressed_stream_is_the_same_wherever_reads_are_cut);
    tcase_add_test(tc, test_a_compressed_stream_may_inflate_to_much_more_than_is_read_at_once);
    tcase_add_test(tc, test_a_corrupted_compressed_stream_is_broken);
    tcase_add_test(tc, test_what_is_no_stream_is_told_apart);
    tcase_add_test(tc, test_targets_repeat_what_names_the_topic);
    tcase_add_test(tc, test_a_clients_topics_are_sorted_and_unique);
    tcase_add_test(tc, test_an_event_is_complete_when_answered_and_received_by_all);
    tcase_add_test(tc, test_sums_tell_what_a_client_should_have);
    tcase_add_test(tc, test_cpu_time_of_threads_that_ended_is_not_lost);
    return tests_run(tc);
}
