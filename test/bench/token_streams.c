/* SPDX-License-Identifier: Apache-2.0 */
/* Streams of tokens, as models write them: TOPICS of them, each with a reader of its own that is
 * reloaded once, somewhere within, with replay=whole. Checks that each reader has every token, in
 * order, before and after, and the end; then comes back with its cursor and finite=1, for a 204.
 * Usage: token_streams PORT REDIS-PORT TOPICS RATE TOKENS QUERY [PRIORITY]. RATE: tokens a second
 * of a topic. PRIORITY may be "pipe": the tokens of a topic are the body of one request, and not
 * calls of Redis. Says "open", waits for a line, says "ended", waits again, and prints the account.
 */
#include "common/mem.h"
#include "histogram.h"
#include "loop.h"
#include "sse_reader.h"
#include "token_pipe.h"
#include <arpa/inet.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_MAX = 64 << 10, TICK_NS = 5000000, TIMEOUT_S = 60, LOG_MAX = 2000 };
enum phase { FIRST, RELOADED, RETURNED };

struct stream {
    struct source source; /* first */
    struct sse_reader sse;
    uint8_t phase;
    bool connected, done;
    unsigned number;
    uint64_t sent, reload_at;  /* tokens */
    uint64_t got, last_id;     /* of this connection */
    uint64_t opened_ns, catch; /* how many tokens there were when it was reloaded; 0: caught up */
};

static struct {
    struct loop loop;
    struct source redis_source;
    redisContext *redis;
    struct stream *items;
    struct token_pipe *pipes; /* as many; NULL: by Redis */
    unsigned count, done;
    uint64_t rate, tokens, sent, answered;
    uint16_t port;
    const char *query, *priority;
    uint64_t refused, lost, repeated, gaps, unended, unover, over, blocks, broken, worst_late_ns;
    struct histogram catching;
    char scratch[READ_MAX + SSE_READER_HEAD_MAX + (64 << 10)];
} all;

/* --- reading --- */

static void on_event(void *arg, const struct sse_event *ev)
{
    struct stream *s = arg;
    if (ev->kind == SSE_CONNECTED)
        s->connected = true;
    all.gaps += ev->kind == SSE_GAP || ev->kind == SSE_DROPPED;
    if (ev->has_id)
        s->last_id = ev->id;
    if (ev->kind != SSE_EVENT || !ev->numbers)
        return;
    all.blocks++;
    if (ev->first_number <= s->got)
        all.repeated++;
    else
        all.lost += ev->first_number - s->got - 1;
    if (ev->last_number - ev->first_number + 1 != ev->numbers)
        all.lost++;
    s->got = ev->last_number;
    if (s->catch && s->got >= s->catch) {
        histogram_add(&all.catching, loop_now_ns() - s->opened_ns);
        s->catch = 0;
    }
}

/* The stream was ended by the relay. */
static void on_end(struct stream *s)
{
    bool is_over = s->phase == RETURNED && s->sse.phase == SSE_REFUSED && s->sse.status == 204;
    if (s->phase == RETURNED) {
        all.over += is_over;
        all.unover += !is_over;
    } else {
        all.unended += s->got != all.tokens;
        all.lost += all.tokens - (s->got < all.tokens ? s->got : all.tokens);
    }
    all.broken += s->sse.phase == SSE_BROKEN || (s->phase != RETURNED && s->sse.phase != SSE_BODY);
    s->done = true;
    all.done++;
    loop_close(&all.loop, &s->source);
}

static void on_ready(struct source *source, uint32_t events)
{
    struct stream *s = (struct stream *)source;
    size_t kept = sse_reader_kept(&s->sse);
    (void)events;
    if (kept > sizeof all.scratch - READ_MAX) {
        on_end(s);
        return;
    }
    ssize_t n = recv(source->fd, all.scratch + kept, READ_MAX, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        sse_reader_resume(&s->sse, all.scratch);
        sse_reader_take(&s->sse, all.scratch, kept, kept + (size_t)n, on_event, s);
    }
    if (n <= 0 || s->sse.phase == SSE_REFUSED || s->sse.phase == SSE_BROKEN)
        on_end(s);
}

