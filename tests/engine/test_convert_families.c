/* hstu_checkpoint_convert for ranking models and decoders: one file that answers as the checkpoint does. */
#include "engine/golden_ranking.h"

#include "base/half.h"
#include "hstu/checkpoint.h"

enum { LEN = 1100 };

#define DYNAMIC "dynamicemb_module/model._embedding_collection._model_parallel_embedding_collection/"

typedef struct place {
    scratch files;
    char in[LEN], config[LEN], out[LEN], again[LEN];
} place;

static void place_open(place *p, const char *folder, const char *checkpoint)
{
    scratch_open(&p->files);
    (void)snprintf(p->in, LEN, "%s", golden_path(folder, checkpoint));
    (void)snprintf(p->out, LEN, "%s", scratch_path(&p->files, "out"));
    (void)snprintf(p->again, LEN, "%s", scratch_path(&p->files, "again"));
}

static hstu_status convert(const char *in, const char *out, const char *config, const char *dtype, hstu_error *err)
{
    hstu_convert_options options;
    hstu_convert_options_init(&options);
    options.config = config;
    options.dtype = dtype;
    return hstu_checkpoint_convert(in, out, &options, err);
}

static void must_convert(const char *in, const char *out, const char *config, const char *dtype)
{
    hstu_error err;
    assert_ok(convert(in, out, config, dtype, &err), &err);
}

static hstu_model *open_model(const char *path, const char *config, const char *dtype)
{
    hstu_model *model = NULL;
    hstu_model_options options;
    hstu_error err;
    hstu_model_options_init(&options);
    options.config = config;
    options.dtype = dtype;
    options.threads = 1;
    assert_ok(hstu_model_open(&model, path, &options, &err), &err);
    return model;
}

static void assert_same_bytes(const char *a, const char *b)
{
    size_t n = 0, m = 0;
    char *x = read_whole(a, &n), *y = read_whole(b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

static void compare_configs(const hstu_model *a, const hstu_model *b)
{
    char *x = hs_config_to_json(&a->model.config), *y = hs_config_to_json(&b->model.config);
    assert_string_equal(x, y);
    hs_free(x);
    hs_free(y);
}

/* ---- ranking ---------------------------------------------------------------------------------------------------- */

static float *logits_of(const hstu_model *m, const char *folder, size_t *n)
{
    hstu_error err;
    hs_statedict inputs;
    ranking_batch batch;
    hstu_session *session = NULL;
    golden_open(&inputs, folder, "inputs.safetensors");
    ranking_batch_make(&batch, &inputs, &m->model.config);
    *n = (size_t)(batch.n_candidates * m->model.config.head[m->model.config.n_head - 1]);
    float *logits = hs_calloc(*n, sizeof *logits);
    assert_ok(hstu_session_open(&session, m, &err), &err);
    assert_ok(hstu_rank(session, &batch.inference, logits, *n, &err), &err);
    hstu_session_close(session);
    ranking_batch_free(&batch);
    hs_statedict_close(&inputs);
    return logits;
}

static void compare_logits(const hstu_model *a, const hstu_model *b, const char *folder)
{
    size_t n = 0, m = 0;
    float *x = logits_of(a, folder, &n), *y = logits_of(b, folder, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n * sizeof *x);
    hs_free(x);
    hs_free(y);
}

/* No row of a table was copied. */
static void assert_tables_in_place(const hstu_model *m)
{
    const unsigned char *first = m->dict.map.data, *end = first + m->dict.map.size;
    for (int i = 0; i < m->model.config.n_tables; i++) {
        const hs_table *t = &m->model.table[i];
        assert_null(t->memory);
        assert_int_equal(t->n_parts, 1);
        assert_true((const unsigned char *)t->part[0].values >= first);
        assert_true((const unsigned char *)t->part[0].values < end);
        if (t->n_rows * t->dim * sizeof(float) % 64 == 0)
            assert_int_equal((uintptr_t)t->part[0].values % 64, 0);
    }
}

static const char *const ranking_cases[] = {
    "ranking/c6_fused_fp32", "ranking/c0_hd32_d24_pclamp_2rank", "ranking/noln_noresidual"};

static void check_ranking(const char *folder, const char *dtype)
{
    place p;
    place_open(&p, folder, "checkpoint");
    (void)snprintf(p.config, LEN, "%s", ranking_config(&p.files, folder, "\"contextual_mask\": true, ", 0));
    must_convert(p.in, p.out, p.config, NULL);
    must_convert(p.out, p.again, NULL, "fp32");
    assert_same_bytes(p.out, p.again);
    hstu_model *a = open_model(p.in, p.config, dtype), *b = open_model(p.out, NULL, dtype);
    compare_configs(a, b);
    assert_true(b->model.config.contextual_mask);
    compare_logits(a, b, folder);
    assert_tables_in_place(b);
    assert_true(a->model.n_parameters == b->model.n_parameters);
    hstu_model_close(a);
    hstu_model_close(b);
    remove_folder(p.files.folder);
}

static void test_ranking(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ranking_cases / sizeof *ranking_cases; i++) {
        check_ranking(ranking_cases[i], "fp32");
        check_ranking(ranking_cases[i], "bf16");
    }
}

/* A file of bf16 answers in bf16 as the fp32 checkpoint does: that model rounds all of its weights and rows anyway. */
static void test_ranking_in_bf16(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ranking_cases / sizeof *ranking_cases; i++) {
        const char *folder = ranking_cases[i];
        place p;
        hstu_model_info fp32, bf16;
        place_open(&p, folder, "checkpoint");
        (void)snprintf(p.config, LEN, "%s", ranking_config(&p.files, folder, "\"contextual_mask\": false, ", 0));
        must_convert(p.in, p.out, p.config, "bf16");
        must_convert(p.out, p.again, NULL, "bf16");
        assert_same_bytes(p.out, p.again);
        hstu_model *a = open_model(p.in, p.config, "bf16"), *b = open_model(p.out, NULL, "bf16");
        compare_logits(a, b, folder);
        assert_int_equal(b->model.table[0].type, HS_BF16);
        hstu_model_get_info(a, &fp32);
        hstu_model_get_info(b, &bf16);
        assert_true(bf16.weight_bytes < fp32.weight_bytes);
        hstu_model_close(a);
        hstu_model_close(b);

        /* fp32 arithmetic over the stored values, however they are stored */
        must_convert(p.out, p.again, NULL, "fp32");
        a = open_model(p.out, NULL, "fp32");
        b = open_model(p.again, NULL, "fp32");
        assert_int_equal(b->model.table[0].type, HS_F32);
        compare_logits(a, b, folder);
        hstu_model_close(a);
        hstu_model_close(b);
        remove_folder(p.files.folder);
    }
}

