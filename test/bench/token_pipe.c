/* SPDX-License-Identifier: Apache-2.0 */
#include "token_pipe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* The answer comes in one piece, or a few; then the connection ends. */
static void on_ready(struct source *source, uint32_t events)
{
    struct token_pipe *p = (struct token_pipe *)source;
    size_t room = sizeof p->answer - 1 - p->answer_len;
    (void)events;
    ssize_t n = recv(source->fd, p->answer + p->answer_len, room, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    p->answer_len += n > 0 ? (size_t)n : 0;
    p->answer[p->answer_len] = '\0';
    const char *found = strstr(p->answer, "\"count\":");
    if (!found && n > 0)
        return;
    p->answered = true;
    p->ok = strncmp(p->answer, "HTTP/1.1 200 ", 13) == 0;
    p->count = found ? strtoull(found + strlen("\"count\":"), NULL, 10) : 0;
    loop_close(p->loop, source);
    buf_reset(&p->out);
}

bool token_pipe_open(struct token_pipe *p, struct loop *loop, uint16_t port, const char *topic,
                     const char *query)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *p = (struct token_pipe){.source = {fd, on_ready}, .loop = loop};
    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0 ||
        dprintf(fd,
                "POST /topics/%s/pipe?%s HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: "
                "chunked\r\nContent-Type: text/event-stream\r\n\r\n",
                topic, query) < 0)
        return false;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    loop_add(loop, &p->source, EPOLLIN);
    return true;
}

void token_pipe_flush(struct token_pipe *p)
{
    if (!p->out.len || p->source.fd < 0)
        return;
    ssize_t n = send(p->source.fd, p->out.ptr, p->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n <= 0)
        return;
    p->out.len -= (size_t)n;
    memmove(p->out.ptr, p->out.ptr + n, p->out.len);
}

void token_pipe_put(struct token_pipe *p, const char *token)
{
    static const char head[] = "data: ", tail[] = "\n\n";
    buf_printf(&p->out, "%zx\r\n%s%s%s\r\n", strlen(head) + strlen(token) + strlen(tail), head,
               token, tail);
    token_pipe_flush(p);
}

void token_pipe_end(struct token_pipe *p)
{
    buf_puts(&p->out, "0\r\n\r\n");
    token_pipe_flush(p);
}
