/* A ring of slots between threads that fill them and the caller who empties them. */
#include "data/ordered.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct ring {
    const hs_ordered *work;
    pthread_mutex_t lock;
    pthread_cond_t made, taken_one;
    size_t next;  /* the piece that is made next */
    size_t taken; /* pieces that the caller has taken */
    bool ready[HS_ORDERED_MAX_SLOTS];
    bool stop;
} ring;

static void *make_pieces(void *ctx)
{
    ring *r = ctx;
    const hs_ordered *work = r->work;
    (void)pthread_mutex_lock(&r->lock);
    while (!r->stop && r->next < work->n) {
        if (r->next - r->taken >= work->n_slots) {
            (void)pthread_cond_wait(&r->taken_one, &r->lock);
            continue;
        }
        const size_t piece = r->next++;
        (void)pthread_mutex_unlock(&r->lock);
        work->make(work->ctx, work->slot[piece % work->n_slots], piece);
        (void)pthread_mutex_lock(&r->lock);
        r->ready[piece % work->n_slots] = true;
        (void)pthread_cond_signal(&r->made);
    }
    (void)pthread_mutex_unlock(&r->lock);
    return NULL;
}

static hstu_status take_pieces(ring *r, hstu_error *err)
{
    const hs_ordered *work = r->work;
    for (size_t piece = 0; piece < work->n; piece++) {
        const size_t slot = piece % work->n_slots;
        (void)pthread_mutex_lock(&r->lock);
        while (!r->ready[slot])
            (void)pthread_cond_wait(&r->made, &r->lock);
        r->ready[slot] = false;
        (void)pthread_mutex_unlock(&r->lock);
        const hstu_status status = work->take(work->ctx, work->slot[slot], piece, err);
        (void)pthread_mutex_lock(&r->lock);
        r->taken++;
        r->stop = status != HSTU_OK;
        (void)pthread_cond_broadcast(&r->taken_one);
        (void)pthread_mutex_unlock(&r->lock);
        if (status != HSTU_OK)
            return status;
    }
    return HSTU_OK;
}

static hstu_status run_alone(const hs_ordered *work, hstu_error *err)
{
    for (size_t piece = 0; piece < work->n; piece++) {
        work->make(work->ctx, work->slot[0], piece);
        const hstu_status status = work->take(work->ctx, work->slot[0], piece, err);
        if (status != HSTU_OK)
            return status;
    }
    return HSTU_OK;
}

hstu_status hs_ordered_run(const hs_ordered *work, hstu_error *err)
{
    ring r = {.work = work};
    int started = 0;
    hstu_status status = HSTU_OK;
    pthread_t thread[HS_ORDERED_MAX_THREADS];
    if (work->threads > 1) {
        (void)pthread_mutex_init(&r.lock, NULL);
        (void)pthread_cond_init(&r.made, NULL);
        (void)pthread_cond_init(&r.taken_one, NULL);
        while (started < work->threads && pthread_create(&thread[started], NULL, make_pieces, &r) == 0)
            started++;
        if (started)
            status = take_pieces(&r, err);
        for (int i = 0; i < started; i++)
            (void)pthread_join(thread[i], NULL);
        (void)pthread_cond_destroy(&r.taken_one);
        (void)pthread_cond_destroy(&r.made);
        (void)pthread_mutex_destroy(&r.lock);
    }
    if (!started)
        status = run_alone(work, err);
    return status;
}