/* Every key of every rank leads to the row that its rank's file holds. */
static void test_ranks_are_joined(void **state)
{
    const char *folder = "ranking/c0_hd32_d24_pclamp_2rank";
    place p;
    (void)state;
    place_open(&p, folder, "checkpoint");
    (void)snprintf(p.config, LEN, "%s", ranking_config(&p.files, folder, "\"contextual_mask\": false, ", 0));
    must_convert(p.in, p.out, p.config, NULL);
    hstu_model *a = open_model(p.in, p.config, NULL), *b = open_model(p.out, NULL, NULL);
    const hs_table *from = a->model.item_table, *to = b->model.item_table;
    assert_int_equal(from->n_parts, 2);
    assert_int_equal(from->n_rows, to->n_rows);
    for (size_t i = 0; i < from->n_parts; i++) {
        for (uint64_t r = 0; r < from->part[i].n_rows; r++) {
            int64_t key = 0;
            memcpy(&key, (const char *)from->part[i].keys + 8 * r, sizeof key);
            assert_memory_equal(hs_table_row(from, key), hs_table_row(to, key), from->dim * sizeof(float));
        }
    }
    assert_null(hs_table_row(to, INT64_MIN + 77));
    hstu_model_close(a);
    hstu_model_close(b);
    remove_folder(p.files.folder);
}

static void refuse_over(const char *in, const char *out, const char *config)
{
    hstu_error err;
    assert_int_equal(convert(in, out, config, NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "is a file that the conversion reads"));
}

