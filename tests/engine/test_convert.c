/* hstu_checkpoint_convert: a converted model is the same model, bit for bit, and one file is all that it needs. */
#include "engine/golden.h"

#include "base/half.h"
#include "engine/engine.h"
#include "hstu/checkpoint.h"

#include <stdlib.h>
#include <unistd.h>

static const struct {
    const char *folder, *checkpoint;
} cases[] = {
    {"retrieval/base_h1_n71", "checkpoint_ep100"},
    {"retrieval/concat_ua_n71", "checkpoint_ep100"},
    {"retrieval/h2_n211_eval", "checkpoint_ep100"},
    {"retrieval/linact_none_layernorm_out_n71", "checkpoint_ep100"},
    {"retrieval/softmax_rel_bias_n71", "checkpoint_ep100"},
    {"retrieval/softmax_nobias_n71", "checkpoint_ep100"},
    {"retrieval/sasrec_h2_n71", "checkpoint_ep100"},
    {"retrieval/sasrec_h2_n71", "checkpoint_ep100.torch2.11"},
};
enum { N_CASES = sizeof cases / sizeof cases[0], K = 20, LEN = 1100 };

/* Files in one temporary folder, which has no config.json. */
static char folder[] = "/tmp/hstu_convert_XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[4][128];
    static int turn;
    char *out = path[turn++ % 4];
    (void)snprintf(out, sizeof path[0], "%s/%s", folder, name);
    return out;
}

static void remove_file(const char *name)
{
    assert_int_equal(unlink(in_folder(name)), 0);
}

static void convert(const char *in, const char *out, const char *config, const char *dtype)
{
    hstu_convert_options options;
    hstu_error err;
    hstu_convert_options_init(&options);
    options.config = config;
    options.dtype = dtype;
    assert_ok(hstu_checkpoint_convert(in, out, &options, &err), &err);
}

static hstu_model *open_model(const char *path, const char *config)
{
    hstu_model *model = NULL;
    hstu_model_options options;
    hstu_error err;
    hstu_model_options_init(&options);
    options.config = config;
    options.threads = 1;
    assert_ok(hstu_model_open(&model, path, &options, &err), &err);
    return model;
}

static void compare_configs(const hstu_model *a, const hstu_model *b)
{
    char *x = hs_config_to_json(&a->model.config), *y = hs_config_to_json(&b->model.config);
    assert_string_equal(x, y);
    hs_free(x);
    hs_free(y);
}

/* Embeddings, items and scores of every user, with times and without. */
static void compare_answers(const hstu_model *a, const hstu_model *b, const hstu_batch *batch)
{
    const hstu_model *model[2] = {a, b};
    const size_t users = batch->n_users, dim = (size_t)a->model.config.item_embedding_dim;
    float *emb[2], *score[2];
    int64_t *item[2];
    hstu_error err;
    for (int i = 0; i < 2; i++) {
        hstu_session *session = NULL;
        emb[i] = hs_calloc(users * dim, sizeof(float));
        score[i] = hs_calloc(users * K, sizeof(float));
        item[i] = hs_calloc(users * K, sizeof(int64_t));
        assert_ok(hstu_session_open(&session, model[i], &err), &err);
        assert_ok(hstu_encode(session, batch, emb[i], users * dim, &err), &err);
        assert_ok(hstu_recommend(session, batch, K, NULL, item[i], score[i], NULL, &err), &err);
        hstu_session_close(session);
    }
    assert_memory_equal(emb[0], emb[1], users * dim * sizeof(float));
    assert_memory_equal(score[0], score[1], users * K * sizeof(float));
    assert_memory_equal(item[0], item[1], users * K * sizeof(int64_t));
    for (int i = 0; i < 2; i++) {
        hs_free(emb[i]);
        hs_free(score[i]);
        hs_free(item[i]);
    }
}

static void compare_models(const hstu_model *a, const hstu_model *b, const char *golden)
{
    hs_statedict inputs;
    golden_batch with, without;
    golden_open(&inputs, golden, "inputs.safetensors");
    golden_batch_make(&with, &inputs, &inputs, &inputs, "timestamps");
    golden_batch_make(&without, &inputs, &inputs, NULL, NULL);
    compare_configs(a, b);
    compare_answers(a, b, &with.batch);
    compare_answers(a, b, &without.batch);
    golden_batch_free(&with);
    golden_batch_free(&without);
    hs_statedict_close(&inputs);
}

