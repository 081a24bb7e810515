/* hstu_recommend_options.target_offset: several targets of a user, or none, have the ranks that they have when each is
 * asked for alone; and what is refused. */
#include "engine/fixture.h"

enum { USERS = 9, TARGETS_MOST = 7, ALL_MOST = USERS * TARGETS_MOST, TOP = 6, LONGEST = 70 };

static const char config_text[] = "{\"max_sequence_length\": 50, \"item_embedding_dim\": 24, \"num_blocks\": 1, "
                                  "\"num_heads\": 2, \"dqk\": 8, \"dv\": 12, \"max_item_id\": 300}";

/* Targets of a batch's users, user by user: 0 .. TARGETS_MOST each. */
typedef struct targets {
    int64_t offset[USERS + 1], id[ALL_MOST], n;
} targets;

static uint32_t number(uint64_t stream, uint64_t i)
{
    uint32_t bits[4];
    hs_random_block(bits, 3, stream, i);
    return bits[0];
}

/* Some of them are of the history that is used, which a filter leaves out, some stand there twice. */
static void make_targets(targets *t, const requests *r)
{
    static const int64_t count[USERS] = {3, 0, 1, 7, 0, 0, 2, 5, 0};
    t->n = 0;
    for (int u = 0; u < USERS; u++) {
        t->offset[u] = t->n;
        for (int64_t i = 0; i < count[u]; i++, t->n++) {
            t->id[t->n] = 1 + (int64_t)(number(9, (uint64_t)t->n) % FIXTURE_ITEMS);
            if (i % 3 == 1)
                t->id[t->n] = r->item[r->offset[u + 1] - 1];
            if (i == 3)
                t->id[t->n] = t->id[t->n - 1];
        }
    }
    t->offset[USERS] = t->n;
}

/* Every second user has candidates of its own, among them its targets but one. */
static void make_candidates(const targets *t, int64_t *offset, int64_t *id)
{
    int64_t n = 0;
    for (int u = 0; u < USERS; u++) {
        offset[u] = n;
        for (int i = 0; u % 2 == 1 && i < 40; i++, n++)
            id[n] = 1 + (int64_t)(number(10, (uint64_t)n) % FIXTURE_ITEMS);
        for (int64_t i = t->offset[u] + 1; u % 2 == 1 && i < t->offset[u + 1]; i++)
            id[n++] = t->id[i];
    }
    offset[USERS] = n;
}

/* The rank of one target of one user, asked for alone. */
static int64_t rank_alone(
    hstu_session *session, const hstu_batch *all, const requests *r, size_t u, int64_t target, hstu_recommend_options o)
{
    int64_t offset[2], cand_offset[2] = {0, 0}, rank = -1;
    hstu_error err;
    hstu_batch b = one_user(r, u, offset);
    if (all->cand_offset) {
        cand_offset[1] = all->cand_offset[u + 1] - all->cand_offset[u];
        b.cand_offset = cand_offset;
        b.cand_id = all->cand_id + all->cand_offset[u];
    }
    o.target_id = &target;
    o.target_offset = NULL;
    assert_ok(hstu_recommend(session, &b, 0, &o, NULL, NULL, &rank, &err), &err);
    return rank;
}

typedef struct asked {
    int64_t item[USERS * TOP], rank[ALL_MOST];
    float score[USERS * TOP];
} asked;

static void check_targets(hstu_session *session, const hstu_batch *b, const requests *r, const targets *t,
    const hstu_recommend_options *options)
{
    static asked with, without, ranks;
    hstu_error err;
    hstu_recommend_options o = *options;
    int64_t n_found = 0;
    assert_ok(hstu_recommend(session, b, TOP, &o, without.item, without.score, NULL, &err), &err);
    o.target_id = t->id;
    o.target_offset = t->offset;
    memset(with.rank, -1, sizeof with.rank);
    assert_ok(hstu_recommend(session, b, TOP, &o, with.item, with.score, with.rank, &err), &err);
    assert_memory_equal(with.item, without.item, sizeof with.item);
    assert_memory_equal(with.score, without.score, sizeof with.score);
    for (size_t u = 0; u < USERS; u++) {
        for (int64_t i = t->offset[u]; i < t->offset[u + 1]; i++) {
            assert_int_equal(with.rank[i], rank_alone(session, b, r, u, t->id[i], *options));
            n_found += with.rank[i] > 0;
            if (with.rank[i] >= 1 && with.rank[i] <= TOP)
                assert_int_equal(with.item[(int64_t)u * TOP + with.rank[i] - 1], t->id[i]);
        }
    }
    for (int64_t i = t->n; i < ALL_MOST; i++)
        assert_int_equal(with.rank[i], -1);
    memset(ranks.rank, -1, sizeof ranks.rank);
    assert_ok(hstu_recommend(session, b, 0, &o, NULL, NULL, ranks.rank, &err), &err); /* ranks alone */
    assert_memory_equal(ranks.rank, with.rank, sizeof with.rank);
    assert_true(n_found > 0);
}

