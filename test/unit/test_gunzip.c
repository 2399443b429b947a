/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed bodies: decoded whole or not at all, and never beyond the bound. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/gunzip.h"
#include "common/gzip.h"
#include "common/mem.h"
#include "test/unit/rng.h"
#include "test/unit/tests_run.h"

enum { PLENTY = 1 << 20, BOMB_FRAME = 1 << 20, BOMB_FRAMES = 1024 };
enum bits { BITS_GZIP = 31, BITS_ZLIB = 15, BITS_BARE = -15 };

/* Appends @plain to @b as zlib makes it. */
static void put_packed(struct buf *b, enum bits bits, struct slice plain)
{
    z_stream z = {0};
    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t room = deflateBound(&z, plain.len);
    buf_reserve(b, room);
    z.next_in = (z_const Bytef *)(uintptr_t)plain.ptr;
    z.avail_in = (uInt)plain.len;
    z.next_out = (Bytef *)b->ptr + b->len;
    z.avail_out = (uInt)room;
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    b->len += room - z.avail_out;
    deflateEnd(&z);
}

/* Decodes, and checks that what was in the buffer stays, and is all that stays after a refusal. */
static enum err decode(struct slice packed, enum gunzip_coding coding, size_t max, struct buf *out)
{
    buf_puts(out, "before");
    enum err e = gunzip_decode(packed, coding, max, out);
    ck_assert(slice_has_prefix(buf_slice(out), SLICE_LIT("before")));
    if (e == OK)
        ck_assert_uint_le(out->len, max + 6);
    else
        ck_assert_uint_eq(out->len, 6);
    return e;
}

static void expect(struct slice packed, enum gunzip_coding coding, struct slice plain)
{
    struct buf out = {0};
    ck_assert_int_eq(decode(packed, coding, PLENTY, &out), OK);
    struct slice got = {out.ptr + 6, out.len - 6};
    ck_assert(slice_eq(got, plain));
    buf_reset(&out);
}

static void expect_refused(struct slice packed, enum gunzip_coding coding)
{
    struct buf out = {0};
    ck_assert_int_eq(decode(packed, coding, PLENTY, &out), ERR_INVALID);
    buf_reset(&out);
}

static const struct {
    enum bits bits;
    enum gunzip_coding coding;
} formats[] = {{BITS_GZIP, GUNZIP_GZIP}, {BITS_ZLIB, GUNZIP_DEFLATE}, {BITS_BARE, GUNZIP_DEFLATE}};
#define FORMATS ((int)(sizeof(formats) / sizeof(formats[0])))

/* Words or noise, so that blocks of each kind come. */
static struct slice make_plain(struct rng *rng, size_t len, bool noise)
{
    struct buf b = {0};
    size_t ignored;
    while (b.len < len)
        if (noise)
            buf_putc(&b, (char)rng_next(rng));
        else
            buf_puts(&b, rng_below(rng, 2) ? "price " : "{\"order\":");
    b.len = len;
    return (struct slice){buf_take(&b, &ignored), len};
}

START_TEST(test_bodies_of_all_sizes_are_decoded)
{
    static const size_t sizes[] = {0, 1, 5, 1000, 65535, 65536, 65537, 131072, 500000, PLENTY};
    struct rng rng = rng_seeded("test_gunzip");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (int noise = 0; noise < 2; noise++) {
            struct slice plain = make_plain(&rng, sizes[i], noise);
            struct buf packed = {0};
            put_packed(&packed, formats[_i].bits, plain);
            expect(buf_slice(&packed), formats[_i].coding, plain);
            buf_reset(&packed);
            free((void *)(uintptr_t)plain.ptr);
        }
    }
}
END_TEST

START_TEST(test_what_is_cut_off_is_refused)
{
    struct buf packed = {0};
    put_packed(&packed, formats[_i].bits, SLICE_LIT("hello, hello, hello, 123456"));
    for (size_t len = 0; len < packed.len; len++)
        expect_refused((struct slice){packed.ptr, len}, formats[_i].coding);
    buf_reset(&packed);
}
END_TEST

