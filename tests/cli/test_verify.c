/* Verification of the cache: one bit that differs is found, named and fails the run. */
#include "cli/run_cache.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { USERS = 3, K = 2 };

/* Users have 1, 0 and 2 targets. */
static const int64_t target_offset[] = {0, 1, 1, 3}, user_id[] = {-1, -1, 70, 71, 72};

typedef struct answer {
    float score[USERS * K];
    int64_t item[USERS * K], rank[3];
} answer;

static const answer right = {{0.5f, 0.25f, -0.0f, -INFINITY, 0.75f, 1e-40f}, {4, 5, 6, -1, 8, 9}, {1, 2, 3}};

static void make_parts(hs_answer_part part[3], const answer *with, const answer *without)
{
    part[0] = (hs_answer_part){.name = "score", .per = K, .real = {with->score, without->score}};
    part[1] = (hs_answer_part){.name = "item", .per = K, .whole = {with->item, without->item}};
    part[2] = (hs_answer_part){.name = "rank", .offset = target_offset, .per = 1, .whole = {with->rank, without->rank}};
}

/* Every bit of every value, flipped in either answer. */
static void test_every_bit(void **state)
{
    (void)state;
    hs_answer_part part[3];
    hs_difference found;
    make_parts(part, &right, &right);
    assert_false(hs_answers_differ(part, 3, USERS, &found));
    for (int side = 0; side < 2; side++) {
        for (int bit = 0; bit < 32 * USERS * K; bit++) {
            answer wrong = right;
            uint32_t word = 0;
            memcpy(&word, &wrong.score[bit / 32], sizeof word);
            word ^= (uint32_t)1 << bit % 32;
            memcpy(&wrong.score[bit / 32], &word, sizeof word);
            make_parts(part, side ? &right : &wrong, side ? &wrong : &right);
            assert_true(hs_answers_differ(part, 3, USERS, &found));
            assert_ptr_equal(found.part, &part[0]);
            assert_int_equal(found.user, bit / 32 / K);
            assert_int_equal(found.place, bit / 32 % K);
        }
        for (int i = 0; i < 3; i++) {
            answer wrong = right;
            wrong.rank[i] ^= (int64_t)1 << 62;
            make_parts(part, side ? &right : &wrong, side ? &wrong : &right);
            assert_true(hs_answers_differ(part, 3, USERS, &found));
            assert_ptr_equal(found.part, &part[2]);
            assert_int_equal(found.user, i == 0 ? 0 : 2);
            assert_int_equal(found.place, i == 2);
        }
    }
}

/* 0 and -0 are equal numbers, and a NaN equals nothing: bits are what counts. */
static void test_bits_not_numbers(void **state)
{
    (void)state;
    answer a = right, b = right;
    hs_answer_part part[3];
    hs_difference found;
    b.score[2] = 0.0f;
    make_parts(part, &a, &b);
    assert_true(hs_answers_differ(part, 3, USERS, &found));
    a.score[2] = b.score[2] = NAN;
    assert_false(hs_answers_differ(part, 3, USERS, &found));
}

/* The first user with a difference is told, and of it the first part. */
static void test_first(void **state)
{
    (void)state;
    answer wrong = right;
    hs_answer_part part[3];
    hs_difference found;
    char text[160];
    wrong.score[4] = 1;
    wrong.rank[2] = 7;
    wrong.item[3] = 7;
    make_parts(part, &wrong, &right);
    assert_true(hs_answers_differ(part, 3, USERS, &found));
    hs_difference_describe(&found, text, sizeof text);
    assert_string_equal(text, "item 1 is 7 with the cache and -1 without");
    wrong.item[3] = -1;
    assert_true(hs_answers_differ(part, 3, USERS, &found));
    hs_difference_describe(&found, text, sizeof text);
    assert_string_equal(text, "score 0 is 1 (0x3f800000) with the cache and 0.75 (0x3f400000) without");
    assert_false(hs_answers_differ(part, 3, 2, &found));
}

/* A run counts what agrees, and ends with one sentence at what does not. */
static void test_run(void **state)
{
    (void)state;
    hs_run run = {.dataset_info = {.name = "toy"}, .samples = {.n = 5, .user_id = user_id}};
    answer wrong = right;
    hs_answer_part part[3];
    hstu_error err = {0};
    make_parts(part, &right, &right);
    assert_int_equal(hs_run_cache_verify_samples(&run, part, 3, USERS, 2, &err), HSTU_OK);
    assert_int_equal(run.cache.n_verified_batches, 1);
    assert_int_equal(run.cache.n_verified_requests, USERS);
    wrong.rank[1] = 9;
    make_parts(part, &wrong, &right);
    assert_int_equal(hs_run_cache_verify_samples(&run, part, 3, USERS, 2, &err), HSTU_EDEVICE);
    assert_string_equal(
        err.msg, "toy: user 72, request 4: rank 0 is 9 with the cache and 2 without: the cache is wrong");
    assert_int_equal(run.cache.n_verified_batches, 1);
    assert_int_equal(run.cache.n_verified_requests, USERS);
}

/* Every N-th batch, and none of a run without verification. */
static void test_turns(void **state)
{
    (void)state;
    hs_run run = {.cache = {.verify_every = 3}};
    assert_false(hs_run_cache_is_due(&run));
    int64_t nothing = 0;
    run.cache.plain = (hstu_session *)(void *)&nothing; /* only whether it is there is looked at */
    for (int64_t b = 1; b <= 9; b++) {
        run.cache.n_batches = b;
        assert_int_equal(hs_run_cache_is_due(&run), b % 3 == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_bits_not_numbers),
        cmocka_unit_test(test_first),
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