static void test_equal_one_at_a_time(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        fixture f;
        requests r;
        targets t;
        int64_t cand_offset[USERS + 1], cand_id[USERS * (40 + TARGETS_MOST)], shared[100];
        open_fixture(&f, config_text, threads);
        make_requests(&r, USERS, LONGEST);
        make_targets(&t, &r);
        make_candidates(&t, cand_offset, cand_id);
        for (int64_t i = 0; i < 100; i++)
            shared[i] = i < t.n ? t.id[i] : 1 + 2 * i;
        for (int kind = 0; kind < 8; kind++) {
            hstu_batch b = r.batch;
            hstu_recommend_options o;
            hstu_recommend_options_init(&o);
            o.filter_seen = kind & 1;
            if (kind & 2) {
                b.cand_offset = cand_offset;
                b.cand_id = cand_id;
            }
            if (kind & 4) {
                o.candidate_id = shared;
                o.n_candidates = 100;
            }
            check_targets(f.session, &b, &r, &t, &o);
        }
        free_requests(&r);
        close_fixture(&f);
    }
}

/* Targets that nobody has, with and without a list. */
static void test_no_targets_at_all(void **state)
{
    fixture f;
    requests r;
    hstu_recommend_options o;
    hstu_error err;
    int64_t offset[USERS + 1] = {0}, item[USERS], id = 1, rank = -1;
    float score[USERS];
    (void)state;
    open_fixture(&f, config_text, 1);
    make_requests(&r, USERS, LONGEST);
    hstu_recommend_options_init(&o);
    o.target_id = &id;
    o.target_offset = offset;
    assert_ok(hstu_recommend(f.session, &r.batch, 1, &o, item, score, &rank, &err), &err);
    assert_int_equal(rank, -1);
    assert_ok(hstu_recommend(f.session, &r.batch, 0, &o, NULL, NULL, &rank, &err), &err);
    assert_int_equal(rank, -1);
    free_requests(&r);
    close_fixture(&f);
}

static void expect_refusal(hstu_session *s, const hstu_batch *b, const hstu_recommend_options *o, const char *words)
{
    hstu_error err = {0};
    int64_t rank[ALL_MOST];
    memset(rank, -1, sizeof rank);
    assert_int_equal(hstu_recommend(s, b, 0, o, NULL, NULL, o->target_id ? rank : NULL, &err), HSTU_EINVAL);
    if (!strstr(err.msg, words))
        fail_msg("expected '%s' in: %s", words, err.msg);
    for (int i = 0; i < ALL_MOST; i++)
        assert_int_equal(rank[i], -1);
}

static void test_refusals(void **state)
{
    fixture f;
    requests r;
    targets t;
    hstu_recommend_options o;
    (void)state;
    open_fixture(&f, config_text, 1);
    make_requests(&r, USERS, LONGEST);
    make_targets(&t, &r);
    hstu_recommend_options_init(&o);
    o.target_offset = t.offset;
    expect_refusal(f.session, &r.batch, &o, "target_offset is given without target_id");
    o.target_id = t.id;
    t.offset[0] = 1;
    expect_refusal(f.session, &r.batch, &o, "target_offset[0] is 1, expected 0");
    t.offset[0] = 0;
    t.offset[4] = 2;
    expect_refusal(f.session, &r.batch, &o, "user 3: target_offset goes down from 4 to 2");
    make_targets(&t, &r);
    t.id[t.offset[3] + 2] = 301;
    expect_refusal(f.session, &r.batch, &o, "user 3: target id 301 is outside 1 .. 300");
    t.id[t.offset[3] + 2] = 0;
    expect_refusal(f.session, &r.batch, &o, "user 3: target id 0 is outside");
    free_requests(&r);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_one_at_a_time),
        cmocka_unit_test(test_no_targets_at_all),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
