/* One form of an NVIDIA folder's weights: the reference's layouts of one model give the same bits, made ones what the formula of
 * the layouts says, and the tables of a shared tensor stand where the reference looks for them. */
#include "base/alloc.h"
#include "base/half.h"
#include "ckpt/nvdir.h"
#include "dataset/scratch.h"
#include "file/safetensors.h"

#define RANKING TEST_DATA "/golden/ranking/"

static void open_good(hs_nvdir *out, const char *path)
{
    hstu_error err;
    *out = (hs_nvdir){0};
    if (hs_nvdir_open(out, path, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

static void weights_of(hs_statedict *out, const hs_nvdir *dir, int64_t head_dim)
{
    hstu_error err;
    *out = (hs_statedict){0};
    if (hs_nvdir_weights(out, dir, head_dim, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

/* ---- The reference's layouts ------------------------------------------------------------------------------------ */

static void compare_tensors(const hs_entry *a, const hs_entry *b)
{
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->tensor.dtype, b->tensor.dtype);
    if (!hs_tensor_shape_is(&a->tensor, b->tensor.rank, b->tensor.shape))
        fail_msg("%s has another shape", a->name);
    const size_t n = (size_t)hs_tensor_elements(&a->tensor);
    float *x = hs_alloc(n, sizeof *x), *y = hs_alloc(n, sizeof *y);
    hs_tensor_to_f32(&a->tensor, x);
    hs_tensor_to_f32(&b->tensor, y);
    if (memcmp(x, y, n * sizeof *x) != 0)
        fail_msg("%s differs", a->name);
    hs_free(x);
    hs_free(y);
}

static void test_layouts_give_the_same_bits(void **state)
{
    static const char *const other[] = {"checkpoint_debug", "checkpoint_native", "checkpoint_native_tp2"};
    hs_nvdir fused, dir;
    hs_statedict want, found;
    (void)state;
    open_good(&fused, RANKING "c6_fused_fp32/checkpoint");
    weights_of(&want, &fused, 0); /* not read */
    assert_int_equal(want.n_entries, 1 + 2 * 7 + 4);
    assert_string_equal(want.path, RANKING "c6_fused_fp32/checkpoint");
    for (size_t i = 0; i < want.n_entries; i++) {
        const hs_entry *e = hs_statedict_find(&fused.rank[0], "model_state_dict", want.entry[i].name);
        assert_non_null(e);
        assert_ptr_equal(want.entry[i].tensor.data, e->tensor.data); /* no copy */
        assert_string_equal(want.entry[i].group, "");
    }
    for (size_t k = 0; k < sizeof other / sizeof *other; k++) {
        char path[512];
        snprintf(path, sizeof path, RANKING "c6_fused_fp32/%s", other[k]);
        open_good(&dir, path);
        weights_of(&found, &dir, 16);
        assert_int_equal(found.n_entries, want.n_entries);
        for (size_t i = 0; i < want.n_entries; i++)
            compare_tensors(&found.entry[i], &want.entry[i]);
        hs_statedict_close(&found);
        hs_nvdir_close(&dir);
    }
    hs_statedict_close(&want);
    hs_nvdir_close(&fused);
}

static void test_bf16_stays(void **state)
{
    hs_nvdir dir;
    hs_statedict found;
    (void)state;
    open_good(&dir, RANKING "c6_fused_bf16/checkpoint");
    weights_of(&found, &dir, 16);
    assert_int_equal(found.n_entries, 19);
    for (size_t i = 0; i < found.n_entries; i++)
        assert_int_equal(found.entry[i].tensor.dtype, HS_BF16);
    assert_non_null(hs_statedict_find(&found, "", "_mlp._mlp.0.weight"));
    assert_non_null(
        hs_statedict_find(&found, "", "_hstu_block._preprocessor._positional_encoder._position_embeddings_weight"));
    hs_statedict_close(&found);
    hs_nvdir_close(&dir);
}

/* ---- Made weights: D 3, 4 heads of 2 over two ranks ------------------------------------------------------------- */

enum { D = 3, HEADS = 4, DIM = 2, RANKS = 2, WIDTH = HEADS * DIM, MAX_GIVEN = 8 };

#define LAYER "module._hstu_block._attention_layers.7."
#define BARE "_hstu_block._attention_layers.7."

typedef struct given {
    const char *name;
    int64_t rows, cols; /* cols 0: a vector */
} given;

/* What stands in a tensor's row and column, told apart by rank; exact in bf16. */
static float value_at(uint32_t rank, int64_t row, int64_t col)
{
    return (float)(rank * 128 + row * 4 + col);
}

static void write_rank(scratch *s, uint32_t rank, hs_dtype dtype, const given *tensor)
{
    char name[64];
    hs_safetensors_writer *w = NULL;
    hstu_error err;
    snprintf(name, sizeof name, "torch_module/model.%u.pth", (unsigned)rank);
    assert_int_equal(hs_safetensors_create(&w, scratch_path(s, name), &err), HSTU_OK);
    for (size_t i = 0; i < MAX_GIVEN && tensor[i].name; i++) {
        const int64_t shape[2] = {tensor[i].rows, tensor[i].cols};
        assert_int_equal(
            hs_safetensors_add_tensor(w, tensor[i].name, dtype, tensor[i].cols ? 2 : 1, shape, &err), HSTU_OK);
    }
    for (size_t i = 0; i < MAX_GIVEN && tensor[i].name; i++) {
        const int64_t cols = tensor[i].cols ? tensor[i].cols : 1;
        for (int64_t k = 0; k < tensor[i].rows * cols; k++) {
            const float value = value_at(rank, k / cols, k % cols);
            const uint16_t half = hs_f32_to_bf16(value);
            const void *at = dtype == HS_BF16 ? (const void *)&half : (const void *)&value;
            assert_int_equal(hs_safetensors_write(w, at, hs_dtype_bytes(dtype), &err), HSTU_OK);
        }
    }
    assert_int_equal(hs_safetensors_commit(w, &err), HSTU_OK);
}

static const given MADE[MAX_GIVEN] = {{LAYER "_linear_proj.weight", D, WIDTH / RANKS},
    {LAYER "_linear_uvqk._extra_state", 5, 0}, {LAYER "_linear_uvqk.bias", 4 * WIDTH / RANKS, 0},
    {LAYER "_linear_uvqk.weight", 4 * WIDTH / RANKS, D}, {LAYER "_output_ln_dropout_mul.bias", WIDTH, 0},
    {LAYER "_output_ln_dropout_mul.weight", WIDTH, 0}, {"module.model._something._linear_proj.weight", 2, 2}};

static void check_made(const hs_statedict *dict, hs_dtype dtype)
{
    static const int64_t uvqk_shape[] = {D, 4 * WIDTH}, proj_shape[] = {WIDTH, D}, bias_shape[] = {4 * WIDTH};
    float uvqk[D * 4 * WIDTH], bias[4 * WIDTH], proj[WIDTH * D];
    const hs_entry *u = hs_statedict_find(dict, "", BARE "_linear_uvqk_weight"),
                   *b = hs_statedict_find(dict, "", BARE "_linear_uvqk_bias"),
                   *p = hs_statedict_find(dict, "", BARE "_linear_proj_weight");
    assert_non_null(u);
    assert_non_null(b);
    assert_non_null(p);
    assert_int_equal(u->tensor.dtype, dtype);
    assert_true(hs_tensor_shape_is(&u->tensor, 2, uvqk_shape) && hs_tensor_contiguous(&u->tensor));
    assert_true(hs_tensor_shape_is(&b->tensor, 1, bias_shape) && hs_tensor_contiguous(&b->tensor));
    assert_true(hs_tensor_shape_is(&p->tensor, 2, proj_shape) && hs_tensor_contiguous(&p->tensor));
    hs_tensor_to_f32(&u->tensor, uvqk);
    hs_tensor_to_f32(&b->tensor, bias);
    hs_tensor_to_f32(&p->tensor, proj);
    const int64_t part_rows = 4 * WIDTH / RANKS, part_cols = WIDTH / RANKS;
    for (int64_t s = 0; s < 4; s++) {
        for (int64_t n = 0; n < HEADS; n++) {
            for (int64_t j = 0; j < DIM; j++) {
                const int64_t row = n * 4 * DIM + s * DIM + j, col = s * WIDTH + n * DIM + j;
                const uint32_t rank = (uint32_t)(row / part_rows);
                assert_true(bias[col] == value_at(rank, row % part_rows, 0));
                for (int64_t k = 0; k < D; k++)
                    assert_true(uvqk[k * 4 * WIDTH + col] == value_at(rank, row % part_rows, k));
            }
        }
    }
    for (int64_t c = 0; c < WIDTH; c++) {
        for (int64_t k = 0; k < D; k++)
            assert_true(proj[c * D + k] == value_at((uint32_t)(c / part_cols), k, c % part_cols));
    }
}

static void test_made_parts(void **state)
{
    static const hs_dtype dtypes[] = {HS_F32, HS_BF16};
    scratch *s = *state;
    hs_nvdir dir;
    hs_statedict found;
    scratch_mkdir(s, "torch_module");
    for (size_t i = 0; i < 2; i++) {
        for (uint32_t r = 0; r < 2 * RANKS; r++) /* two copies */
            write_rank(s, r, dtypes[i], MADE);
        open_good(&dir, s->folder);
        assert_int_equal(dir.tensor_parallel, RANKS);
        weights_of(&found, &dir, DIM);
        check_made(&found, dtypes[i]);
        /* Six of seven: no extra state. What is no layer's keeps its name behind the wrappers. */
        assert_int_equal(found.n_entries, 6);
        assert_non_null(hs_statedict_find(&found, "", BARE "_output_layernorm_weight"));
        assert_non_null(hs_statedict_find(&found, "", BARE "_output_layernorm_bias"));
        assert_non_null(hs_statedict_find(&found, "", "_something._linear_proj.weight"));
        hs_statedict_close(&found);
        hs_nvdir_close(&dir);
    }
}

/* ---- Refusals --------------------------------------------------------------------------------------------------- */

static void expect_refusal(scratch *s, const given *tensor, int64_t head_dim, hstu_status code, const char *sentence)
{
    hs_nvdir dir;
    hs_statedict found = {0};
    hstu_error err;
    write_rank(s, 0, HS_F32, tensor);
    open_good(&dir, s->folder);
    const hstu_status status = hs_nvdir_weights(&found, &dir, head_dim, &err);
    if (status == HSTU_OK)
        fail_msg("no refusal, expected: %s", sentence);
    if (status != code || !strstr(err.msg, sentence) || !strstr(err.msg, "torch_module/model.0.pth"))
        fail_msg("status %d, '%s', expected: %s", (int)status, err.msg, sentence);
    assert_null(found.entry);
    hs_nvdir_close(&dir);
}

static void test_what_must_be_refused(void **state)
{
    static const given good[MAX_GIVEN] = {{LAYER "_linear_uvqk.weight", 16, 3}},
                       flat[MAX_GIVEN] = {{LAYER "_linear_uvqk.weight", 16, 3},
                           {"_hstu_block._attention_layers.8._linear_uvqk.weight", 16, 0}},
                       empty[MAX_GIVEN] = {{LAYER "_linear_uvqk.weight", 16, 3},
                           {"_hstu_block._attention_layers.8._linear_uvqk.weight", 0, 3}},
                       bias[MAX_GIVEN] = {{LAYER "_linear_uvqk.bias", 16, 3}, {LAYER "_linear_uvqk.weight", 16, 3}},
                       narrow[MAX_GIVEN] = {{LAYER "_linear_proj.weight", 3, 6}, {LAYER "_linear_uvqk.weight", 16, 3}};
    scratch *s = *state;
    scratch_mkdir(s, "torch_module");
    expect_refusal(s, good, -4, HSTU_EINVAL, "has 16 rows, expected a multiple of 4 x head_dim, which is -4");
    expect_refusal(s, good, 3, HSTU_EINVAL, "a multiple of 4 x head_dim, which is 3");
    expect_refusal(s, good, 8, HSTU_EINVAL, "a multiple of 4 x head_dim, which is 8"); /* half of a head's u, v, q, k */
    expect_refusal(s, good, INT64_MAX, HSTU_EINVAL, "which is 9223372036854775807");
    expect_refusal(s, flat, 4, HSTU_ESHAPE, "8._linear_uvqk.weight' has rank 1, expected a matrix that is not empty");
    expect_refusal(s, empty, 4, HSTU_ESHAPE, "8._linear_uvqk.weight' has rank 2, expected a matrix that is not empty");
    expect_refusal(s, bias, 4, HSTU_ESHAPE, "_linear_uvqk.bias' has rank 2, expected a vector");
    expect_refusal(
        s, narrow, 4, HSTU_EINVAL, "_linear_proj.weight' has 6 columns, expected a multiple of head_dim, which is 4");
}

static void test_unequal_parts(void **state)
{
    static const given longer[MAX_GIVEN] = {{LAYER "_linear_uvqk.weight", 32, 3}},
                       shorter[MAX_GIVEN] = {{LAYER "_linear_uvqk.weight", 16, 3}};
    scratch *s = *state;
    hs_nvdir dir = {0};
    hstu_error err;
    scratch_mkdir(s, "torch_module");
    write_rank(s, 0, HS_F32, longer);
    write_rank(s, 1, HS_F32, shorter);
    assert_int_equal(hs_nvdir_open(&dir, s->folder, &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "model.1.pth: expected " LAYER "_linear_uvqk.weight [32, 3] as in model.0.pth"));
}

/* ---- Static tables that share a tensor -------------------------------------------------------------------------- */

static void compare_rows(
    const hs_table *table, const hs_statedict *inputs, const hs_statedict *expected, const char *ids, const char *rows)
{
    const hs_entry *id = hs_statedict_find(inputs, "", ids), *row = hs_statedict_find(expected, "", rows);
    hstu_error err;
    assert_non_null(id);
    assert_non_null(row);
    const int64_t n = hs_tensor_elements(&id->tensor), dim = (int64_t)table->dim;
    int64_t *key = hs_alloc((size_t)n, sizeof *key);
    float *want = hs_alloc((size_t)(n * dim), sizeof *want);
    assert_int_equal(hs_tensor_to_i64(&id->tensor, key, ids, &err), HSTU_OK);
    hs_tensor_to_f32(&row->tensor, want);
    assert_true(n > 0);
    for (int64_t i = 0; i < n; i++) {
        assert_non_null(hs_table_row(table, key[i]));
        assert_memory_equal(hs_table_row(table, key[i]), want + i * dim, (size_t)dim * sizeof(float));
    }
    hs_free(key);
    hs_free(want);
}

enum { SHARED_TABLES = 6 };

static const char *const TABLE[SHARED_TABLES] = {"user_active_degree", "follow_user_num_range", "fans_user_num_range",
    "friend_user_num_range", "register_days_range", "action_weights"};
static const uint64_t ROWS[SHARED_TABLES] = {8, 9, 9, 8, 8, 233};

static void test_split(void **state)
{
    hs_statedict inputs = {0}, expected = {0};
    hs_nvdir dir;
    hstu_error err;
    hs_table table[SHARED_TABLES] = {{0}};
    char names[256], ids[64], rows[64];
    (void)state;
    assert_int_equal(hs_safetensors_open(&inputs, RANKING "c6_fused_fp32/inputs.safetensors", &err), HSTU_OK);
    assert_int_equal(hs_safetensors_open(&expected, RANKING "c6_fused_fp32/embeddings.safetensors", &err), HSTU_OK);
    open_good(&dir, RANKING "c6_fused_fp32/checkpoint");
    assert_true(strlen(dir.table[0].name) < sizeof names);
    if (hs_nvdir_split(table, names, &dir.table[0], ROWS, SHARED_TABLES, "c6", &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_ptr_equal(hs_table_row(&table[0], 0), dir.table[0].flat->data); /* no copy */
    for (size_t i = 0; i < SHARED_TABLES; i++) {
        const bool actions = i == SHARED_TABLES - 1;
        assert_string_equal(table[i].name, TABLE[i]);
        assert_int_equal(table[i].n_rows, ROWS[i]);
        assert_int_equal(table[i].dim, 32);
        assert_null(hs_table_row(&table[i], -1));
        assert_null(hs_table_row(&table[i], (int64_t)ROWS[i]));
        snprintf(ids, sizeof ids, actions ? "actions" : "ctx.%s", TABLE[i]);
        snprintf(rows, sizeof rows, "emb.%s", TABLE[i]);
        compare_rows(&table[i], &inputs, &expected, ids, rows);
        hs_table_close(&table[i]);
    }
    hs_nvdir_close(&dir);
    hs_statedict_close(&inputs);
    hs_statedict_close(&expected);
}

static void test_split_refusals(void **state)
{
    static const float values[12] = {0};
    static const hs_tensor flat = {.dtype = HS_F32, .rank = 1, .shape = {12}, .stride = {1}, .data = values},
                           halves = {.dtype = HS_F16, .rank = 1, .shape = {12}, .stride = {1}, .data = values};
    static const struct {
        hs_nvdir_table table;
        uint64_t rows[3];
        size_t n;
        hstu_status code;
        const char *sentence;
    } cases[] = {
        {{.name = "a/b", .flat = &flat, .dim = 2, .rows = 6}, {2, 4, 0}, 3, HSTU_ESHAPE,
            "holds 2 tables, 'a/b', expected 3"},
        {{.name = "a/b", .flat = &flat, .dim = 2, .rows = 6}, {6}, 1, HSTU_ESHAPE, "holds 2 tables, 'a/b', expected 1"},
        {{.name = "a/b", .flat = &flat, .dim = 2, .rows = 6}, {2, 3}, 2, HSTU_ESHAPE,
            "the static tables 'a/b' have 6 rows together, expected 5"},
        {{.name = "a/b", .flat = &flat, .dim = 2, .rows = 6}, {2, 5}, 2, HSTU_ESHAPE, "6 rows together, expected 7"},
        {{.name = "a/b", .flat = &flat, .dim = 2, .rows = 6}, {UINT64_MAX, 7}, 2, HSTU_ESHAPE, "6 rows together"},
        {{.name = "a/b", .flat = &flat}, {2, 4}, 2, HSTU_ESHAPE, "may be of two widths"},
        {{.name = "a/b", .flat = &halves, .dim = 2, .rows = 6}, {2, 4}, 2, HSTU_EUNSUP, "hold fp16"},
    };
    hs_table table[3] = {{0}};
    char names[8] = "";
    hstu_error err;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const hstu_status status =
            hs_nvdir_split(table, names, &cases[i].table, cases[i].rows, cases[i].n, "/some/folder", &err);
        if (status != cases[i].code || !strstr(err.msg, cases[i].sentence) || !strstr(err.msg, "/some/folder"))
            fail_msg("status %d, '%s', expected: %s", (int)status, err.msg, cases[i].sentence);
        assert_null(table[0].part);
        assert_string_equal(names, "");
    }
    assert_int_equal(hs_nvdir_split(table, names, &cases[0].table, (const uint64_t[]){0, 6}, 2, "x", &err), HSTU_OK);
    assert_null(hs_table_row(&table[0], 0));
    assert_ptr_equal(hs_table_row(&table[1], 5), values + 10);
    hs_table_close(&table[0]);
    hs_table_close(&table[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts_give_the_same_bits),
        cmocka_unit_test(test_bf16_stays),
        cmocka_unit_test_setup_teardown(test_made_parts, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_what_must_be_refused, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_unequal_parts, scratch_setup, scratch_teardown),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_split_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