/* Every file of a folder, here a copy, and the configuration. */
static void refuse_over_a_folder(place *p)
{
    static const char *const files[] = {"torch_module/model.0.pth", DYNAMIC "user_id_emb_keys.rank_0.world_size_1",
        DYNAMIC "user_id_emb_values.rank_0.world_size_1", DYNAMIC "video_id_emb_keys.rank_0.world_size_1",
        DYNAMIC "video_id_emb_values.rank_0.world_size_1"};
    enum { N = sizeof files / sizeof *files };
    char from[2 * LEN];
    scratch_mkdir(&p->files, "torch_module");
    scratch_mkdir(&p->files, "dynamicemb_module");
    scratch_mkdir(&p->files, DYNAMIC);
    for (size_t i = 0; i < N; i++) {
        (void)snprintf(from, sizeof from, "%s/%s", p->in, files[i]);
        scratch_copy(&p->files, files[i], from);
    }
    for (size_t i = 0; i < N; i++)
        refuse_over(p->files.folder, scratch_path(&p->files, files[i]), p->config);
    assert_int_equal(symlink(scratch_path(&p->files, files[3]), p->again), 0);
    refuse_over(p->files.folder, p->again, p->config);
    refuse_over(p->files.folder, p->config, p->config);
}

/* A converted file tells which of its tensors are bound; no file that was read may be written over. */
static void test_inspect_and_refusals(void **state)
{
    const char *folder = "ranking/c6_fused_fp32";
    place p;
    hstu_error err;
    hstu_checkpoint *c = NULL;
    hstu_checkpoint_info info;
    hstu_tensor_info t;
    (void)state;
    place_open(&p, folder, "checkpoint");
    (void)snprintf(p.config, LEN, "%s", ranking_config(&p.files, folder, "\"contextual_mask\": false, ", 0));
    must_convert(p.in, p.out, p.config, NULL);
    assert_ok(hstu_checkpoint_open(&c, p.out, NULL, &err), &err);
    hstu_checkpoint_get_info(c, &info);
    assert_null(info.not_supported);
    assert_int_equal(info.n_missing, 0);
    for (uint64_t i = 0; i < info.n_tensors; i++) {
        assert_ok(hstu_checkpoint_tensor(c, i, &t, &err), &err);
        assert_int_equal(t.use, HSTU_TENSOR_BOUND);
    }
    assert_non_null(strstr(hstu_checkpoint_config(c), "\"ranking\""));
    hstu_checkpoint_close(c);
    refuse_over(p.out, p.out, NULL);
    assert_int_equal(convert(p.in, p.again, NULL, NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "a ranking checkpoint needs a configuration"));
    assert_int_equal(access(p.again, F_OK), -1);

    refuse_over_a_folder(&p);
    remove_folder(p.files.folder);
}

/* Names that differ in a wrapper's prefix are one: a second tensor of a table is not chosen from. */
static void test_a_table_twice(void **state)
{
    const char *folder = "ranking/c6_fused_fp32";
    place p;
    hstu_error err;
    hs_statedict dict = {0}, twice;
    hs_table table[HS_MAX_FEATURES] = {{0}};
    (void)state;
    place_open(&p, folder, "checkpoint");
    (void)snprintf(p.config, LEN, "%s", ranking_config(&p.files, folder, "\"contextual_mask\": false, ", 0));
    must_convert(p.in, p.out, p.config, NULL);
    hstu_model *model = open_model(p.out, NULL, NULL);
    assert_ok(hs_safetensors_open(&dict, p.out, &err), &err);
    twice = dict;
    twice.entry = hs_calloc(dict.n_entries + 1, sizeof *twice.entry);
    memcpy(twice.entry, dict.entry, dict.n_entries * sizeof *twice.entry);
    for (size_t i = 0; i < dict.n_entries; i++) {
        if (strcmp(dict.entry[i].name, "_embedding_collection.video_id.keys") == 0)
            twice.entry[twice.n_entries++] = dict.entry[i];
    }
    assert_int_equal(twice.n_entries, dict.n_entries + 1);
    twice.entry[dict.n_entries].name = "module._embedding_collection.video_id.keys";
    assert_int_equal(hs_tables_from_dict(table, &model->model.config, &twice, "", &err), HSTU_ESHAPE);
    assert_non_null(strstr(err.msg, "'module._embedding_collection.video_id.keys' are one, expected it once"));
    hs_free(twice.entry);
    hs_statedict_close(&dict);
    hstu_model_close(model);
    remove_folder(p.files.folder);
}

/* ---- folders and their configuration ---------------------------------------------------------------------------- */

