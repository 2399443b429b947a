/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the configuration share. */
#pragma once
#include <check.h>

#include "relay/config/config.h"

extern char file_path[64]; /* of the file that file_write() has made last */
void file_write(const char *text);
/* @words: arguments separated by blanks; @environment likewise. "@" in an argument stands for the
 * path of the file. */
enum err load(const char *words, const char *environment, struct config **c,
              enum config_action *action, char **err_msg);
struct config *load_ok(const char *words, const char *environment);
struct config *load_file(const char *text);
/* Each of @parts (separated by |) must stand in the message. */
void expect_parts(const char *msg, const char *parts);
void expect_error(const char *words, const char *environment, const char *parts);
void expect_file_error(const char *text, const char *parts);
