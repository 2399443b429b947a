/* SPDX-License-Identifier: Apache-2.0 */
/* Raw paths on routes: whatever is captured is one token, and so no topic has another shape than
 * the route says. */
#include "common/names.h"
#include "relay/auth/route_map.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static const char routes[] =
    "[{\"path\":\"/projects/{id}/events\",\"topics\":[\"project.{id}\"]},"
    "{\"path\":\"/{table}/_events\",\"topics\":[\"entity.{table}.*\"],\"require\":"
    "{\"/tables\":\"{table}\"}},"
    "{\"path\":\"/a/{x}/{y}/{z}\",\"topics\":[\"{x}.{z}\",\"y.{y}.>\"]},"
    "{\"path\":\"/caf%C3%A9/~a\",\"topics\":[\"c\"]}]";

static struct route_map *make_map(void)
{
    struct route_map *map = NULL;
    struct buf why = {0};
    cJSON *tree = NULL;
    if (json_parse(slice_of(routes), &tree) != OK || route_map_new(tree, &map, &why, NULL) != OK)
        abort();
    cJSON_Delete(tree);
    return map;
}

static size_t count_of(const char *text, char c)
{
    size_t count = 0;
    for (; *text; text++)
        count += *text == c;
    return count;
}

static void check_hit(const struct route_hit *hit)
{
    size_t dots = 0;
    for (size_t i = 0; i < hit->captures.count; i++)
        if (!name_topic_valid(slice_of(hit->captures.items[i])) ||
            strpbrk(hit->captures.items[i], "./*>"))
            abort();
    for (size_t i = 0; i < hit->topics.count; i++) {
        if (!name_pattern_valid(slice_of(hit->topics.items[i])))
            abort();
        dots += count_of(hit->topics.items[i], '.');
    }
    /* By captures: none c; one project.x or entity.x.*; three x.z and y.y.> */
    static const size_t most[] = {0, 2, 0, 3};
    if (hit->captures.count > 3 || dots > most[hit->captures.count] || hit->topics.count == 0)
        abort();
    if (route_hit_allows(hit, NULL) ==
        (strncmp(hit->topics.items[0], "entity.", 7) == 0 && hit->captures.count == 1))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static struct route_map *map;
    struct route_hit hit = {0};
    struct buf why = {0};
    if (!map)
        map = make_map();
    switch (route_map_find(map, (struct slice){(const char *)bytes, len}, &hit, &why)) {
    case ROUTE_FOUND:
        check_hit(&hit);
        break;
    case ROUTE_INVALID:
        if (why.len == 0 || hit.topics.count)
            abort();
        break;
    case ROUTE_NONE:
        if (why.len || hit.topics.count)
            abort();
        break;
    }
    route_hit_reset(&hit);
    buf_reset(&why);
    return 0;
}
