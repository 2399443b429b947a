/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth_watch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/mem.h"
#include "relay/kit/log.h"

/* Asked for rather than told: what Kubernetes mounts changes by a link two directories further up,
 * which neither inotify nor lstat() shows. */
static const double POLL_S = 1.0;

/* What a file looked like; zeros: it is not there. */
struct look {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct auth_watch {
    struct ev_loop *loop;
    struct config *config;
    void (*changed)(void *arg, struct auth *auth);
    void *arg;
    struct strings files;
    struct look *looks; /* one for each file */
    ev_timer poll;
};

static struct look look_at(const char *path)
{
    struct stat st;
    if (stat(path, &st))
        return (struct look){0};
    return (struct look){st.st_dev, st.st_ino, st.st_size, st.st_ctim};
}

static bool is_same(const struct look *a, const struct look *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

/* True: one of them has changed since the look before. */
static bool look_again(struct auth_watch *w)
{
    bool changed = false;
    for (size_t i = 0; i < w->files.count; i++) {
        struct look look = look_at(w->files.items[i]);
        changed |= !is_same(&look, &w->looks[i]);
        w->looks[i] = look;
    }
    return changed;
}

static const struct look *find_look(const struct auth_watch *w, const char *path)
{
    for (size_t i = 0; i < w->files.count; i++)
        if (strcmp(w->files.items[i], path) == 0)
            return &w->looks[i];
    return NULL;
}

/* What a file looked like before it was read counts, so that a change in between shows the next
 * time. Of one that was not known before: as if it was not there, so it is read twice. */
static void watch_files(struct auth_watch *w, const struct auth *auth)
{
    const struct strings *files = auth_files(auth);
    struct strings names = {0};
    struct look *looks = mem_zero(files->count, sizeof(*looks));
    for (size_t i = 0; i < files->count; i++) {
        const struct look *before = find_look(w, files->items[i]);
        strings_add(&names, slice_of(files->items[i]));
        if (before)
            looks[i] = *before;
    }
    strings_reset(&w->files);
    free(w->looks);
    w->files = names;
    w->looks = looks;
}

static void log_lines(struct buf *lines)
{
    struct slice rest = buf_slice(lines);
    while (rest.ptr && rest.len) {
        char *line = slice_dup(slice_cut(&rest, '\n'));
        if (line[0])
            log_put(LOG_WARN, "authentication is configured, but look at this", "what", line, NULL);
        free(line);
    }
}

static enum err load(struct auth_watch *w, const char *failed)
{
    struct auth *auth = NULL;
    struct buf why = {0}, warnings = {0};
    look_again(w);
    enum err e = auth_load(w->config, &auth, &why, &warnings);
    if (e) {
        buf_putc(&why, '\0');
        log_put(LOG_ERROR, failed, "error", why.ptr, NULL);
    } else {
        log_lines(&warnings);
        if (auth)
            watch_files(w, auth);
        w->changed(w->arg, auth);
    }
    buf_reset(&why);
    buf_reset(&warnings);
    return e;
}

static void load_again(struct auth_watch *w)
{
    if (load(w, "keys and rules were not read again: there is an error in them") == OK)
        log_put(LOG_INFO, "keys and rules read again", NULL);
}

static void on_poll(struct ev_loop *loop, ev_timer *timer, int revents)
{
    (void)loop, (void)revents;
    struct auth_watch *w = timer->data;
    if (look_again(w))
        load_again(w);
}

enum err auth_watch_new(struct ev_loop *loop, struct config *config,
                        void (*changed)(void *arg, struct auth *auth), void *arg,
                        struct auth_watch **out)
{
    struct auth_watch *w = mem_zero(1, sizeof(*w));
    w->loop = loop;
    w->config = config_ref(config);
    w->changed = changed;
    w->arg = arg;
    ev_timer_init(&w->poll, on_poll, POLL_S, POLL_S);
    w->poll.data = w;
    enum err e = load(w, "cannot read who may read and publish");
    if (e) {
        auth_watch_free(w);
        return e;
    }
    if (w->files.count)
        ev_timer_start(loop, &w->poll);
    *out = w;
    return OK;
}

void auth_watch_free(struct auth_watch *w)
{
    if (!w)
        return;
    ev_timer_stop(w->loop, &w->poll);
    strings_reset(&w->files);
    free(w->looks);
    config_unref(w->config);
    free(w);
}

void auth_watch_configure(struct auth_watch *w, struct config *config)
{
    config_ref(config);
    config_unref(w->config);
    w->config = config;
    if (w->files.count)
        load_again(w);
}
