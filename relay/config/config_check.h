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
const char *config_check_printable(const char *item); /* may hold spaces */
const char *config_check_word(const char *item);      /* printable ASCII without spaces */
