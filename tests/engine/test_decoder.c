/* The decoder through the public interface: ids from 0, its own vocabulary, and what opens it. */
#include "engine/stages.h"

#include "engine/engine.h"
#include "hstu/checkpoint.h"

enum { VOCABULARY = 61, DIM = 32 };

typedef struct open_decoder {
    hstu_model *model;
    hstu_session *session;
} open_decoder;

static void decoder_open(open_decoder *d, int threads)
{
    hstu_error err;
    hstu_model_options options;
    hstu_model_options_init(&options);
    options.threads = threads;
    assert_ok(hstu_model_open(&d->model, golden_path("decoder/model_fp32", "model_raw.pt"), &options, &err), &err);
    assert_ok(hstu_session_open(&d->session, d->model, &err), &err);
}

static void decoder_close(open_decoder *d)
{
    hstu_session_close(d->session);
    hstu_model_close(d->model);
}

static const int64_t offset[4] = {0, 4, 5, 11}, item[11] = {0, 60, 7, 7, 0, 1, 2, 3, 4, 5, 6};
static const hstu_batch batch = {.n_users = 3, .offset = offset, .item_id = item};

static void test_items(void **state)
{
    open_decoder d;
    hstu_error err;
    hstu_recommend_options o;
    int64_t all[3 * VOCABULARY], found[3 * 4], rank[3];
    float score[3 * VOCABULARY], some[3 * 4];
    (void)state;
    decoder_open(&d, 2);
    assert_ok(hstu_recommend(d.session, &batch, VOCABULARY, NULL, all, score, NULL, &err), &err);
    for (int u = 0; u < 3; u++) {
        bool seen[VOCABULARY] = {false};
        for (int i = 0; i < VOCABULARY; i++) {
            const int64_t id = all[u * VOCABULARY + i];
            assert_in_range(id, 0, VOCABULARY - 1);
            assert_false(seen[id]);
            seen[id] = true;
            assert_true(i == 0 || score[u * VOCABULARY + i] <= score[u * VOCABULARY + i - 1]);
        }
    }
    /* Item 0 is a candidate and a target like any other; filtered histories hold it too. */
    const int64_t target[3] = {0, 0, 0}, candidate[3] = {0, 60, 30};
    hstu_recommend_options_init(&o);
    o.target_id = target;
    assert_ok(hstu_recommend(d.session, &batch, 1, &o, found, some, rank, &err), &err);
    for (int u = 0; u < 3; u++)
        assert_int_equal(all[u * VOCABULARY + rank[u] - 1], 0);
    o.filter_seen = 1;
    o.candidate_id = candidate;
    o.n_candidates = 3;
    assert_ok(hstu_recommend(d.session, &batch, 4, &o, found, some, rank, &err), &err);
    assert_int_equal(found[0], 30); /* user 0 has seen 0 and 60 */
    assert_int_equal(found[1], -1);
    assert_int_equal(rank[0], 0);
    assert_int_equal(found[4 + 2], -1); /* user 1 has seen 0 */
    assert_int_equal(rank[1], 0);
    assert_int_equal(found[8] + found[9] + found[10], 90);
    assert_true(rank[2] >= 1);
    decoder_close(&d);
}

static void test_alone_and_in_batches(void **state)
{
    float first[3 * DIM];
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        open_decoder d;
        hstu_error err;
        float emb[3 * DIM], alone[DIM];
        decoder_open(&d, threads);
        assert_ok(hstu_encode(d.session, &batch, emb, 3 * DIM, &err), &err);
        if (threads == 1)
            memcpy(first, emb, sizeof first);
        assert_memory_equal(emb, first, sizeof first);
        for (size_t u = 0; u < 3; u++) {
            const int64_t own[2] = {0, offset[u + 1] - offset[u]};
            const hstu_batch one = {.n_users = 1, .offset = own, .item_id = item + offset[u]};
            assert_ok(hstu_encode(d.session, &one, alone, DIM, &err), &err);
            assert_memory_equal(alone, first + u * DIM, sizeof alone);
        }
        decoder_close(&d);
    }
}

static void test_refusals(void **state)
{
    open_decoder d;
    hstu_error err;
    hstu_recommend_options o;
    int64_t found[3], rank[3];
    float score[3];
    const int64_t bad_item[11] = {61}, bad[3] = {5, -1, 2};
    hstu_batch b = batch;
    (void)state;
    decoder_open(&d, 1);
    b.item_id = bad_item;
    assert_int_equal(hstu_recommend(d.session, &b, 1, NULL, found, score, NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "item id 61 (event 0) is outside 0 .. 60 of the item table with 61 rows"));
    hstu_recommend_options_init(&o);
    o.target_id = bad;
    assert_int_equal(hstu_recommend(d.session, &batch, 1, &o, found, score, rank, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "user 1: target id -1 is outside 0 .. 60"));
    hstu_recommend_options_init(&o);
    o.candidate_id = bad;
    o.n_candidates = 3;
    assert_int_equal(hstu_recommend(d.session, &batch, 1, &o, found, score, NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "candidate id -1 is outside 0 .. 60"));
    decoder_close(&d);
}

static void test_info_and_inspect(void **state)
{
    open_decoder d;
    hstu_model_info info;
    hstu_checkpoint_info file;
    hstu_checkpoint *c = NULL;
    hstu_tensor_info t;
    hstu_error err;
    (void)state;
    decoder_open(&d, 1);
    hstu_model_get_info(d.model, &info);
    assert_string_equal(info.family, "decoder");
    assert_string_equal(info.main_module, "decoder");
    assert_int_equal(info.min_item_id, 0);
    assert_int_equal(info.max_item_id, VOCABULARY - 1);
    assert_int_equal(info.attention_n, 0);
    assert_int_equal(info.dim, DIM);
    assert_int_equal(info.n_blocks, 3);
    decoder_close(&d);

    /* The preset's name stands for the decoder's sizes here: D is not this file's. */
    hstu_model *model = NULL;
    hstu_model_options options;
    hstu_model_options_init(&options);
    options.config = "kuairand_gr";
    assert_int_equal(
        hstu_model_open(&model, golden_path("decoder/model_fp32", "model_raw.pt"), &options, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "kuairand_gr: hidden_size is 512, but tensor 'embedding.weight'"));

    assert_ok(hstu_checkpoint_open(&c, golden_path("decoder/model_fp32", "model_wrapped.pt"), NULL, &err), &err);
    hstu_checkpoint_get_info(c, &file);
    assert_string_equal(file.family, "plain decoder");
    assert_null(file.not_supported);
    assert_int_equal(file.n_missing, 0);
    for (uint64_t i = 0; i < file.n_tensors; i++) {
        assert_ok(hstu_checkpoint_tensor(c, i, &t, &err), &err);
        assert_int_equal(t.use, HSTU_TENSOR_BOUND);
    }
    assert_non_null(strstr(hstu_checkpoint_config(c), "\"decoder\""));
    hstu_checkpoint_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_alone_and_in_batches),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_info_and_inspect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
