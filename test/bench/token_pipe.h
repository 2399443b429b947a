/* SPDX-License-Identifier: Apache-2.0 */
/* One request whose body is tokens as they are written: POST /topics/{topic}/pipe. One thread. */
#pragma once
#include "common/buf.h"
#include "loop.h"

enum { TOKEN_PIPE_ANSWER_MAX = 4096 };

struct token_pipe {
    struct source source; /* first */
    struct loop *loop;
    struct buf out; /* what the socket has no room for yet */
    char answer[TOKEN_PIPE_ANSWER_MAX];
    size_t answer_len;
    uint64_t count; /* of the events that its answer tells of */
    bool answered, ok;
};

/* Connects (blocks). False: errno says why. @query: behind "?". */
bool token_pipe_open(struct token_pipe *p, struct loop *loop, uint16_t port, const char *topic,
                     const char *query);
/* One block of the body, as a chunk. */
void token_pipe_put(struct token_pipe *p, const char *token);
void token_pipe_end(struct token_pipe *p);
/* Sends what the socket had no room for. */
void token_pipe_flush(struct token_pipe *p);
