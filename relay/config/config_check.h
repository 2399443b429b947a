/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of single texts, for the `check` column of the table. NULL: @item is fine; else the reason
 * in words ("expected …"). */
#pragma once

const char *config_check_listen(const char *item);
const char *config_check_redis(const char *item);
const char *config_check_secret(const char *item); /* what a line may hold */
const char *config_check_prefix(const char *item);
const char *config_check_origin(const char *item);
const char *config_check_header(const char *item); /* a field's name */
const char *config_check_host(const char *item);
const char *config_check_namespace(const char *item);
const char *config_check_pattern(const char *item);
const char *config_check_type(const char *item); /* of events, to be counted */
const char *config_check_lane(const char *item); /* pattern=priority */
/* The words of enum slow_policy, in its order; NULL-terminated. */
extern const char *const config_check_slow_words[];
const char *config_check_slow(const char *item);
const char *config_check_printable(const char *item); /* may hold spaces */
const char *config_check_word(const char *item);      /* printable ASCII without spaces */
#define CONFIG_ALGS                                                                                \
    "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA"
const char *config_check_alg(const char *item);    /* RFC 7518, 3.1; RFC 8037 */
const char *config_check_cookie(const char *item); /* its name: a token, RFC 6265, 4.1.1 */
