/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with a request, in words, and as RFC 9457 has it. */
#include <stdarg.h>
#include <stdio.h>

#include "relay/http/request_parts.h"

#define SHOWN_MAX 80

enum err request_refuse(struct problem *problem, unsigned status, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    problem->status = status;
    buf_clear(&problem->detail);
    buf_puts(&problem->detail, text);
    return ERR_INVALID;
}

void request_show(struct problem *problem, struct slice text)
{
    struct slice shown = {text.ptr ? text.ptr : "", text.len < SHOWN_MAX ? text.len : SHOWN_MAX};
    json_put_string(&problem->detail, shown);
    if (shown.len < text.len)
        buf_puts(&problem->detail, "...");
}

static const char *status_title(unsigned status)
{
    static const struct {
        unsigned status;
        const char *title;
    } titles[] = {
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
        if (titles[i].status == status)
            return titles[i].title;
    return "Error";
}

void request_put_problem(struct buf *b, unsigned status, struct slice detail)
{
    buf_printf(b, "{\"title\":\"%s\",\"status\":%u,\"detail\":", status_title(status), status);
    json_put_string(b, detail);
    buf_putc(b, '}');
}