static void open_stream(struct stream *s)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(all.port)};
    char cursor[64] = "";
    const char *more = s->phase == RELOADED ? "&replay=whole" : "";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (s->phase == RETURNED) {
        snprintf(cursor, sizeof cursor, "Last-Event-ID: %llu\r\n", (unsigned long long)s->last_id);
        more = "&finite=1";
    }
    sse_reader_reset(&s->sse);
    s->got = 0;
    s->opened_ns = loop_now_ns();
    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0 ||
        dprintf(fd, "GET /events?topic=llm.%u%s%s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n", s->number,
                all.query, more, cursor) < 0) {
        perror("token_streams: connect");
        exit(EXIT_FAILURE);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    s->source = (struct source){fd, on_ready};
    loop_add(&all.loop, &s->source, EPOLLIN);
}

static void reload(struct stream *s)
{
    loop_close(&all.loop, &s->source);
    s->phase = RELOADED;
    s->catch = s->sent;
    open_stream(s);
}

/* --- publishing --- */

static void open_pipe(struct stream *s)
{
    char topic[32], query[64];
    snprintf(topic, sizeof topic, "llm.%u", s->number);
    snprintf(query, sizeof query, "event=delta&log_max=%d", LOG_MAX);
    if (!token_pipe_open(&all.pipes[s->number], &all.loop, all.port, topic, query)) {
        perror("token_streams: pipe");
        exit(EXIT_FAILURE);
    }
}

static void pipe_token(struct stream *s)
{
    char token[32];
    if (s->sent == 0)
        open_pipe(s);
    s->sent++;
    all.sent++;
    snprintf(token, sizeof token, "%llu,", (unsigned long long)s->sent);
    token_pipe_put(&all.pipes[s->number], token);
    if (s->sent == all.tokens)
        token_pipe_end(&all.pipes[s->number]);
}

static void put_token(struct stream *s)
{
    if (all.pipes) {
        pipe_token(s);
        return;
    }
    char topic[32], token[32], max[16];
    const char *args[20] = {"FCALL", "sse_publish", "1", "sse:{default}"};
    int n = 4;
    s->sent++;
    snprintf(topic, sizeof topic, "llm.%u", s->number);
    snprintf(token, sizeof token, "%llu,", (unsigned long long)s->sent);
    snprintf(max, sizeof max, "%d", LOG_MAX);
    const char *fields[] = {"topic", topic, "data", token, "event", "delta", "log_max", max};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        args[n++] = fields[i];
    if (all.priority) {
        args[n++] = "priority";
        args[n++] = all.priority;
    }
    if (s->sent == all.tokens) {
        args[n++] = "end";
        args[n++] = "1";
    }
    redisAppendCommandArgv(all.redis, n, args, NULL);
    all.sent++;
}

static void on_redis(struct source *source, uint32_t events)
{
    void *next = NULL;
    (void)source;
    (void)events;
    if (redisBufferRead(all.redis) != REDIS_OK) {
        fprintf(stderr, "token_streams: redis: %s\n", all.redis->errstr);
        exit(EXIT_FAILURE);
    }
    while (redisGetReplyFromReader(all.redis, &next) == REDIS_OK && next) {
        redisReply *reply = next;
        all.answered++;
        if (reply->type == REDIS_REPLY_ERROR && all.refused++ == 0)
            fprintf(stderr, "token_streams: %s\n", reply->str);
        freeReplyObject(reply);
        next = NULL;
    }
}

/* What is due of each topic; the topics begin one after the other, within one interval. */
static void publish_due(uint64_t began, uint64_t now)
{
    int written = 0;
    for (unsigned i = 0; i < all.count; i++) {
        struct stream *s = &all.items[i];
        double since = (double)(now - began) / 1e9 - (double)i / all.count / (double)all.rate;
        uint64_t due = since < 0 ? 0 : (uint64_t)(since * (double)all.rate);
        if (due > all.tokens)
            due = all.tokens;
        while (s->sent < due)
            put_token(s);
        if (all.pipes)
            token_pipe_flush(&all.pipes[i]);
        if (s->phase == FIRST && s->sent >= s->reload_at && !s->done)
            reload(s);
    }
    while (!written && redisBufferWrite(all.redis, &written) == REDIS_OK)
        ;
}

/* --- the run --- */

static bool all_connected(void)
{
    for (unsigned i = 0; i < all.count; i++)
        if (!all.items[i].connected)
            return false;
    return true;
}

/* Turns until @test, or for TIMEOUT_S. */
static void wait_for(bool (*test)(void))
{
    uint64_t deadline = loop_now_ns() + TIMEOUT_S * UINT64_C(1000000000);
    while (!test() && loop_now_ns() < deadline)
        loop_turn(&all.loop, loop_now_ns() + TICK_NS);
}

static bool all_done(void)
{
    return all.done >= all.count;
}

