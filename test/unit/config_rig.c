/* SPDX-License-Identifier: Apache-2.0 */
#include "test/unit/config_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGS_MAX 64

char file_path[64];

void file_write(const char *text)
{
    strcpy(file_path, "/tmp/sse-relay-test-XXXXXX");
    int fd = mkstemp(file_path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

enum err load(const char *words, const char *environment, struct config **c,
              enum config_action *action, char **err_msg)
{
    char *argv[ARGS_MAX] = {(char *)(uintptr_t)"sse-relay"}, *envp[ARGS_MAX] = {0};
    int argc = 1, envc = 0;
    char *args = strdup(words), *vars = strdup(environment), *save = NULL;
    for (char *w = strtok_r(args, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[argc++] = strcmp(w, "@") == 0 ? file_path : w;
    for (char *w = strtok_r(vars, " ", &save); w; w = strtok_r(NULL, " ", &save))
        envp[envc++] = w;
    enum err e = config_load(argc, argv, envp, c, action, err_msg);
    free(args);
    free(vars);
    return e;
}

struct config *load_ok(const char *words, const char *environment)
{
    struct config *c = NULL;
    enum config_action action;
    char *msg = NULL;
    enum err e = load(words, environment, &c, &action, &msg);
    ck_assert_msg(e == OK, "%s | %s: %s", words, environment, msg ? msg : "");
    return c;
}

struct config *load_file(const char *text)
{
    file_write(text);
    struct config *c = load_ok("--config @", "");
    unlink(file_path);
    return c;
}

void expect_parts(const char *msg, const char *parts)
{
    char *copy = strdup(parts), *save = NULL;
    for (char *p = strtok_r(copy, "|", &save); p; p = strtok_r(NULL, "|", &save))
        ck_assert_msg(strstr(msg, p) != NULL, "\"%s\" misses \"%s\"", msg, p);
    free(copy);
}

void expect_error(const char *words, const char *environment, const char *parts)
{
    struct config *c = NULL;
    enum config_action action;
    char *msg = NULL;
    enum err e = load(words, environment, &c, &action, &msg);
    ck_assert_msg(e != OK, "%s | %s: was accepted", words, environment);
    ck_assert_ptr_nonnull(msg);
    ck_assert_ptr_null(c);
    expect_parts(msg, parts);
    free(msg);
}

void expect_file_error(const char *text, const char *parts)
{
    file_write(text);
    expect_error("--config @", "", parts);
    unlink(file_path);
}