/* The item table is the mapped file's own, at a multiple of 64; other weights too begin where the size of what precedes allows. */
static void assert_in_place(const hstu_model *m)
{
    const unsigned char *item = (const unsigned char *)m->model.weight.item.data;
    assert_null(m->model.weight.item.memory);
    assert_true(item >= m->dict.map.data && item < m->dict.map.data + m->dict.map.size);
    assert_int_equal((uintptr_t)item % 64, 0);
    for (size_t i = 0; i < m->dict.n_entries; i++) {
        const hs_tensor *t = &m->dict.entry[i].tensor;
        if (hs_tensor_elements(t) % 16 == 0)
            assert_int_equal((uintptr_t)t->data % 64, 0);
    }
}

static void test_fp32_is_the_same_model(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        char in[LEN];
        const char *out = in_folder("m.safetensors");
        hstu_model_info info;
        (void)snprintf(in, sizeof in, "%s", golden_path(cases[i].folder, cases[i].checkpoint));
        convert(in, out, NULL, NULL);
        hstu_model *a = open_model(in, NULL), *b = open_model(out, NULL);
        compare_models(a, b, cases[i].folder);
        assert_in_place(b);
        hstu_model_get_info(b, &info);
        assert_string_equal(info.config, out);
        for (size_t t = 0; t < b->dict.n_entries; t++) {
            assert_ptr_equal(hs_family_peel(b->dict.entry[t].name), b->dict.entry[t].name);
            assert_int_equal(b->dict.entry[t].tensor.dtype, HS_F32);
        }
        hstu_model_close(a);
        hstu_model_close(b);
        remove_file("m.safetensors");
    }
}

/* To the nearest of the numbers with 8 significant bits (fewer below 2^-126), ties to even. */
static float rounded(float x)
{
    if (x == 0.0f)
        return x;
    int exponent = 0;
    (void)frexp((double)x, &exponent);
    const double unit = ldexp(1.0, (exponent < -125 ? -125 : exponent) - 8);
    return (float)(nearbyint((double)x / unit) * unit);
}

/* The fp32 file `from` with every value rounded. */
static void write_rounded(const char *from, const char *to)
{
    hs_statedict dict;
    hs_safetensors_writer *w = NULL;
    hstu_error err;
    assert_ok(hs_safetensors_open(&dict, from, &err), &err);
    assert_ok(hs_safetensors_create(&w, to, &err), &err);
    assert_ok(hs_safetensors_add_metadata(w, "hstu_config", hs_statedict_metadata(&dict, "hstu_config"), &err), &err);
    for (size_t i = 0; i < dict.n_entries; i++) {
        const hs_tensor *t = &dict.entry[i].tensor;
        assert_ok(hs_safetensors_add_tensor(w, dict.entry[i].name, HS_F32, t->rank, t->shape, &err), &err);
    }
    int64_t changed = 0;
    for (size_t i = 0; i < dict.n_entries; i++) {
        const int64_t n = hs_tensor_elements(&dict.entry[i].tensor);
        float *x = hs_alloc((size_t)n, sizeof *x);
        hs_tensor_to_f32(&dict.entry[i].tensor, x);
        for (int64_t j = 0; j < n; j++) {
            const float y = rounded(x[j]);
            changed += y != x[j];
            x[j] = y;
        }
        assert_ok(hs_safetensors_write(w, x, (size_t)n * sizeof *x, &err), &err);
        hs_free(x);
    }
    assert_true(changed > 1000);
    assert_ok(hs_safetensors_commit(w, &err), &err);
    hs_statedict_close(&dict);
}

static void assert_same_bytes(const char *a, const char *b)
{
    hs_mapfile x = {0}, y = {0};
    hstu_error err;
    assert_ok(hs_mapfile_open(&x, a, &err), &err);
    assert_ok(hs_mapfile_open(&y, b, &err), &err);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    hs_mapfile_close(&x);
    hs_mapfile_close(&y);
}

