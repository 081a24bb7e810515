/* The event sink against sorting all rows the slow way: any threads, any limit, in memory and through the disk. */
#include "dataset/event_rows.h"

#include "data/eventsink_int.h"

#include <pthread.h>

typedef struct collected {
    const expected_row *row;
    size_t n_rows;
    pthread_mutex_t lock;
    size_t n_seen;           /* by anytime */
    int64_t next, next_user; /* by in_turn: rows and users so far */
    bool wrong, wrong_turn;  /* seen by each of them */
    int64_t fail_at;         /* user at which in_turn fails, or -1 */
} collected;

static bool same(const expected_row *row, const hs_event_block *block, int64_t user, int64_t i)
{
    const hs_event_view *v = &block->view;
    const hs_event *e = &row->event;
    return v->user_id[user] == e->user && v->item[i] == e->item && v->time_ms[i] == e->time_ms &&
           v->play_time_ms[i] == e->play_time_ms && v->duration_ms[i] == e->duration_ms && v->action[i] == e->action &&
           v->flags[i] == (uint8_t)(e->log << HS_EVENT_LOG_SHIFT | (row->duplicate ? HS_EVENT_DUPLICATE : 0));
}

static hstu_status see(void *ctx, const hs_event_block *block, hstu_error *err)
{
    collected *c = ctx;
    const hs_event_view *v = &block->view;
    bool wrong = block->first_event + v->n_events > (int64_t)c->n_rows || v->offset[0] != 0 ||
                 v->offset[v->n_users] != v->n_events;
    (void)err;
    for (int64_t user = 0; !wrong && user < v->n_users; user++) {
        for (int64_t i = v->offset[user]; i < v->offset[user + 1]; i++)
            wrong = wrong || !same(&c->row[block->first_event + i], block, user, i);
    }
    (void)pthread_mutex_lock(&c->lock);
    c->n_seen += (size_t)v->n_events;
    c->wrong = c->wrong || wrong;
    (void)pthread_mutex_unlock(&c->lock);
    return HSTU_OK;
}

static hstu_status take(void *ctx, const hs_event_block *block, hstu_error *err)
{
    collected *c = ctx;
    c->wrong_turn = c->wrong_turn || block->first_event != c->next || block->first_user != c->next_user;
    c->next += block->view.n_events;
    c->next_user += block->view.n_users;
    if (c->fail_at >= 0 && c->next_user > c->fail_at) {
        (void)snprintf(err->msg, sizeof err->msg, "enough");
        return HSTU_EINVAL;
    }
    return HSTU_OK;
}

