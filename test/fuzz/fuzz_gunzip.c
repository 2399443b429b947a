/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed bodies. The first byte picks the coding and the bound. Checked: no crash, never more
 * than the bound, nothing left behind by a refusal, and a bound that is as large as the result is
 * large enough. */
#include <stdlib.h>

#include "common/gunzip.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len < 1)
        return 0;
    struct slice packed = {(const char *)bytes + 1, len - 1};
    enum gunzip_coding coding = bytes[0] & 1 ? GUNZIP_GZIP : GUNZIP_DEFLATE;
    size_t max = (size_t)(bytes[0] >> 1) * 1024;
    struct buf out = {0}, again = {0};
    enum err e = gunzip_decode(packed, coding, max, &out);
    CHECK(e == OK || e == ERR_FULL || e == ERR_INVALID);
    CHECK(e == OK ? out.len <= max : out.len == 0);
    if (e == OK) {
        CHECK(gunzip_decode(packed, coding, out.len, &again) == OK && again.len == out.len);
        buf_reset(&again);
        if (out.len)
            CHECK(gunzip_decode(packed, coding, out.len - 1, &again) != OK);
    }
    buf_reset(&again);
    buf_reset(&out);
    return 0;
}
