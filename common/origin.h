/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts as requests name them (Host, Origin): who is the same, and which are ours. Ports and names
 * are compared as browsers do. No I/O; any thread. */
#pragma once
#include <stdbool.h>

#include "common/strings.h"

/* "name", "name:port", "127.0.0.1:80", "[::1]:80": letters, digits and "-._~" in a name. Neither a
 * user nor a list; the port may be empty (RFC 3986, 3.2.3), and is at most 65535. */
bool origin_host_valid(struct slice host);

/* Whether a page of @origin ("http://a:8080") has been served by who is asked as @host ("a:8080").
 * A port that is left out is the one of the origin's scheme, http or https: whether TLS ends before
 * us we do not know. "null", lists, other schemes without a port, and an absent host: false. */
bool origin_is_same(struct slice origin, struct slice host);

/* Who may be asked for. A page that makes its own name point to this machine (DNS rebinding) is
 * asked for by that name, which is none of these. */
struct origin_hosts {
    const struct strings *allowed; /* names as in origin_pattern_valid(); NULL or empty: default */
    const struct strings *own;     /* names that we listen on; may be NULL */
    bool beyond_loopback; /* we listen for others than this machine: then the default is all */
};

/* An entry of the list: "relay.example", "*.example" for all names below it, but not itself, or "*"
 * for all. Without a port. */
bool origin_pattern_valid(struct slice pattern);
/* False: 421. Addresses and "localhost" are always allowed, as no name points there by accident;
 * also no host at all, which browsers never send. Ports do not matter. */
bool origin_host_allowed(struct slice host, const struct origin_hosts *hosts);
