/* NVIDIA checkpoint folders: the reference's own open with the right layout, ranks and tables; folders that lack something
 * or do not fit are refused by what is wrong. */
#include "ckpt/nvdir.h"

#include "base/alloc.h"
#include "dataset/scratch.h"
#include "file/safetensors.h"

#define RANKING TEST_DATA "/golden/ranking/"
#define MODULE "dynamicemb_module/model._embedding_collection._model_parallel_embedding_collection"
#define SIX                                                                                                            \
    "user_active_degree/follow_user_num_range/fans_user_num_range/friend_user_num_range/register_days_range/"          \
    "action_weights"

static void open_good(hs_nvdir *out, const char *path)
{
    hstu_error err;
    *out = (hs_nvdir){0};
    if (hs_nvdir_open(out, path, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

static void expect_refusal(const char *path, hstu_status code, const char *sentence)
{
    hs_nvdir dir = {0};
    hstu_error err;
    const hstu_status status = hs_nvdir_open(&dir, path, &err);
    if (status == HSTU_OK)
        fail_msg("%s: opened, expected: %s", path, sentence);
    if (status != code || !strstr(err.msg, sentence))
        fail_msg("%s: status %d, '%s', expected: %s", path, (int)status, err.msg, sentence);
    assert_null(dir.rank);
}

typedef struct expected_table {
    const char *name;
    uint64_t rows, dim;
    uint32_t world_size; /* 0: static; of a dynamic one without files, rows is 0 too */
} expected_table;

static void check_table(const char *path, const hs_nvdir_table *t, const expected_table *want)
{
    if (strcmp(t->name, want->name) != 0 || t->rows != want->rows || t->dim != want->dim)
        fail_msg("%s: found table %s [%d, %d], expected %s [%d, %d]", path, t->name, (int)t->rows, (int)t->dim,
            want->name, (int)want->rows, (int)want->dim);
    assert_int_equal(t->dynamic ? t->dynamic->world_size : 0, want->world_size);
    if (t->flat)
        assert_int_equal(hs_tensor_elements(t->flat), (int64_t)(want->rows * want->dim));
    else
        assert_true(t->dynamic || t->rows == 0);
}

static void test_golden_folders(void **state)
{
    static const expected_table whole[] = {{SIX, 275, 32, 0}, {"user_id", 13, 32, 1}, {"video_id", 153, 32, 1}},
                                without_files[] = {{SIX, 275, 32, 0}, {"user_id", 0, 0, 0}, {"video_id", 0, 0, 0}},
                                two_ranks[] = {{"action_weights", 233, 24, 0}, {"video_id", 153, 24, 2}};
    static const struct {
        const char *folder;
        hs_nvdir_layout layout;
        uint32_t n_ranks, tensor_parallel;
        size_t n_entries; /* of each rank */
        const expected_table *table;
        size_t n_tables;
    } cases[] = {
        {"c0_hd32_d24_pclamp_2rank/checkpoint", HS_NVDIR_FUSED, 1, 1, 23, two_ranks, 2},
        {"c0_hd32_d24_pclamp_2rank/checkpoint_sharded_dummies", HS_NVDIR_FUSED, 1, 1, 22, two_ranks, 1},
        {"c6_fused_bf16/checkpoint", HS_NVDIR_FUSED, 1, 1, 40, whole, 3},
        {"c6_fused_fp32/checkpoint", HS_NVDIR_FUSED, 1, 1, 22, whole, 3},
        {"c6_fused_fp32/checkpoint_debug", HS_NVDIR_DEBUG, 1, 1, 22, without_files, 3},
        {"c6_fused_fp32/checkpoint_native", HS_NVDIR_NATIVE, 1, 1, 24, without_files, 3},
        {"c6_fused_fp32/checkpoint_native_tp2", HS_NVDIR_NATIVE, 2, 2, 24, without_files, 3},
        {"noln_noresidual/checkpoint", HS_NVDIR_FUSED, 1, 1, 18, whole, 3},
        {"premlp_blocks/checkpoint", HS_NVDIR_FUSED, 1, 1, 27, NULL, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512];
        hs_nvdir dir;
        snprintf(path, sizeof path, RANKING "%s", cases[i].folder);
        open_good(&dir, path);
        assert_string_equal(dir.folder.text, path);
        assert_string_equal(hs_nvdir_layout_name(dir.layout), hs_nvdir_layout_name(cases[i].layout));
        assert_string_equal(dir.group, "model_state_dict");
        assert_int_equal(dir.n_ranks, cases[i].n_ranks);
        assert_int_equal(dir.tensor_parallel, cases[i].tensor_parallel);
        for (uint32_t r = 0; r < dir.n_ranks; r++)
            assert_int_equal(dir.rank[r].n_entries, cases[i].n_entries);
        assert_int_equal(dir.n_tables, cases[i].n_tables);
        for (size_t t = 0; t < dir.n_tables; t++)
            check_table(path, &dir.table[t], &cases[i].table[t]);
        hs_nvdir_close(&dir);
    }
}

/* The rows of a feature lie `first` rows into the shared tensor. */
static void compare_static(const hs_nvdir_table *table, const hs_statedict *inputs, const hs_statedict *expected,
    const char *ids, const char *rows, int64_t first)
{
    const hs_entry *id = hs_statedict_find(inputs, "", ids), *row = hs_statedict_find(expected, "", rows);
    hstu_error err;
    assert_non_null(id);
    assert_non_null(row);
    const int64_t n = hs_tensor_elements(&id->tensor), dim = (int64_t)table->dim;
    int64_t *key = hs_alloc((size_t)n, sizeof *key);
    float *flat = hs_alloc((size_t)hs_tensor_elements(table->flat), sizeof *flat);
    float *want = hs_alloc((size_t)(n * dim), sizeof *want);
    assert_int_equal(row->tensor.shape[1], dim);
    assert_int_equal(hs_tensor_to_i64(&id->tensor, key, ids, &err), HSTU_OK);
    hs_tensor_to_f32(&row->tensor, want);
    hs_tensor_to_f32(table->flat, flat);
    for (int64_t i = 0; i < n; i++)
        assert_memory_equal(flat + (first + key[i]) * dim, want + i * dim, (size_t)dim * sizeof(float));
    hs_free(key);
    hs_free(flat);
    hs_free(want);
}

static void test_static_rows(void **state)
{
    hs_statedict inputs = {0}, expected = {0};
    hs_nvdir dir;
    hstu_error err;
    (void)state;
    assert_int_equal(hs_safetensors_open(&inputs, RANKING "c6_fused_fp32/inputs.safetensors", &err), HSTU_OK);
    assert_int_equal(hs_safetensors_open(&expected, RANKING "c6_fused_fp32/embeddings.safetensors", &err), HSTU_OK);
    open_good(&dir, RANKING "c6_fused_fp32/checkpoint_native_tp2"); /* the same weights, split */
    compare_static(&dir.table[0], &inputs, &expected, "ctx.user_active_degree", "emb.user_active_degree", 0);
    compare_static(&dir.table[0], &inputs, &expected, "ctx.register_days_range", "emb.register_days_range", 34);
    compare_static(&dir.table[0], &inputs, &expected, "actions", "emb.action_weights", 42);
    hs_nvdir_close(&dir);
    hs_statedict_close(&inputs);
    hs_statedict_close(&expected);
}

/* ---- Folders that are put together ------------------------------------------------------------------------------ */

static void link_to(scratch *s, const char *name, const char *golden)
{
    char target[512];
    snprintf(target, sizeof target, RANKING "%s", golden);
    assert_int_equal(access(target, R_OK), 0);
    assert_int_equal(symlink(target, scratch_path(s, name)), 0);
}

#define FUSED "c6_fused_fp32/checkpoint/torch_module/model.0.pth"
#define NATIVE "c6_fused_fp32/checkpoint_native/torch_module/model.0.pth"
#define PART_0 "c6_fused_fp32/checkpoint_native_tp2/torch_module/model.0.pth"
#define PART_1 "c6_fused_fp32/checkpoint_native_tp2/torch_module/model.1.pth"

static void test_ranks(void **state)
{
    scratch *s = *state;
    hs_nvdir dir;
    scratch_mkdir(s, "torch_module");
    expect_refusal(s->folder, HSTU_EFORMAT, "there is no model.0.pth, but files of 0 ranks");
    link_to(s, "torch_module/model.0.pth", PART_0);
    expect_refusal(s->folder, HSTU_EFORMAT, "its layers are split over 2 ranks, but there are files of 1");
    link_to(s, "torch_module/model.2.pth", PART_0);
    expect_refusal(s->folder, HSTU_EFORMAT, "there is no model.1.pth, but files of 2 ranks");
    link_to(s, "torch_module/model.1.pth", PART_1);
    expect_refusal(s->folder, HSTU_EFORMAT, "its layers are split over 2 ranks, but there are files of 3");
    link_to(s, "torch_module/model.3.pth", PART_1);
    scratch_text(s, "torch_module/model.x.pth", "other files are nobody's business");
    scratch_text(s, "torch_module/model.04.pth", "");
    open_good(&dir, s->folder); /* two copies of two parts */
    assert_int_equal(dir.n_ranks, 4);
    assert_int_equal(dir.tensor_parallel, 2);
    hs_nvdir_close(&dir);
    assert_int_equal(remove(scratch_path(s, "torch_module/model.3.pth")), 0);
    link_to(s, "torch_module/model.3.pth", NATIVE);
    expect_refusal(s->folder, HSTU_EFORMAT,
        "model.3.pth: expected _hstu_block._attention_layers.0._linear_uvqk.weight [64, 32] as in model.0.pth, found "
        "_hstu_block._attention_layers.0._linear_uvqk.weight [128, 32]");
    assert_int_equal(remove(scratch_path(s, "torch_module/model.3.pth")), 0);
    link_to(s, "torch_module/model.3.pth", FUSED);
    expect_refusal(s->folder, HSTU_EFORMAT, "found _hstu_block._attention_layers.0._linear_uvqk_weight [32, 128]");
}

static void test_copies_of_a_fused_model(void **state)
{
    scratch *s = *state;
    hs_nvdir dir;
    size_t n = 0;
    scratch_mkdir(s, "torch_module");
    link_to(s, "torch_module/model.0.pth", FUSED);
    link_to(s, "torch_module/model.1.pth", FUSED);
    open_good(&dir, s->folder);
    assert_int_equal(dir.n_ranks, 2);
    assert_int_equal(dir.tensor_parallel, 1);
    hs_nvdir_close(&dir);
    assert_int_equal(remove(scratch_path(s, "torch_module/model.1.pth")), 0);
    link_to(s, "torch_module/model.1.pth", "noln_noresidual/checkpoint/torch_module/model.0.pth"); /* fewer tensors */
    expect_refusal(s->folder, HSTU_EFORMAT, "expected _hstu_block._attention_layers.0._input_layernorm_weight [32]");

    /* A file that is cut anywhere. */
    assert_int_equal(remove(scratch_path(s, "torch_module/model.1.pth")), 0);
    assert_int_equal(remove(scratch_path(s, "torch_module/model.0.pth")), 0);
    char *data = read_whole(RANKING FUSED, &n);
    for (size_t cut = 0; cut < n; cut += n / 7) {
        scratch_write(s, "torch_module/model.0.pth", data, cut);
        expect_refusal(s->folder, HSTU_EFORMAT, "model.0.pth");
    }
    free(data);
    scratch_copy(s, "torch_module/model.0.pth", TEST_DATA "/golden/retrieval/base_h1_n71/checkpoint_ep100");
    expect_refusal(s->folder, HSTU_EFORMAT, "no checkpoint of NVIDIA's HSTU");
}

static void test_parents(void **state)
{
    scratch *s = *state;
    hs_nvdir dir;
    scratch_mkdir(s, "notes");
    expect_refusal(s->folder, HSTU_EINVAL, "is a folder: expected a PyTorch or safetensors file, or a folder with");
    link_to(s, "iter550", "c6_fused_fp32/checkpoint");
    open_good(&dir, s->folder);
    assert_string_equal(dir.folder.text, scratch_path(s, "iter550"));
    assert_int_equal(dir.n_tables, 3);
    hs_nvdir_close(&dir);
    link_to(s, "iter600", "c6_fused_fp32/checkpoint");
    expect_refusal(s->folder, HSTU_EINVAL, "holds 2 checkpoints, 'iter550' to 'iter600': name one of them");
    expect_refusal("/nowhere/at/all", HSTU_ENOENT, "/nowhere/at/all");
}

static void test_tables(void **state)
{
    scratch *s = *state;
    hs_nvdir dir;
    scratch_mkdir(s, "torch_module");
    link_to(s, "torch_module/model.0.pth", FUSED);
    scratch_mkdir(s, "dynamicemb_module");
    scratch_text(s, "dynamicemb_module/readme", "a file beside the modules");
    link_to(s, "dynamicemb_module/first", "c6_fused_fp32/checkpoint/" MODULE);
    open_good(&dir, s->folder);
    assert_int_equal(dir.n_tables, 3);
    hs_nvdir_close(&dir);
    link_to(s, "dynamicemb_module/second", "noln_noresidual/checkpoint/" MODULE);
    expect_refusal(s->folder, HSTU_EFORMAT, "the table 'user_id' stands in two folders of dynamicemb_module");
    /* Rows of 24 floats for a model of width 32. */
    assert_int_equal(remove(scratch_path(s, "dynamicemb_module/first")), 0);
    assert_int_equal(remove(scratch_path(s, "dynamicemb_module/second")), 0);
    link_to(s, "dynamicemb_module/first", "c0_hd32_d24_pclamp_2rank/checkpoint/" MODULE);
    expect_refusal(s->folder, HSTU_EFORMAT,
        "video_id_emb_values.rank_0.world_size_2: 6144 bytes for 64 keys, expected 8192 (rows of 32 floats)");
    assert_int_equal(remove(scratch_path(s, "dynamicemb_module/first")), 0);
    scratch_mkdir(s, "dynamicemb_module/third"); /* empty: the tables are named, their files missing */
    open_good(&dir, s->folder);
    assert_int_equal(dir.n_tables, 3);
    assert_null(dir.table[1].dynamic);
    assert_null(dir.table[1].flat);
    hs_nvdir_close(&dir);
}

/* Preprocessing networks: the rows have the networks' widths, 12 for items and 10 for contexts, and no other. */
static void test_two_widths(void **state)
{
    static const int64_t keys[] = {1, 2};
    static const float values[24] = {0};
    scratch *s = *state;
    hs_nvdir dir;
    scratch_mkdir(s, "torch_module");
    link_to(s, "torch_module/model.0.pth", "premlp_blocks/checkpoint/torch_module/model.0.pth");
    scratch_mkdir(s, "dynamicemb_module");
    scratch_mkdir(s, "dynamicemb_module/m");
    scratch_write(s, "dynamicemb_module/m/a_emb_keys.rank_0.world_size_1", keys, sizeof keys);
    scratch_write(s, "dynamicemb_module/m/a_emb_values.rank_0.world_size_1", values, 2 * 12 * sizeof *values);
    scratch_write(s, "dynamicemb_module/m/b_emb_keys.rank_0.world_size_1", keys, sizeof keys);
    scratch_write(s, "dynamicemb_module/m/b_emb_values.rank_0.world_size_1", values, 2 * 10 * sizeof *values);
    open_good(&dir, s->folder);
    assert_int_equal(dir.n_tables, 2);
    assert_int_equal(dir.table[0].dim, 12);
    assert_int_equal(dir.table[1].dim, 10);
    hs_nvdir_close(&dir);
    scratch_write(s, "dynamicemb_module/m/b_emb_values.rank_0.world_size_1", values, 2 * 11 * sizeof *values);
    expect_refusal(s->folder, HSTU_EFORMAT, "the rows of the table 'b' have 11 floats, expected 12 or 10");
}

/* ---- Weights made for the purpose (any weight file may stand under a rank's name) ------------------------------- */

#define LAYER "module._hstu_block._attention_layers.0."
#define STATIC "_embedding_collection._data_parallel_embedding_collection.embeddings."

typedef struct given {
    const char *name;
    int64_t rows, cols; /* cols 0: a vector */
} given;

enum { MAX_GIVEN = 4 };

static void write_weights(scratch *s, const char *name, const given *tensor)
{
    static const float zeros[256];
    hs_safetensors_writer *w = NULL;
    hstu_error err;
    assert_int_equal(hs_safetensors_create(&w, scratch_path(s, name), &err), HSTU_OK);
    for (size_t i = 0; i < MAX_GIVEN && tensor[i].name; i++) {
        const int64_t shape[2] = {tensor[i].rows, tensor[i].cols};
        assert_int_equal(
            hs_safetensors_add_tensor(w, tensor[i].name, HS_F32, tensor[i].cols ? 2 : 1, shape, &err), HSTU_OK);
    }
    for (size_t i = 0; i < MAX_GIVEN && tensor[i].name; i++) {
        const size_t n = (size_t)(tensor[i].rows * (tensor[i].cols ? tensor[i].cols : 1));
        assert_true(n <= sizeof zeros / sizeof *zeros);
        assert_int_equal(hs_safetensors_write(w, zeros, n * sizeof *zeros, &err), HSTU_OK);
    }
    assert_int_equal(hs_safetensors_commit(w, &err), HSTU_OK);
}

static void test_made_weights(void **state)
{
    static const struct {
        given tensor[MAX_GIVEN];
        hstu_status code;
        const char *sentence;
    } bad[] = {
        {{{LAYER "_linear_uvqk_weight", 4, 16}, {"_hstu_block._attention_layers.1._linear_uvqk.weight", 16, 4}},
            HSTU_EFORMAT, "layers of two layouts"},
        {{{LAYER "_linear_uvqk_weight", 4, 0}}, HSTU_ESHAPE, "has rank 1, expected a matrix that is not empty"},
        {{{LAYER "_linear_uvqk.weight", 12, 4}, {LAYER "_output_ln_dropout_mul.weight", 4, 0}}, HSTU_ESHAPE,
            "has 12 rows, expected 4 x 4 (the size of"},
        {{{LAYER "_linear_uvqk.weight", 16, 4}, {LAYER "_output_ln_dropout_mul.weight", 2, 2}}, HSTU_ESHAPE,
            "has 16 rows, expected 4 x 0"},
        {{{LAYER "_linear_proj_weight", 16, 4}}, HSTU_EFORMAT, "no checkpoint of NVIDIA's HSTU"},
        {{{LAYER "_linear_uvqk_weight", 4, 16}, {STATIC "a/b", 8, 0}}, HSTU_EFORMAT, "ends with '<table>_weights'"},
        {{{LAYER "_linear_uvqk_weight", 4, 16}, {STATIC "_weights", 8, 0}}, HSTU_EFORMAT,
            "ends with '<table>_weights'"},
        {{{LAYER "_linear_uvqk_weight", 4, 16}, {STATIC "a_weights", 2, 4}}, HSTU_ESHAPE,
            "is fp32 of rank 2, expected one flat vector of floats"},
        {{{LAYER "_linear_uvqk_weight", 4, 16}, {STATIC "a_weights", 9, 0}}, HSTU_ESHAPE,
            "has 9 numbers, expected rows of 4"},
        {{{LAYER "_linear_uvqk_weight", 4, 16}, {"_hstu_block._preprocessor._item_mlp._mlp.0.weight", 4, 0}},
            HSTU_ESHAPE, "_item_mlp._mlp.0.weight' has rank 1, expected a matrix"},
    };
    static const given no_norm[MAX_GIVEN] = {
        {LAYER "_linear_uvqk.weight", 8, 4}, {LAYER "_linear_proj._extra_state", 1, 0}};
    scratch *s = *state;
    hs_nvdir dir;
    scratch_mkdir(s, "torch_module");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_weights(s, "torch_module/model.0.pth", bad[i].tensor);
        expect_refusal(s->folder, bad[i].code, bad[i].sentence);
    }
    /* Without an output norm nothing tells copies from parts. */
    write_weights(s, "torch_module/model.0.pth", no_norm);
    write_weights(s, "torch_module/model.1.pth", no_norm);
    open_good(&dir, s->folder);
    assert_string_equal(hs_nvdir_layout_name(dir.layout), "NATIVE");
    assert_string_equal(dir.group, "");
    assert_int_equal(dir.tensor_parallel, 2);
    hs_nvdir_close(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_folders),
        cmocka_unit_test(test_static_rows),
        cmocka_unit_test_setup_teardown(test_ranks, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_copies_of_a_fused_model, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_parents, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_tables, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_two_widths, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_made_weights, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
