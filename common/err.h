/* SPDX-License-Identifier: Apache-2.0 */
/* One error type for everything the world can do to us. Our own bugs are asserts, never an enum
 * err. */
#pragma once

#define NODISCARD __attribute__((warn_unused_result))

enum err {
    OK = 0,
    ERR_INVALID,   /* the bytes are not what they should be */
    ERR_RANGE,     /* well formed, but outside of what is allowed */
    ERR_NOT_FOUND, /* nothing there */
    ERR_FULL,      /* a stated bound is reached */
    ERR_CLOSED,    /* the other side is gone */
    ERR_AGAIN,     /* not now; nothing was done */
    ERR_IO,        /* the system refused; errno says why */
    ERR_DENIED,    /* the other side refused */
};

/* A short English text, never NULL. Any thread. */
const char *err_text(enum err e);