static void test_bf16_is_the_rounded_model(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        char in[LEN];
        (void)snprintf(in, sizeof in, "%s", golden_path(cases[i].folder, cases[i].checkpoint));
        convert(in, in_folder("fp32"), NULL, "fp32");
        write_rounded(in_folder("fp32"), in_folder("rounded"));
        convert(in, in_folder("bf16"), NULL, "bf16");
        convert(in, in_folder("again"), NULL, "bfloat16");
        assert_same_bytes(in_folder("bf16"), in_folder("again"));
        convert(in_folder("fp32"), in_folder("again"), NULL, "bf16"); /* replaces it */
        assert_same_bytes(in_folder("bf16"), in_folder("again"));
        convert(in_folder("bf16"), in_folder("again"), NULL, "bf16");
        assert_same_bytes(in_folder("bf16"), in_folder("again"));
        convert(in_folder("bf16"), in_folder("again"), NULL, "fp32");

        hstu_model *a = open_model(in_folder("rounded"), NULL), *b = open_model(in_folder("bf16"), NULL),
                   *c = open_model(in_folder("again"), NULL);
        assert_int_equal(b->dict.entry[0].tensor.dtype, HS_BF16);
        assert_int_equal(c->dict.entry[0].tensor.dtype, HS_F32);
        compare_models(a, b, cases[i].folder);
        compare_models(a, c, cases[i].folder);
        hstu_model_close(a);
        hstu_model_close(b);
        hstu_model_close(c);
        remove_file("fp32");
        remove_file("rounded");
        remove_file("bf16");
        remove_file("again");
    }
}

/* ---- made-up files ---------------------------------------------------------------------------------------------- */

enum {
    ITEMS = 70001,
    DIM = 4
}; /* the table is longer than a piece of the conversion, and its size no multiple of 64 */

static const struct {
    const char *name;
    int rank;
    int64_t shape[2];
} large[] = {
    {"module._hstu._attention_layers.0._o.bias", 1, {DIM, 1}},
    {"module._hstu._attention_layers.0._o.weight", 2, {DIM, 4}},
    {"module._embedding_module._item_emb.weight", 2, {ITEMS, DIM}},
    {"module._input_features_preproc._pos_emb.weight", 2, {16, DIM}},
    {"module._hstu._attention_layers.0._uvqk", 2, {DIM, 16}},
    {"module._hstu._attention_layers.0._rel_attn_bias._ts_w", 1, {129, 1}},
    {"module._hstu._attention_layers.0._rel_attn_bias._pos_w", 1, {31, 1}},
};
enum { LARGE = sizeof large / sizeof large[0] };

static double value_at(int64_t i)
{
    return sin((double)(i + 1) * 0.7);
}

/* `n` of the tensors above; element 5 of the item table is `fifth`. */
static void write_large(const char *path, hs_dtype dtype, size_t n, double fifth)
{
    hstu_error err;
    hs_safetensors_writer *w = NULL;
    assert_ok(hs_safetensors_create(&w, path, &err), &err);
    assert_ok(hs_safetensors_add_metadata(w, "hstu_config",
                  "{\"num_heads\": 2, \"dqk\": 2, \"dv\": 2, \"candidate_ids\": [7, 3, 70000], \"l2_norm_eps\": "
                  "0.30000000000000004}",
                  &err),
        &err);
    for (size_t t = 0; t < n; t++)
        assert_ok(hs_safetensors_add_tensor(w, large[t].name, dtype, large[t].rank, large[t].shape, &err), &err);
    for (size_t t = 0; t < n; t++) {
        const int64_t elements = large[t].shape[0] * large[t].shape[1];
        double *x = hs_alloc((size_t)elements, sizeof *x);
        float *y = hs_alloc((size_t)elements, sizeof *y);
        for (int64_t i = 0; i < elements; i++) {
            x[i] = t == 2 && i == 5 ? fifth : value_at(i);
            y[i] = (float)x[i];
        }
        const void *data = dtype == HS_F64 ? (const void *)x : (const void *)y;
        assert_ok(hs_safetensors_write(w, data, (size_t)elements * hs_dtype_bytes(dtype), &err), &err);
        hs_free(x);
        hs_free(y);
    }
    assert_ok(hs_safetensors_commit(w, &err), &err);
}

static void check_large(const char *path, hs_dtype dtype)
{
    hs_statedict dict;
    hstu_error err;
    assert_ok(hs_safetensors_open(&dict, path, &err), &err);
    assert_int_equal(dict.n_entries, LARGE);
    for (size_t t = 0; t < LARGE; t++) {
        const hs_entry *e = hs_statedict_find(&dict, "", large[t].name + strlen("module."));
        assert_non_null(e);
        assert_int_equal(e->tensor.dtype, dtype);
        assert_true(hs_tensor_shape_is(&e->tensor, large[t].rank, large[t].shape));
        const int64_t n = hs_tensor_elements(&e->tensor);
        float *x = hs_alloc((size_t)n, sizeof *x);
        hs_tensor_to_f32(&e->tensor, x);
        for (int64_t i = 0; i < n; i++) {
            const float y = (float)value_at(i);
            if (x[i] != (dtype == HS_BF16 ? rounded(y) : y))
                fail_msg("%s, element %" PRId64 ": found %.9g", large[t].name, i, (double)x[i]);
        }
        hs_free(x);
    }
    hs_statedict_close(&dict);
}

