/* SPDX-License-Identifier: Apache-2.0 */
/* What of the server's settings costs more than it has to: looked at once, told in the log. */
#pragma once
#include "relay/redis/redis_conn.h"

struct redis_settings;

/* @conn is borrowed. */
struct redis_settings *redis_settings_new(struct redis_conn *conn);
void redis_settings_free(struct redis_settings *settings); /* after the connection is closed */

/* The functions can be called: asks, unless an answer has come before, or never will, as the relay
 * may not ask. Bus thread. */
void redis_settings_look(struct redis_settings *settings);
