/* SPDX-License-Identifier: Apache-2.0 */
#include "common/err.h"

const char *err_text(enum err e)
{
    switch (e) {
    case OK:
        return "ok";
    case ERR_INVALID:
        return "malformed";
    case ERR_RANGE:
        return "out of range";
    case ERR_NOT_FOUND:
        return "not found";
    case ERR_FULL:
        return "full";
    case ERR_CLOSED:
        return "closed";
    case ERR_AGAIN:
        return "try again";
    case ERR_IO:
        return "system error";
    case ERR_DENIED:
        return "denied";
    }
    return "unknown error";
}