static void test_large_tables_and_doubles(void **state)
{
    (void)state;
    static const hs_dtype from[] = {HS_F32, HS_F64};
    for (size_t i = 0; i < 2; i++) {
        write_large(in_folder("in"), from[i], LARGE, value_at(5));
        convert(in_folder("in"), in_folder("out"), NULL, "fp32");
        check_large(in_folder("out"), HS_F32);
        hstu_model *a = open_model(in_folder("in"), NULL), *b = open_model(in_folder("out"), NULL);
        compare_configs(a, b);
        assert_in_place(b);
        hstu_model_close(a);
        hstu_model_close(b);
        convert(in_folder("in"), in_folder("out"), NULL, "bf16");
        check_large(in_folder("out"), HS_BF16);
        remove_file("in");
        remove_file("out");
    }
}

/* The candidates of the configuration stay the only ones, and no digit of a number is lost. */
static void test_configuration_is_kept(void **state)
{
    hstu_session *session = NULL;
    hstu_error err;
    const int64_t offset[2] = {0, 2}, history[2] = {5, 9};
    const hstu_batch batch = {.n_users = 1, .offset = offset, .item_id = history};
    int64_t item[4];
    float score[4];
    (void)state;
    write_large(in_folder("in"), HS_F32, LARGE, value_at(5));
    convert(in_folder("in"), in_folder("out"), NULL, NULL);
    hstu_model *model = open_model(in_folder("out"), NULL);
    assert_int_equal(model->model.config.n_candidates, 3);
    assert_true(model->model.config.l2_norm_eps == 0.30000000000000004);
    assert_true(model->model.config.user_embedding_norm_eps == 0.30000000000000004);
    assert_ok(hstu_session_open(&session, model, &err), &err);
    assert_ok(hstu_recommend(session, &batch, 4, NULL, item, score, NULL, &err), &err);
    assert_int_equal(item[0] + item[1] + item[2], 7 + 3 + 70000);
    assert_int_equal(item[3], -1);
    hstu_session_close(session);
    hstu_model_close(model);
    remove_file("in");
    remove_file("out");
}

/* A named configuration is stored instead of the file's own. */
static void test_named_configuration(void **state)
{
    hstu_model_info info;
    FILE *config = fopen(in_folder("c.json"), "wb");
    (void)state;
    assert_non_null(config);
    assert_true(fputs("{\"num_heads\": 1, \"top_k\": 33}", config) >= 0);
    assert_int_equal(fclose(config), 0);
    write_large(in_folder("in"), HS_F32, LARGE, value_at(5));
    convert(in_folder("in"), in_folder("out"), in_folder("c.json"), NULL);
    remove_file("c.json");
    remove_file("in");
    hstu_model *model = open_model(in_folder("out"), NULL);
    hstu_model_get_info(model, &info);
    assert_int_equal(info.n_heads, 1);
    assert_int_equal(info.dqk, 4);
    assert_int_equal(info.default_top_k, 33);
    assert_null(model->model.config.candidate_id);
    hstu_model_close(model);
    remove_file("out");
}

/* ---- refusals --------------------------------------------------------------------------------------------------- */

/* Refused with a sentence that holds `part`; what stood under the output's name stands there still. */
static void refused(
    const char *in, const char *out, const hstu_convert_options *options, hstu_status status, const char *part)
{
    hstu_error err = {0};
    const hstu_status found = hstu_checkpoint_convert(in, out, options, &err);
    if (found != status || !strstr(err.msg, part))
        fail_msg("status %d, \"%s\"; expected %d and \"%s\"", (int)found, err.msg, (int)status, part);
}

/* Opening and converting say the same. */
static void refused_as_opening(const char *in, hstu_status status)
{
    hstu_model *model = NULL;
    hstu_error opening = {0}, converting = {0};
    assert_int_equal(hstu_model_open(&model, in, NULL, &opening), status);
    assert_int_equal(hstu_checkpoint_convert(in, in_folder("out"), NULL, &converting), status);
    assert_string_equal(opening.msg, converting.msg);
    assert_int_not_equal(access(in_folder("out"), F_OK), 0);
}