static hs_eventsink *open_sink(const scratch *s, uint64_t limit, int threads)
{
    const hs_eventsink_options options = {.memory_limit = limit, .threads = threads, .folder = s->folder};
    hs_eventsink *sink = NULL;
    hstu_error err = {0};
    if (hs_eventsink_open(&sink, &options, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(hs_eventsink_threads(sink), threads);
    return sink;
}

static void add_all(hs_eventsink *sink, const hs_event *event, size_t n)
{
    hstu_error err = {0};
    for (size_t i = 0; i < n; i++) {
        if (hs_eventsink_add(sink, &event[i], &err) != HSTU_OK)
            fail_msg("%s", err.msg);
    }
    if (hs_eventsink_finish(sink, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

static void visit_all(hs_eventsink *sink, const expected_row *row, size_t n)
{
    collected c = {.row = row, .n_rows = n, .fail_at = -1};
    const hs_block_consumer consumer = {&c, see, take};
    hs_event_counts counts = {0};
    hstu_error err = {0};
    uint64_t n_duplicates = 0;
    for (size_t i = 0; i < n; i++)
        n_duplicates += row[i].duplicate;
    (void)pthread_mutex_init(&c.lock, NULL);
    if (hs_eventsink_visit(sink, &consumer, &counts, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_false(c.wrong || c.wrong_turn);
    assert_true(c.n_seen == n && c.next == (int64_t)n && c.next_user == hs_eventsink_users(sink).n);
    assert_true(counts.n_duplicates == n_duplicates);
    (void)pthread_mutex_destroy(&c.lock);
}

static int compare_items(const void *left, const void *right)
{
    const int64_t x = *(const int64_t *)left, y = *(const int64_t *)right;
    return (x > y) - (x < y);
}

static uint64_t count_items(const hs_event *event, size_t n)
{
    int64_t *item = calloc(n, sizeof *item);
    uint64_t count = 0;
    for (size_t i = 0; i < n; i++)
        item[i] = event[i].item;
    qsort(item, n, sizeof *item, compare_items);
    for (size_t i = 0; i < n; i++)
        count += i == 0 || item[i] != item[i - 1];
    free(item);
    return count;
}

static uint64_t count_unsorted(const hs_event *event, size_t n, int64_t n_users)
{
    int64_t *last = malloc((size_t)n_users * sizeof *last);
    uint64_t count = 0;
    for (int64_t i = 0; i < n_users; i++)
        last[i] = INT64_MIN;
    for (size_t i = 0; i < n; i++) {
        count += event[i].time_ms < last[event[i].user];
        last[event[i].user] = event[i].time_ms;
    }
    free(last);
    return count;
}

/* The user of every row, and which logs hold it. */
static void check_users(const hs_event_users *users, const expected_row *row)
{
    assert_true(users->offset[0] == 0 && users->offset[users->n] == users->n_events);
    for (int64_t user = 0; user < users->n; user++) {
        uint64_t logs = 0;
        for (int64_t i = users->offset[user]; i < users->offset[user + 1]; i++) {
            assert_true(row[i].event.user == users->id[user]);
            logs |= (uint64_t)1 << row[i].event.log;
        }
        assert_true(logs == users->logs[user]);
    }
}

/* Every combination, twice visited. */
static void check_all(scratch *s, bool shuffled, int64_t n_items)
{
    enum { N = 40000, USERS = 700 };
    static const uint64_t limits[] = {3 << 19, 3 << 20, 256 << 20};
    static const int threads[] = {1, 2, 5};
    hs_event *event = make_events(N, USERS, n_items, shuffled, 7);
    expected_row *row = expect_rows(event, N);
    for (size_t l = 0; l < 3; l++) {
        for (size_t t = 0; t < 3; t++) {
            hs_eventsink *sink = open_sink(s, limits[l], threads[t]);
            add_all(sink, event, N);
            assert_true(l == 0 ? sink->n_on_disk > 1 : l == 1 || sink->n_on_disk == 0);
            assert_int_equal(count_entries(s->folder), 0); /* temporary files have no name */
            const hs_event_users users = hs_eventsink_users(sink);
            assert_true(users.n == USERS && users.n_events == N && users.n_items == count_items(event, N));
            check_users(&users, row);
            visit_all(sink, row, N);
            visit_all(sink, row, N);
            hs_event_counts counts;
            const hs_block_consumer nothing = {0};
            assert_int_equal(hs_eventsink_visit(sink, &nothing, &counts, NULL), HSTU_OK);
            assert_true(counts.n_unsorted == count_unsorted(event, N, USERS));
            hs_eventsink_close(sink);
        }
    }
    free(event);
    free(row);
}

static void test_runs(void **state)
{
    check_all(*state, false, 5000);
}

static void test_shuffled(void **state)
{
    check_all(*state, true, 5000);
}

/* Ids that a bit each would be too many for: counted in several passes under the small limit. */
static void test_sparse_items(void **state)
{
    check_all(*state, true, INT64_MAX / 2);
}

/* All rows of one user at one time. */
static void test_one_time(void **state)
{
    enum { N = 2000 };
    hs_event *event = make_events(N, 1, 40, false, 3);
    for (size_t i = 0; i < N; i++)
        event[i].time_ms = -5;
    expected_row *row = expect_rows(event, N);
    hs_eventsink *sink = open_sink(*state, HS_EVENTSINK_MIN_BYTES, 2);
    add_all(sink, event, N);
    visit_all(sink, row, N);
    hs_eventsink_close(sink);
    free(event);
    free(row);
}

static void test_too_much(void **state)
{
    scratch *s = *state;
    hstu_error err = {0};
    hs_event event = {.user = 41, .item = 1};
    const hs_block_consumer nothing = {0};
    hs_eventsink *sink = open_sink(s, HS_EVENTSINK_MIN_BYTES, 2);
    hstu_status status = HSTU_OK;
    for (int i = 0; status == HSTU_OK && i < 20000; i++) {
        event.time_ms = -i;
        status = hs_eventsink_add(sink, &event, &err);
    }
    if (status == HSTU_OK)
        status = hs_eventsink_finish(sink, &err);
    if (status == HSTU_OK)
        status = hs_eventsink_visit(sink, &nothing, NULL, &err);
    assert_int_equal(status, HSTU_ENOMEM);
    assert_non_null(strstr(err.msg, "the user 41 alone has "));
    assert_non_null(strstr(err.msg, "the memory limit of 1048576 bytes leaves "));
    hs_eventsink_close(sink);

    sink = open_sink(s, HS_EVENTSINK_MIN_BYTES, 2);
    status = HSTU_OK;
    for (int i = 0; status == HSTU_OK && i < 20000; i++) {
        event.user = i;
        status = hs_eventsink_add(sink, &event, &err);
    }
    assert_int_equal(status, HSTU_ENOMEM);
    assert_non_null(strstr(err.msg, " users need "));
    hs_eventsink_close(sink);
}

static void test_options(void **state)
{
    scratch *s = *state;
    hs_eventsink *sink = NULL;
    hstu_error err = {0};
    hs_eventsink_options options = {.memory_limit = HS_EVENTSINK_MIN_BYTES - 1, .folder = s->folder};
    assert_int_equal(hs_eventsink_open(&sink, &options, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "memory_limit must be at least 1048576 bytes, not 1048575"));
    options = (hs_eventsink_options){.memory_limit = 1 << 20, .threads = -1, .folder = s->folder};
    assert_int_equal(hs_eventsink_open(&sink, &options, &err), HSTU_EINVAL);
    assert_null(sink);
    options.threads = 0;
    assert_int_equal(hs_eventsink_open(&sink, &options, &err), HSTU_OK);
    assert_true(hs_eventsink_threads(sink) >= 1);
    assert_int_equal(hs_eventsink_finish(sink, &err), HSTU_OK); /* of no rows */
    const hs_block_consumer nothing = {0};
    assert_int_equal(hs_eventsink_visit(sink, &nothing, NULL, &err), HSTU_OK);
    assert_int_equal(hs_eventsink_users(sink).n, 0);
    hs_eventsink_close(sink);
    hs_eventsink_close(NULL);
}

/* A consumer that fails ends the visit with its own error, and the threads come to an end. */
static void test_failing_consumer(void **state)
{
    enum { N = 20000, USERS = 500 };
    hs_event *event = make_events(N, USERS, 100, true, 5);
    expected_row *row = expect_rows(event, N);
    hs_eventsink *sink = open_sink(*state, HS_EVENTSINK_MIN_BYTES, 4);
    add_all(sink, event, N);
    for (int64_t at = 0; at < USERS; at += 97) {
        collected c = {.row = row, .n_rows = N, .fail_at = at};
        const hs_block_consumer consumer = {&c, see, take};
        hstu_error err = {0};
        (void)pthread_mutex_init(&c.lock, NULL);
        assert_int_equal(hs_eventsink_visit(sink, &consumer, NULL, &err), HSTU_EINVAL);
        assert_string_equal(err.msg, "enough");
        assert_true(!c.wrong && !c.wrong_turn && c.next_user > at && c.next < N);
        (void)pthread_mutex_destroy(&c.lock);
    }
    visit_all(sink, row, N);
    hs_eventsink_close(sink);
    free(event);
    free(row);
}

static void test_no_folder(void **state)
{
    scratch *s = *state;
    hstu_error err = {0};
    hstu_status status = HSTU_OK;
    hs_event *event = make_events(40000, 10, 10, true, 1);
    const hs_eventsink_options options = {
        .memory_limit = HS_EVENTSINK_MIN_BYTES, .threads = 1, .folder = scratch_path(s, "none")};
    hs_eventsink *sink = NULL;
    assert_int_equal(hs_eventsink_open(&sink, &options, &err), HSTU_OK);
    for (size_t i = 0; status == HSTU_OK && i < 40000; i++)
        status = hs_eventsink_add(sink, &event[i], &err);
    assert_int_equal(status, HSTU_ENOENT);
    assert_non_null(strstr(err.msg, "cannot create a temporary file in '"));
    hs_eventsink_close(sink);
    free(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_runs, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_shuffled, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_sparse_items, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_one_time, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_too_much, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_options, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_failing_consumer, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_no_folder, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
