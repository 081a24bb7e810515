/* What a reader gave an event sink, as text: "7: 3@1000*1 4@2000d\n" is user 7 with item 3 at 1000 ms and the action 1, then
 * item 4, a duplicate without action. */
#ifndef TESTS_DATASET_SINK_TEXT_H
#define TESTS_DATASET_SINK_TEXT_H

#include "dataset/scratch.h"

#include "data/eventsink.h"

#include <inttypes.h>

typedef struct sink_text {
    char text[4096];
    size_t n;
} sink_text;

static inline hs_eventsink *sink_open(const scratch *s)
{
    const hs_eventsink_options options = {.memory_limit = 64 << 20, .threads = 2, .folder = s->folder};
    hs_eventsink *sink = NULL;
    hstu_error err = {0};
    if (hs_eventsink_open(&sink, &options, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    return sink;
}

static inline void sink_append(sink_text *t, const char *text)
{
    const size_t n = strlen(text);
    assert_true(n < sizeof t->text - t->n);
    memcpy(t->text + t->n, text, n + 1);
    t->n += n;
}

static inline hstu_status sink_block(void *ctx, const hs_event_block *block, hstu_error *err)
{
    sink_text *t = ctx;
    const hs_event_view *view = &block->view;
    char piece[96];
    (void)err;
    for (int64_t user = 0; user < view->n_users; user++) {
        (void)snprintf(piece, sizeof piece, "%" PRId64 ":", view->user_id[user]);
        sink_append(t, piece);
        for (int64_t i = view->offset[user]; i < view->offset[user + 1]; i++) {
            (void)snprintf(piece, sizeof piece, " %" PRId64 "@%" PRId64, view->item[i], view->time_ms[i]);
            sink_append(t, piece);
            if (view->action[i]) {
                (void)snprintf(piece, sizeof piece, "*%d", view->action[i]);
                sink_append(t, piece);
            }
            if (view->flags[i] & HS_EVENT_DUPLICATE)
                sink_append(t, "d");
        }
        sink_append(t, "\n");
    }
    return HSTU_OK;
}

/* No rows follow; t becomes what is there. */
static inline void sink_finish(hs_eventsink *sink, sink_text *t)
{
    const hs_block_consumer consumer = {.ctx = t, .in_turn = sink_block};
    hstu_error err = {0};
    *t = (sink_text){.n = 0};
    if (hs_eventsink_finish(sink, &err) != HSTU_OK || hs_eventsink_visit(sink, &consumer, NULL, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

#endif
