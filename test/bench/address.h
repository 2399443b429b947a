/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of socket addresses: where streams go to, and where they come from. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct address {
    struct sockaddr_storage sa;
    socklen_t len;
};

struct address_list { /* zero-initialised is empty */
    struct address *items;
    size_t count;
};

enum { ADDRESS_MAX = 1024 }; /* of a list */

/* Adds "HOST:PORT", "[V6]:PORT", or an IPv4 range "127.0.0.1-127.0.0.4:PORT"; without a port it is
 * @port. Resolves names (blocks). False: *error says what is wrong (static text). */
bool address_list_add(struct address_list *list, const char *text, const char *port,
                      const char **error);
/* True if all of them are IPv4 loopback. */
bool address_list_is_loopback(const struct address_list *list);
void address_list_reset(struct address_list *list);
