/* SPDX-License-Identifier: Apache-2.0 */
/* Variables that Kubernetes and Docker set for a Service or a container that is called as we are
 * are passed over; misspelt options are not. */
#include <check.h>
#include <stdint.h>
#include <string.h>

#include "relay/config/config_links.h"
#include "test/unit/tests_run.h"

enum { VARIABLES_MAX = 32 };

/* What is set in a pod or container; NULL ends it. */
static bool passes(const char *const *list, const char *variable)
{
    char *all[VARIABLES_MAX] = {0};
    for (size_t i = 0; list[i]; i++)
        all[i] = (char *)(uintptr_t)list[i];
    struct slice value = slice_of(variable), name = slice_cut(&value, '=');
    return config_links_has(name, strlen("SSE_RELAY_"), value, all);
}

static void expect_all(const char *const *list)
{
    for (size_t i = 0; list[i]; i++)
        ck_assert_msg(passes(list, list[i]), "%s was refused", list[i]);
}

START_TEST(test_kubernetes_services)
{
    static const char *const named_as_we_are[] = {"SSE_RELAY_SERVICE_HOST=10.96.0.11",
                                                  "SSE_RELAY_SERVICE_PORT=8080",
                                                  "SSE_RELAY_SERVICE_PORT_HTTP=8080",
                                                  "SSE_RELAY_SERVICE_PORT_HTTP_ALT=8081",
                                                  "SSE_RELAY_PORT=tcp://10.96.0.11:8080",
                                                  "SSE_RELAY_PORT_8080_TCP=tcp://10.96.0.11:8080",
                                                  "SSE_RELAY_PORT_8080_TCP_PROTO=tcp",
                                                  "SSE_RELAY_PORT_8080_TCP_PORT=8080",
                                                  "SSE_RELAY_PORT_8080_TCP_ADDR=10.96.0.11",
                                                  "SSE_RELAY_PORT_53_UDP=udp://10.96.0.11:53",
                                                  "SSE_RELAY_PORT_53_UDP_PROTO=udp",
                                                  "SSE_RELAY_PORT_5000_SCTP=sctp://10.96.0.11:5000",
                                                  NULL};
    static const char *const named_after_us[] = {
        "SSE_RELAY_FOO_SERVICE_HOST=fd00::1",
        "SSE_RELAY_FOO_SERVICE_PORT=6379",
        "SSE_RELAY_FOO_SERVICE_PORT_A=6379",
        "SSE_RELAY_FOO_PORT=tcp://[fd00::1]:6379",
        "SSE_RELAY_REDIS_PORT_6379_TCP=tcp://[fd00::1]:6379",
        "SSE_RELAY_REDIS_PORT_6379_TCP_ADDR=fd00::1",
        "SSE_RELAY_REDIS_PORT_6379_TCP_PORT=6379",
        "SSE_RELAY_REDIS_PORT_6379_TCP_PROTO=tcp",
        "SSE_RELAY_A_B_C_SERVICE_HOST=10.0.0.1",
        NULL};
    expect_all(named_as_we_are);
    expect_all(named_after_us);
}
END_TEST

START_TEST(test_docker_links)
{
    static const char *const link[] = {"SSE_RELAY_NAME=/web/sse-relay",
                                       "SSE_RELAY_PORT=tcp://172.17.0.5:8080",
                                       "SSE_RELAY_PORT_8080_TCP=tcp://172.17.0.5:8080",
                                       "SSE_RELAY_PORT_8080_TCP_ADDR=172.17.0.5",
                                       "SSE_RELAY_ENV_PATH=/usr/bin:/bin",
                                       "SSE_RELAY_ENV_SSE_RELAY_HEARTBEAT=1s",
                                       "SSE_RELAY_DB_NAME=/web/db",
                                       "SSE_RELAY_DB_ENV_EMPTY=",
                                       NULL};
    static const char *const without_name[] = {"SSE_RELAY_DB_NAME=/web/db", NULL};
    static const char *const name_of_no_link[] = {"SSE_RELAY_NAME=relay-1", NULL};
    expect_all(link);
    ck_assert(!passes(without_name, "SSE_RELAY_ENV_PATH=/bin"));
    ck_assert(!passes(name_of_no_link, "SSE_RELAY_ENV_PATH=/bin"));
    ck_assert(!passes(name_of_no_link, "SSE_RELAY_NAME=relay-1"));
}
END_TEST

START_TEST(test_what_only_looks_like_it_is_refused)
{
    static const char *const nothing[] = {NULL};
    static const char *const wrong[] = {
        "SSE_RELAY_PORT=8080",
        "SSE_RELAY_PORT=",
        "SSE_RELAY_PORT=http://10.0.0.1:8080",
        "SSE_RELAY_REDIS_PORT=6379",
        "SSE_RELAY_PORTS=tcp://10.96.0.11:8080",
        "SSE_RELAY_SUPPORT=tcp://10.96.0.11:8080",
        "SSE_RELAY_SERVICE_HOST=localhost:80",
        "SSE_RELAY_SERVICE_HOST=",
        "SSE_RELAY_SERVICE_PORT=http",
        "SSE_RELAY_SERVICE_PORT_HTTP=off",
        "SSE_RELAY_SERVICE=10.96.0.11",
        "SSE_RELAY_MYSERVICE_PORT_X=8080",
        "SSE_RELAY_PORT_8080=tcp://10.96.0.11:8080",
        "SSE_RELAY_PORT_X_TCP=tcp://10.96.0.11:8080",
        "SSE_RELAY_PORT_8080_FTP=tcp://10.96.0.11:8080",
        "SSE_RELAY_PORT_8080_TCP=8080",
        "SSE_RELAY_PORT_8080_TCP_PROTO=8080",
        "SSE_RELAY_PORT_8080_TCP_PORT=tcp",
        "SSE_RELAY_PORT_8080_TCP_ADDR=relay",
        "SSE_RELAY_PORT_8080_TCP_HOST=10.96.0.11",
        "SSE_RELAY_8080_TCP_ADDR=10.96.0.11",
        "SSE_RELAY_HEARTBEET=15s",
        "SSE_RELAY_LISTEN_PORT=8080",
        "SSE_RELAY_=",
        "SSE_RELAY__=",
        "SSE_RELAY_NAME=/x",
        "SSE_RELAY_NAME=/a/",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_msg(!passes(nothing, wrong[i]), "%s was passed over", wrong[i]);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("config_links");
    tcase_add_test(cases, test_kubernetes_services);
    tcase_add_test(cases, test_docker_links);
    tcase_add_test(cases, test_what_only_looks_like_it_is_refused);
    return tests_run(cases);
}
