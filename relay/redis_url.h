/* Where Redis is: redis://[user[:password]@]host[:port][/db], unix:///path[?db=N]. No I/O. */
#pragma once
#include "common/slice.h"

struct redis_url {
    char *host; /* or NULL with… */
    char *path; /* …the path of a Unix socket */
    unsigned port;
    char *user, *password; /* NULL: none */
    unsigned db;
};

/* ERR_INVALID: not of this form. The caller owns the contents of *out. */
NODISCARD enum err redis_url_parse(const char *text, struct redis_url *out);
void redis_url_reset(struct redis_url *url);
