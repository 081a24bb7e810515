/* Users in blocks on all threads. A thread takes the next block together with the memory that it needs, so blocks that
 * are at work never wait for memory that a later one holds, and waiting for the turn of earlier blocks comes to an end. */
#include "data/eventsink_int.h"

#include "base/alloc.h"
#include "base/error.h"
#include "data/feedback.h"
#include "data/workers.h"

#include <inttypes.h>

enum { BLOCK_ROW_BYTES = 2 * HS_EVENT_BYTES + sizeof(int64_t), BLOCK_MORE_BYTES = 4 * sizeof(int64_t) };

static size_t round_up(size_t bytes)
{
    return (bytes + 7) / 8 * 8;
}

static uint64_t block_bytes(uint64_t n)
{
    return n * BLOCK_ROW_BYTES + BLOCK_MORE_BYTES;
}

static void fail_walk(hs_blockwalk *walk, uint64_t index, hstu_status status, const hstu_error *error)
{
    (void)pthread_mutex_lock(&walk->lock);
    if (!walk->stopped || index < walk->failed_index) {
        walk->failed_index = index;
        walk->status = status;
        walk->error = *error;
    }
    walk->stopped = true;
    (void)pthread_cond_broadcast(&walk->changed);
    (void)pthread_mutex_unlock(&walk->lock);
}

/* The next users, as many as a block takes but at least one. */
static void cut_block(const hs_blockwalk *walk, hs_gathered *block)
{
    const int64_t *first = walk->users->first + walk->next_user;
    const size_t left = walk->users->n - walk->next_user;
    const int64_t end = first[0] + (int64_t)walk->sink->block_rows;
    size_t n = 1;
    while (n < left && first[n + 1] <= end)
        n++;
    block->first_user = walk->next_user;
    block->n_users = n;
    block->n = (size_t)(first[n] - first[0]);
}

/* Takes a block and its memory from what is left for large ones. False: no more, or the walk has failed. */
static bool take_block(hs_blockwalk *walk, hs_gathered *block, uint64_t *large)
{
    bool taken = false;
    (void)pthread_mutex_lock(&walk->lock);
    while (!taken && !walk->stopped && walk->next_user < walk->users->n) {
        cut_block(walk, block);
        *large = block->n > walk->sink->block_rows ? block_bytes(block->n) : 0;
        if (*large > walk->large_limit) /* fails without memory */
            *large = 0;
        if (*large <= walk->large_bytes) {
            walk->large_bytes -= *large;
            walk->next_user += block->n_users;
            block->index = walk->next_index++;
            taken = true;
        } else {
            (void)pthread_cond_wait(&walk->changed, &walk->lock);
        }
    }
    (void)pthread_mutex_unlock(&walk->lock);
    return taken;
}

static void give_back(hs_blockwalk *walk, uint64_t large)
{
    (void)pthread_mutex_lock(&walk->lock);
    walk->large_bytes += large;
    (void)pthread_cond_broadcast(&walk->changed);
    (void)pthread_mutex_unlock(&walk->lock);
}

static void lay_out(hs_gathered *block, void *memory)
{
    const size_t bytes = round_up(block->n * HS_EVENT_BYTES);
    block->columns = memory;
    block->spare = (unsigned char *)memory + bytes;
    block->offset = (int64_t *)(void *)((unsigned char *)memory + 2 * bytes);
}

static hstu_status fail_large(const hs_blockwalk *walk, const hs_gathered *block, hstu_error *err)
{
    return hs_fail(err, HSTU_ENOMEM, 0,
        "the user %" PRId64 " alone has %zu events, which need %" PRIu64
        " bytes to be sorted, but the memory limit of %" PRIu64 " bytes leaves %" PRIu64 " for that",
        walk->users->id[block->first_user], block->n, block_bytes(block->n), walk->sink->options.memory_limit,
        walk->large_limit);
}

static hstu_status do_block(hs_blockwalk *walk, hs_gathered *block, void *usual, uint64_t large, hstu_error *err)
{
    void *memory = usual;
    if (block->n > walk->sink->block_rows && !large)
        return fail_large(walk, block, err);
    if (large && !(memory = hs_alloc((size_t)large, 1)))
        return hs_fail_nomem(err, (size_t)large, "a user's events");
    lay_out(block, memory);
    hstu_status status = hs_gather(walk, block, err);
    if (status == HSTU_OK)
        status = walk->fn(walk, block, err);
    if (large)
        hs_free(memory);
    return status;
}

static hstu_status report(const hs_blockwalk *walk, const hs_gathered *block, hstu_error *err)
{
    const hstu_progress *progress = walk->sink->options.progress;
    if (block->worker)
        return HSTU_OK;
    hs_progress_step(progress, walk->stage, (uint64_t)walk->users->first[block->first_user],
        (uint64_t)walk->users->first[walk->users->n]);
    return hs_progress_check(progress, err);
}

static void work(void *ctx, size_t worker)
{
    hs_blockwalk *walk = ctx;
    hs_gathered block = {.users = walk->users, .worker = worker};
    hstu_error err = {0};
    uint64_t large = 0;
    const size_t usual_bytes = (size_t)block_bytes(walk->sink->block_rows);
    void *usual = hs_alloc(usual_bytes, 1);
    if (!usual)
        fail_walk(walk, 0, hs_fail_nomem(&err, usual_bytes, "a block of users"), &err);
    while (usual && take_block(walk, &block, &large)) {
        hstu_status status = report(walk, &block, &err);
        if (status == HSTU_OK)
            status = do_block(walk, &block, usual, large, &err);
        if (status != HSTU_OK)
            fail_walk(walk, block.index, status, &err);
        if (large)
            give_back(walk, large);
    }
    hs_free(usual);
}

bool hs_blockwalk_wait(hs_blockwalk *walk, uint64_t index)
{
    (void)pthread_mutex_lock(&walk->lock);
    while (!walk->stopped && walk->turn != index)
        (void)pthread_cond_wait(&walk->changed, &walk->lock);
    const bool mine = !walk->stopped;
    (void)pthread_mutex_unlock(&walk->lock);
    return mine;
}

void hs_blockwalk_pass(hs_blockwalk *walk)
{
    (void)pthread_mutex_lock(&walk->lock);
    walk->turn++;
    (void)pthread_cond_broadcast(&walk->changed);
    (void)pthread_mutex_unlock(&walk->lock);
}

hstu_status hs_blockwalk_run(hs_blockwalk *walk, hstu_error *err)
{
    const hs_eventsink *sink = walk->sink;
    const uint64_t usual = sink->n_threads * block_bytes(sink->block_rows);
    walk->large_limit = sink->visit_limit > usual ? sink->visit_limit - usual : 0;
    walk->large_bytes = walk->large_limit;
    (void)pthread_mutex_init(&walk->lock, NULL);
    (void)pthread_cond_init(&walk->changed, NULL);
    hs_workers_run(sink->n_threads, work, walk);
    (void)pthread_cond_destroy(&walk->changed);
    (void)pthread_mutex_destroy(&walk->lock);
    if (walk->stopped && err)
        *err = walk->error;
    if (!walk->stopped)
        hs_progress_step(sink->options.progress, walk->stage, (uint64_t)walk->users->first[walk->users->n],
            (uint64_t)walk->users->first[walk->users->n]);
    return walk->stopped ? walk->status : HSTU_OK;
}