static bool all_answered(void)
{
    for (unsigned i = 0; all.pipes && i < all.count; i++)
        if (!all.pipes[i].answered)
            return false;
    return true;
}

static void count_answers(void)
{
    for (unsigned i = 0; all.pipes && i < all.count; i++) {
        all.answered += all.pipes[i].count;
        if (!all.pipes[i].ok && all.refused++ == 0)
            fprintf(stderr, "token_streams: %s\n", all.pipes[i].answer);
    }
}

static void run_tokens(void)
{
    uint64_t began = loop_now_ns(), due = began, want = all.tokens * all.count;
    while (all.sent < want) {
        uint64_t now = loop_now_ns();
        if (now >= due) {
            if (now - due > all.worst_late_ns)
                all.worst_late_ns = now - due;
            publish_due(began, now);
            due += TICK_NS;
        }
        loop_turn(&all.loop, due);
    }
    wait_for(all_done);
    wait_for(all_answered);
    count_answers();
}

static void say_and_wait(const char *word)
{
    puts(word);
    fflush(stdout);
    while (getchar() != '\n')
        if (feof(stdin))
            exit(EXIT_FAILURE);
}

static void return_all(void)
{
    unsigned late = all.count - all.done;
    all.unended += late;
    all.done = 0;
    for (unsigned i = 0; i < all.count; i++) {
        struct stream *s = &all.items[i];
        if (s->source.fd >= 0)
            loop_close(&all.loop, &s->source);
        s->phase = RETURNED;
        open_stream(s);
        loop_turn(&all.loop, 0);
    }
    wait_for(all_done);
    all.unover += all.count - all.done;
}

static void print_account(double seconds)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"published", all.answered}, {"refused", all.refused},
        {"lost", all.lost},          {"repeated", all.repeated},
        {"gaps", all.gaps},          {"unended", all.unended},
        {"not over", all.unover},    {"over", all.over},
        {"broken", all.broken},      {"unanswered", all.sent - all.answered},
        {"blocks", all.blocks},      {"reloads", all.catching.count},
    };
    printf("{");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        printf("\"%s\":%llu,", rows[i].name, (unsigned long long)rows[i].value);
    printf("\"seconds\":%.3f,\"late_ms\":%.3f,\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n", seconds,
           (double)all.worst_late_ns / 1e6, (double)histogram_at(&all.catching, 0.5) / 1e6,
           (double)histogram_at(&all.catching, 0.99) / 1e6);
}

static bool start(char **argv)
{
    all.port = (uint16_t)strtoul(argv[1], NULL, 10);
    all.count = (unsigned)strtoul(argv[3], NULL, 10);
    all.rate = strtoul(argv[4], NULL, 10);
    all.tokens = strtoul(argv[5], NULL, 10);
    all.query = argv[6];
    all.redis = redisConnect("127.0.0.1", (int)strtoul(argv[2], NULL, 10));
    if (!all.redis || all.redis->err || all.count == 0 || all.rate == 0 || all.tokens < 4)
        return false;
    loop_init(&all.loop);
    all.redis_source = (struct source){all.redis->fd, on_redis};
    loop_add(&all.loop, &all.redis_source, EPOLLIN);
    all.items = mem_zero(all.count, sizeof *all.items);
    if (all.priority && strcmp(all.priority, "pipe") == 0)
        all.pipes = mem_zero(all.count, sizeof *all.pipes);
    srandom(1); /* the same reloads in every run */
    for (unsigned i = 0; i < all.count; i++) {
        all.items[i].number = i;
        all.items[i].reload_at = all.tokens / 20 + (uint64_t)random() % (all.tokens * 9 / 10);
        open_stream(&all.items[i]);
    }
    wait_for(all_connected);
    return all_connected();
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (argc != 7 && argc != 8) {
        fprintf(stderr, "Usage: %s PORT REDIS-PORT TOPICS RATE TOKENS QUERY [PRIORITY]\n", argv[0]);
        return 2;
    }
    all.priority = argc == 8 ? argv[7] : NULL;
    if (!start(argv)) {
        fprintf(stderr, "token_streams: no Redis, or not all streams were opened\n");
        return EXIT_FAILURE;
    }
    say_and_wait("open");
    uint64_t began = loop_now_ns();
    run_tokens();
    double seconds = (double)(loop_now_ns() - began) / 1e9;
    say_and_wait("ended");
    return_all();
    print_account(seconds);
    return EXIT_SUCCESS;
}