START_TEST(test_what_stands_behind_the_end_is_refused)
{
    static const char *const tails[] = {"x", "\n", "\x1f", "\x1f\x8b", "hello, hello, hello"};
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        struct buf packed = {0};
        put_packed(&packed, formats[_i].bits, SLICE_LIT("hello"));
        buf_puts(&packed, tails[i]);
        expect_refused(buf_slice(&packed), formats[_i].coding);
        buf_reset(&packed);
    }
    struct buf zero = {0};
    put_packed(&zero, formats[_i].bits, SLICE_LIT("hello"));
    buf_putc(&zero, '\0');
    expect_refused(buf_slice(&zero), formats[_i].coding);
    buf_reset(&zero);
}
END_TEST

/* Every byte of a gzip body counts, but for some of its header (time, system, flags of speed). */
START_TEST(test_a_damaged_body_is_refused)
{
    struct buf packed = {0};
    put_packed(&packed, BITS_GZIP, SLICE_LIT("hello, hello, hello, 123456"));
    for (size_t i = 10; i < packed.len; i++) {
        packed.ptr[i] ^= 0x10;
        expect_refused(buf_slice(&packed), GUNZIP_GZIP);
        packed.ptr[i] ^= 0x10;
    }
    buf_reset(&packed);
}
END_TEST

START_TEST(test_what_is_not_compressed_is_refused)
{
    static const char *const plains[] = {"", "hello", "{\"topic\":\"a\",\"data\":1}", "\x1f\x8b",
                                         "\x78\x9c"};
    for (size_t i = 0; i < sizeof(plains) / sizeof(plains[0]); i++) {
        expect_refused(slice_of(plains[i]), GUNZIP_GZIP);
        expect_refused(slice_of(plains[i]), GUNZIP_DEFLATE);
    }
    expect_refused(SLICE_NONE, GUNZIP_GZIP);
    expect_refused(SLICE_NONE, GUNZIP_DEFLATE);
}
END_TEST

START_TEST(test_codings_are_not_taken_for_each_other)
{
    struct buf packed[FORMATS] = {{0}};
    for (int i = 0; i < FORMATS; i++)
        put_packed(&packed[i], formats[i].bits, SLICE_LIT("hello"));
    expect_refused(buf_slice(&packed[0]), GUNZIP_DEFLATE);
    expect_refused(buf_slice(&packed[1]), GUNZIP_GZIP);
    expect_refused(buf_slice(&packed[2]), GUNZIP_GZIP);
    for (int i = 0; i < FORMATS; i++)
        buf_reset(&packed[i]);
}
END_TEST

START_TEST(test_members_of_gzip_are_joined)
{
    struct buf packed = {0};
    put_packed(&packed, BITS_GZIP, SLICE_LIT("one "));
    put_packed(&packed, BITS_GZIP, SLICE_LIT(""));
    put_packed(&packed, BITS_GZIP, SLICE_LIT("two"));
    expect(buf_slice(&packed), GUNZIP_GZIP, SLICE_LIT("one two"));
    packed.len--;
    expect_refused(buf_slice(&packed), GUNZIP_GZIP);
    buf_reset(&packed);
}
END_TEST

START_TEST(test_streams_of_zlib_are_not_joined)
{
    struct buf packed = {0};
    put_packed(&packed, BITS_ZLIB, SLICE_LIT("one "));
    put_packed(&packed, BITS_ZLIB, SLICE_LIT("two"));
    expect_refused(buf_slice(&packed), GUNZIP_DEFLATE);
    buf_reset(&packed);
}
END_TEST

