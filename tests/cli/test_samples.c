/* Samples of a replay: the view, windows that slide in steps, batches, popularity. */
#include "cli/run_assemble.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Two users with 6 and 3 events; requests in the order of time. */
static const int64_t users[] = {50, 60}, offset[] = {0, 6, 9}, item[] = {1, 2, 3, 4, 5, 6, 3, 3, 1},
                     times[] = {10, 11, 100, 101, 200, 300, 20, 120, 220}, action[] = {1, 2, 4, 8, 16, 32, 64, 0, 3};
static const int64_t user[] = {0, 1, 0, 1, 0}, begin[] = {2, 7, 4, 8, 5}, end[] = {4, 8, 5, 9, 6};

static hstu_replay make_replay(void)
{
    return (hstu_replay){.n_users = 2,
        .n_users_skipped = 4,
        .user_id = users,
        .offset = offset,
        .item_id = item,
        .timestamp = times,
        .action = action,
        .item_offset = 1,
        .n = 5,
        .user = user,
        .begin = begin,
        .end = end};
}

static void test_window(void **state)
{
    (void)state;
    assert_int_equal(hs_window_start(0, 4, 1), 0);
    assert_int_equal(hs_window_start(4, 4, 4), 0);
    for (int64_t n = 5; n < 40; n++) {
        assert_int_equal(hs_window_start(n, 4, 1), n - 4);
        assert_int_equal(hs_window_start(n, 4, 0), n - 4);
        for (int64_t step = 2; step <= 4; step++) {
            const int64_t start = hs_window_start(n, 4, step);
            assert_int_equal(start % step, 0);
            assert_true(start >= n - 4 && start < n - 4 + step && start < n);
        }
    }
    assert_int_equal(hs_window_start(INT64_MAX, 1, 1), INT64_MAX - 1);
}

static void test_view(void **state)
{
    (void)state;
    const hstu_replay replay = make_replay();
    hs_samples s;
    hstu_error err = {0};
    assert_int_equal(hs_samples_of_replay(&s, &replay, &err), HSTU_OK);
    static const int64_t id[] = {50, 60, 50, 60, 50}, query[] = {100, 120, 200, 220, 300}, from[] = {0, 6, 0, 6, 0},
                         at[] = {0, 2, 3, 4, 5, 6}, target[] = {3, 4, 3, 5, 1, 6}, label[] = {4, 8, 0, 16, 3, 32};
    assert_int_equal(s.n, 5);
    assert_int_equal(s.n_users_skipped, 4);
    assert_memory_equal(s.user_id, id, sizeof id);
    assert_memory_equal(s.query_time, query, sizeof query);
    assert_memory_equal(s.from, from, sizeof from);
    assert_memory_equal(s.to, begin, sizeof begin);
    assert_memory_equal(s.target_offset, at, sizeof at);
    assert_memory_equal(s.target, target, sizeof target);
    assert_memory_equal(s.label, label, sizeof label);
    hs_samples_close(&s);
    hs_samples_close(&s);
}

static void test_batches(void **state)
{
    (void)state;
    const hstu_replay replay = make_replay();
    hs_run run = {.batch_size = 3, .window = 3, .slide_step = 2};
    hs_batch_room room;
    hstu_error err = {0};
    assert_int_equal(hs_samples_of_replay(&run.samples, &replay, &err), HSTU_OK);
    assert_int_equal(hs_batch_room_open(&room, &run, &err), HSTU_OK);
    assert_int_equal(room.n_targets, 4);
    hstu_batch batch = hs_batch_room_fill(&room, 0, 3);
    /* Of user 50's four events the window of three begins at the second. */
    static const int64_t at[] = {0, 2, 3, 5}, items[] = {1, 2, 3, 3, 4}, when[] = {10, 11, 20, 100, 101},
                         targets[] = {0, 2, 3, 4};
    assert_int_equal(batch.n_users, 3);
    assert_memory_equal(batch.offset, at, sizeof at);
    assert_memory_equal(batch.item_id, items, sizeof items);
    assert_memory_equal(batch.timestamp, when, sizeof when);
    assert_ptr_equal(batch.query_time, run.samples.query_time);
    assert_ptr_equal(batch.user_id, run.samples.user_id);
    assert_memory_equal(hs_batch_room_targets(&room), targets, sizeof targets);
    assert_null(batch.cand_offset);
    assert_null(batch.action);
    /* The second batch's offsets begin anew. */
    batch = hs_batch_room_fill(&room, 3, 2);
    static const int64_t later[] = {0, 2, 5}, later_items[] = {3, 3, 3, 4, 5}, later_targets[] = {0, 1, 2};
    assert_memory_equal(batch.offset, later, sizeof later);
    assert_memory_equal(batch.item_id, later_items, sizeof later_items);
    assert_memory_equal(hs_batch_room_targets(&room), later_targets, sizeof later_targets);
    assert_int_equal(batch.query_time[1], 300);
    hs_batch_room_close(&room);

    /* A ranking model: targets are candidates, and there are actions. */
    run.ranking = true;
    assert_int_equal(hs_batch_room_open(&room, &run, &err), HSTU_OK);
    batch = hs_batch_room_fill(&room, 2, 2);
    static const int64_t actions[] = {4, 8, 64, 0}, candidates[] = {5, 1};
    assert_memory_equal(batch.action, actions, sizeof actions);
    assert_memory_equal(batch.cand_id, candidates, sizeof candidates);
    assert_int_equal(batch.cand_offset[0], 0);
    assert_int_equal(batch.cand_offset[2], 2);
    assert_null(batch.timestamp);
    hs_batch_room_close(&room);
    hs_samples_close(&run.samples);
}

/* An event counts once, in however many histories it stands: items 1 2 3 4 5 of user 50, 3 3 of 60. Order 3 1 2 4 5
 * 6. */
static void test_popularity(void **state)
{
    (void)state;
    const hstu_replay replay = make_replay();
    hs_run run = {.window = 3, .slide_step = 2, .info = {.min_item_id = 1, .max_item_id = 6}};
    hstu_error err = {0};
    int64_t rank[6];
    assert_int_equal(hs_samples_of_replay(&run.samples, &replay, &err), HSTU_OK);
    assert_int_equal(hs_run_rank_by_popularity(&run, 5, rank, &err), HSTU_OK);
    static const int64_t plain[] = {1, 4, 1, 5, 2, 6};
    assert_memory_equal(rank, plain, sizeof plain);
    /* Without what the windows show: 1 2, then 3, 3 4, 3 3, 3 4 5. */
    static const int64_t filtered[] = {1, 2, 0, 3, 1, 3};
    run.filter_seen = true;
    assert_int_equal(hs_run_rank_by_popularity(&run, 5, rank, &err), HSTU_OK);
    assert_memory_equal(rank, filtered, sizeof filtered);
    hs_samples_close(&run.samples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_view),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_popularity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