/* The case's configuration with one text in it replaced. */
static void expect_mismatch(const char *folder, const char *from, const char *to, const char *mentions)
{
    place p;
    hstu_error err;
    hstu_model *model = NULL;
    hstu_model_options options;
    size_t size = 0;
    place_open(&p, folder, "checkpoint");
    (void)ranking_config(&p.files, folder, "\"contextual_mask\": false, ", 0);
    char *text = read_whole(scratch_path(&p.files, "config.json"), &size), changed[8192];
    char *at = strstr(text, from);
    assert_non_null(at);
    *at = '\0';
    assert_true(snprintf(changed, sizeof changed, "%s%s%s", text, to, at + strlen(from)) < (int)sizeof changed);
    scratch_text(&p.files, "config.json", changed);
    hstu_model_options_init(&options);
    options.config = scratch_path(&p.files, "config.json");
    const hstu_status status = hstu_model_open(&model, p.in, &options, &err);
    if (status != HSTU_EINVAL || !strstr(err.msg, mentions))
        fail_msg("found %d \"%s\", expected \"%s\"", status, status ? err.msg : "", mentions);
    free(text);
    remove_folder(p.files.folder);
}

static void test_tables_that_do_not_fit(void **state)
{
    const char *c6 = "ranking/c6_fused_fp32";
    (void)state;
    expect_mismatch(c6, "\"rows\": 233", "\"rows\": 232", "have 275 rows, but");
    expect_mismatch(c6, "\"tables\": [", "\"tables\": [ {\"name\": \"extra\", \"dynamic\": true},",
        "lacks the dynamic table 'extra'");
    expect_mismatch(c6, "\"name\": \"user_id\",\n   \"dynamic\": true",
        "\"name\": \"user_id\", \"rows\": 9, \"dynamic\": false", "holds the dynamic table 'user_id', which");
}

/* Where config.json is looked for, when nobody names a configuration. */
static void test_configuration_in_the_folder(void **state)
{
    const char *folder = "ranking/c6_fused_fp32";
    static const char *const parts[] = {"torch_module", "dynamicemb_module"};
    place p;
    hstu_error err;
    hstu_model_info info;
    hstu_model *model = NULL;
    char from[LEN + 32], name[64];
    (void)state;
    place_open(&p, folder, "checkpoint");
    scratch_mkdir(&p.files, "run");
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(from, sizeof from, "%s/%s", p.in, parts[i]);
        (void)snprintf(name, sizeof name, "run/%s", parts[i]);
        assert_int_equal(symlink(from, scratch_path(&p.files, name)), 0);
    }
    (void)ranking_config(&p.files, folder, "\"contextual_mask\": true, ", 0);
    char run[LEN], beside[LEN], inside[LEN];
    (void)snprintf(run, sizeof run, "%s", scratch_path(&p.files, "run"));
    (void)snprintf(beside, sizeof beside, "%s", scratch_path(&p.files, "config.json"));
    (void)snprintf(inside, sizeof inside, "%s", scratch_path(&p.files, "run/config.json"));
    assert_int_equal(hstu_model_open(&model, run, NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "needs a configuration"));
    /* named by the folder above, which holds this one checkpoint */
    hstu_model *above = open_model(p.files.folder, NULL, NULL);
    hstu_model_get_info(above, &info);
    assert_string_equal(info.config, beside);
    hstu_model_close(above);
    assert_int_equal(rename(beside, inside), 0);
    hstu_model *within = open_model(run, NULL, NULL);
    hstu_model_get_info(within, &info);
    assert_string_equal(info.config, inside);
    assert_true(info.contextual_mask);
    hstu_model_close(within);
    assert_int_equal(unlink(inside), 0);
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof name, "run/%s", parts[i]);
        assert_int_equal(unlink(scratch_path(&p.files, name)), 0);
    }
    remove_folder(p.files.folder);
}