/* Bare, stored: a block whose first bytes are those of the zlib format. */
START_TEST(test_bare_blocks_that_look_like_zlib_are_decoded)
{
    /* 0x78 is a block that is not the last one, stored, whose fill-up bits are not all zero; its
     * length is 0x0001, so 0x7801 would be a header of zlib. */
    static const char bare[] = "\x78\x01\x00\xfe\xff"
                               "a"
                               "\x01\x01\x00\xfe\xff"
                               "b";
    expect((struct slice){bare, sizeof(bare) - 1}, GUNZIP_DEFLATE, SLICE_LIT("ab"));
}
END_TEST

START_TEST(test_the_bound_is_exact)
{
    static const size_t sizes[] = {0, 1, 100, 65535, 65536, 65537, 200000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *zeros = mem_zero(1, sizes[i] + 1);
        struct buf packed = {0}, out = {0};
        put_packed(&packed, formats[_i].bits, (struct slice){zeros, sizes[i]});
        ck_assert_int_eq(decode(buf_slice(&packed), formats[_i].coding, sizes[i], &out), OK);
        ck_assert_uint_eq(out.len, sizes[i] + 6);
        buf_reset(&out);
        if (sizes[i]) {
            enum err e = decode(buf_slice(&packed), formats[_i].coding, sizes[i] - 1, &out);
            ck_assert_int_eq(e, ERR_FULL);
        }
        buf_reset(&out);
        buf_reset(&packed);
        free(zeros);
    }
}
END_TEST

/* 1 GB of zeros in 1 MB. */
START_TEST(test_a_bomb_is_stopped_at_the_bound)
{
    char *zeros = mem_zero(1, BOMB_FRAME);
    struct gzip *packer = gzip_new();
    struct gzip_block *block = gzip_pack(packer, (struct slice){zeros, BOMB_FRAME});
    struct gzip_sum sum;
    struct buf bomb = {0}, out = {0};
    char end[GZIP_END_BYTES];
    gzip_put_start(&bomb, &sum, SLICE_NONE);
    for (int i = 0; i < BOMB_FRAMES; i++) {
        buf_put_slice(&bomb, gzip_block_bytes(block));
        gzip_sum_add(&sum, block);
        if (i != 15)
            continue;
        size_t len = bomb.len;
        gzip_end(end, &sum); /* 16 MB of it are taken where so much is allowed */
        buf_put(&bomb, end, sizeof end);
        ck_assert_int_eq(decode(buf_slice(&bomb), GUNZIP_GZIP, 16 << 20, &out), OK);
        ck_assert_uint_eq(out.len, (16 << 20) + 6);
        buf_reset(&out);
        bomb.len = len;
    }
    gzip_end(end, &sum);
    buf_put(&bomb, end, sizeof end);
    ck_assert_uint_lt(bomb.len, 1200000);
    ck_assert_int_eq(decode(buf_slice(&bomb), GUNZIP_GZIP, 8 << 20, &out), ERR_FULL);
    ck_assert_uint_le(out.cap, (16 << 20) + 131072);
    buf_reset(&out);
    buf_reset(&bomb);
    free(block);
    gzip_free(packer);
    free(zeros);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("gunzip");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_bodies_of_all_sizes_are_decoded, 0, FORMATS);
    tcase_add_loop_test(tests, test_what_is_cut_off_is_refused, 0, FORMATS);
    tcase_add_loop_test(tests, test_what_stands_behind_the_end_is_refused, 0, FORMATS);
    tcase_add_test(tests, test_a_damaged_body_is_refused);
    tcase_add_test(tests, test_what_is_not_compressed_is_refused);
    tcase_add_test(tests, test_codings_are_not_taken_for_each_other);
    tcase_add_test(tests, test_members_of_gzip_are_joined);
    tcase_add_test(tests, test_streams_of_zlib_are_not_joined);
    tcase_add_test(tests, test_bare_blocks_that_look_like_zlib_are_decoded);
    tcase_add_loop_test(tests, test_the_bound_is_exact, 0, FORMATS);
    tcase_add_test(tests, test_a_bomb_is_stopped_at_the_bound);
    return tests_run(tests);
}