static void test_refusals_of_opening(void **state)
{
    static const double bad[] = {NAN, INFINITY};
    char copy[LEN];
    (void)state;
    refused_as_opening(in_folder("nothing"), HSTU_ENOENT);
    write_large(in_folder("in"), HS_F32, LARGE - 1, 0); /* a bias table is missing */
    refused_as_opening(in_folder("in"), HSTU_ESHAPE);
    for (size_t i = 0; i < 2; i++) {
        write_large(in_folder("in"), HS_F32, LARGE, bad[i]);
        refused_as_opening(in_folder("in"), HSTU_EFORMAT);
    }
    remove_file("in");
    (void)snprintf(copy, sizeof copy, "%s", golden_path("retrieval/base_h1_n71", "config.json"));
    refused_as_opening(copy, HSTU_EFORMAT);
}

static void test_own_refusals(void **state)
{
    hstu_convert_options options;
    static const volatile int stop = 1;
    (void)state;
    write_large(in_folder("in"), HS_F32, LARGE, 3.4e38);
    convert(in_folder("in"), in_folder("before"), NULL, NULL);
    convert(in_folder("in"), in_folder("out"), NULL, NULL);

    hstu_convert_options_init(&options);
    options.dtype = "bf16";
    refused(in_folder("in"), in_folder("out"), &options, HSTU_EINVAL,
        "tensor '_embedding_module._item_emb.weight' holds 3.39999995e+38 at element 5, which is too large for bf16");
    options.dtype = "fp16";
    refused(in_folder("in"), in_folder("out"), &options, HSTU_EUNSUP, "dtype 'fp16'");
    hstu_convert_options_init(&options);
    options.progress.cancel = &stop;
    refused(in_folder("in"), in_folder("out"), &options, HSTU_ECANCELLED, "");
    options.size = sizeof options + 8;
    refused(in_folder("in"), in_folder("out"), &options, HSTU_EINVAL, "hstu_convert_options_init");
    assert_same_bytes(in_folder("before"), in_folder("out"));
    refused(in_folder("in"), in_folder("no_folder/out"), NULL, HSTU_ENOENT, "no_folder/out");

    /* Onto itself: by its name, by links. */
    refused(in_folder("out"), in_folder("out"), NULL, HSTU_EINVAL, "is a file that the conversion reads");
    assert_int_equal(symlink(in_folder("out"), in_folder("soft")), 0);
    assert_int_equal(link(in_folder("out"), in_folder("hard")), 0);
    refused(in_folder("out"), in_folder("soft"), NULL, HSTU_EINVAL, "soft is a file that the conversion reads");
    refused(in_folder("hard"), in_folder("out"), NULL, HSTU_EINVAL, "out is a file that the conversion reads");
    assert_same_bytes(in_folder("before"), in_folder("out"));
    remove_file("soft");
    remove_file("hard");
    remove_file("in");
    remove_file("out");
    remove_file("before");
}

typedef struct steps {
    uint64_t n, done, total;
} steps;

static void count_step(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    steps *s = ctx;
    assert_non_null(stage);
    assert_true(done > s->done && done <= total);
    *s = (steps){.n = s->n + 1, .done = done, .total = total};
}

static void test_progress(void **state)
{
    hstu_convert_options options;
    hstu_error err;
    steps s = {0};
    (void)state;
    write_large(in_folder("in"), HS_F32, LARGE, value_at(5));
    hstu_convert_options_init(&options);
    options.progress = (hstu_progress){.ctx = &s, .step = count_step};
    assert_ok(hstu_checkpoint_convert(in_folder("in"), in_folder("out"), &options, &err), &err);
    assert_int_equal(s.n, LARGE + 1); /* the item table takes two */
    assert_int_equal(s.done, s.total);
    remove_file("in");
    remove_file("out");
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

/* Fails when a temporary file remained. */
static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32_is_the_same_model),
        cmocka_unit_test(test_bf16_is_the_rounded_model),
        cmocka_unit_test(test_large_tables_and_doubles),
        cmocka_unit_test(test_configuration_is_kept),
        cmocka_unit_test(test_named_configuration),
        cmocka_unit_test(test_refusals_of_opening),
        cmocka_unit_test(test_own_refusals),
        cmocka_unit_test(test_progress),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