/* Presets have room for more ids than the reference's own tables: a checkpoint may have the one or the other. */
static void test_rows_of_the_reference(void **state)
{
    const char *folder = "ranking/c6_fused_fp32";
    place p;
    hstu_error err;
    hs_nvdir dir;
    hs_statedict dict = {0};
    hs_config config;
    hs_table *table = NULL;
    (void)state;
    place_open(&p, folder, "checkpoint");
    (void)snprintf(p.config, LEN, "%s", ranking_config(&p.files, folder, "\"contextual_mask\": false, ", 0));
    assert_ok(hs_config_open(&config, p.config, HS_CONFIG_ANY, &err), &err);
    assert_ok(hs_nvdir_open(&dir, p.in, &err), &err);
    hs_config_table *last = &config.table[7], *first = &config.table[1];
    assert_int_equal(last->rows, 233);
    last->reference_rows = 233;
    last->rows = 256;
    assert_ok(hs_engine_read_folder(&dir, &config, &dict, &table, &err), &err);
    assert_int_equal(table[7].n_rows, 233);
    assert_int_equal(table[1].n_rows, 8);
    for (int i = 0; i < config.n_tables; i++)
        hs_table_close(&table[i]);
    hs_free(table);
    hs_statedict_close(&dict);
    hs_nvdir_close(&dir);

    assert_ok(hs_nvdir_open(&dir, p.in, &err), &err);
    first->rows = 0; /* what the others leave */
    last->rows = 233;
    last->reference_rows = 0;
    assert_ok(hs_engine_read_folder(&dir, &config, &dict, &table, &err), &err);
    assert_int_equal(table[1].n_rows, 8);
    for (int i = 0; i < config.n_tables; i++)
        hs_table_close(&table[i]);
    hs_free(table);
    hs_statedict_close(&dict);
    hs_nvdir_close(&dir);

    assert_ok(hs_nvdir_open(&dir, p.in, &err), &err);
    first->rows = 9; /* neither all of one nor all of the other */
    last->rows = 256;
    last->reference_rows = 233;
    assert_int_equal(hs_engine_read_folder(&dir, &config, &dict, &table, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "have 275 rows, but"));
    assert_non_null(strstr(err.msg, "says 299 (or, as the reference, 276)"));
    hs_statedict_close(&dict);
    hs_nvdir_close(&dir);

    assert_ok(hs_nvdir_open(&dir, p.in, &err), &err);
    first->rows = last->rows = last->reference_rows = 0;
    assert_int_equal(hs_engine_read_folder(&dir, &config, &dict, &table, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "leaves open how many 2 of them have and gives 34 to the others"));
    hs_statedict_close(&dict);
    hs_nvdir_close(&dir);
    hs_config_free(&config);
    remove_folder(p.files.folder);
}

/* ---- decoder ---------------------------------------------------------------------------------------------------- */

static void compare_decoders(const hstu_model *a, const hstu_model *b)
{
    enum { N = 61 };
    const hstu_model *model[2] = {a, b};
    const int64_t offset[3] = {0, 5, 7}, item[7] = {0, 60, 7, 3, 9, 1, 0};
    const hstu_batch batch = {.n_users = 2, .offset = offset, .item_id = item};
    int64_t found[2][2 * N];
    float score[2][2 * N];
    hstu_error err;
    for (int i = 0; i < 2; i++) {
        hstu_session *session = NULL;
        assert_ok(hstu_session_open(&session, model[i], &err), &err);
        assert_ok(hstu_recommend(session, &batch, N, NULL, found[i], score[i], NULL, &err), &err);
        hstu_session_close(session);
    }
    assert_memory_equal(found[0], found[1], sizeof found[0]);
    assert_memory_equal(score[0], score[1], sizeof score[0]);
}

static void test_decoder(void **state)
{
    static const char *const files[] = {"model_raw.pt", "model_wrapped.pt"}, *const dtypes[] = {"fp32", "bf16"};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        place p;
        place_open(&p, "decoder/model_fp32", files[i / 2]);
        must_convert(p.in, p.out, NULL, dtypes[i % 2]);
        must_convert(p.out, p.again, NULL, dtypes[i % 2]);
        assert_same_bytes(p.out, p.again);
        hstu_model *a = open_model(p.in, NULL, dtypes[i % 2]), *b = open_model(p.out, NULL, dtypes[i % 2]);
        compare_configs(a, b);
        compare_decoders(a, b);
        assert_null(b->model.weight.item.memory);
        assert_null(b->model.weight.vocabulary.memory);
        hstu_model_close(a);
        hstu_model_close(b);
        remove_folder(p.files.folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranking),
        cmocka_unit_test(test_ranking_in_bf16),
        cmocka_unit_test(test_ranks_are_joined),
        cmocka_unit_test(test_inspect_and_refusals),
        cmocka_unit_test(test_a_table_twice),
        cmocka_unit_test(test_tables_that_do_not_fit),
        cmocka_unit_test(test_configuration_in_the_folder),
        cmocka_unit_test(test_rows_of_the_reference),
        cmocka_unit_test(test_decoder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
