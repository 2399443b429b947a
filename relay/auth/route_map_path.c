/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/route_map_parts.h"

#include <string.h>

#include "common/url.h"

static bool is_unreserved(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-._~", c));
}

bool route_map_put_segment(struct buf *b, struct slice segment)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < segment.len; i++) {
        char room[3];
        bool encoded = segment.ptr[i] == '%';
        size_t len = encoded ? (segment.len - i < 3 ? segment.len - i : 3) : 1;
        struct slice one;
        if (url_decode((struct slice){segment.ptr + i, len}, URL_PLUS_IS_PLUS, room, &one))
            return false;
        unsigned char c = (unsigned char)one.ptr[0];
        i += len - 1;
        if (is_unreserved(c) || (!encoded && c < 0x80)) {
            buf_putc(b, (char)c);
            continue;
        }
        buf_putc(b, '%');
        buf_putc(b, hex[c >> 4]);
        buf_putc(b, hex[c & 15]);
    }
    return true;
}
