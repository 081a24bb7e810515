/* Dynamic embedding tables: rows by key, and every refusal by its sentence. */
#include "ckpt/dynemb.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "dataset/scratch.h"
#include "file/safetensors.h"

#include <inttypes.h>

#define BAD TEST_DATA "/pickle/dynamicemb_bad/"
#define RANKING TEST_DATA "/golden/ranking/"
#define MODULE "/checkpoint/dynamicemb_module/model._embedding_collection._model_parallel_embedding_collection"

static hstu_status open_table(hs_dynemb *out, const char *folder, const char *table, uint64_t dim, hstu_error *err)
{
    hs_folder listing = {0};
    if (hs_folder_list(&listing, folder, err) != HSTU_OK)
        fail_msg("%s", err->msg);
    const hstu_status status = hs_dynemb_open(out, folder, &listing, table, dim, err);
    hs_folder_free(&listing);
    return status;
}

static void open_good(hs_dynemb *out, const char *folder, const char *table, uint64_t dim)
{
    hstu_error err;
    *out = (hs_dynemb){0};
    if (open_table(out, folder, table, dim, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

static void expect_refusal(const char *folder, const char *table, uint64_t dim, hstu_status code, const char *sentence)
{
    hs_dynemb t = {0};
    hstu_error err;
    const hstu_status status = open_table(&t, folder, table, dim, &err);
    if (status == HSTU_OK)
        fail_msg("%s: opened, expected: %s", folder, sentence);
    if (status != code || !strstr(err.msg, sentence) || !strstr(err.msg, folder))
        fail_msg("%s: status %d, '%s', expected: %s", folder, (int)status, err.msg, sentence);
    assert_null(t.rank);
}

static void test_file_names(void **state)
{
    static const struct {
        const char *name;
        size_t table_bytes; /* 0: no file of a table */
        uint32_t rank, world_size;
    } cases[] = {
        {"t_emb_keys.rank_0.world_size_1", 1, 0, 1},
        {"video_id_emb_values.rank_12.world_size_128", 8, 12, 128},
        {"a_emb_keys_emb_keys.rank_7.world_size_2", 10, 7, 2}, /* a rank past its world: refused when opened */
        {"_emb__emb_keys.rank_0.world_size_1", 5, 0, 1},
        {"t_emb_scores.rank_0.world_size_1", 0, 0, 0},
        {"t_emb_opt_values.rank_0.world_size_1", 0, 0, 0},
        {"t_counter_keys.rank_0.world_size_1", 0, 0, 0},
        {"t_opt_args.json", 0, 0, 0},
        {"_emb_keys.rank_0.world_size_1", 0, 0, 0},
        {"t_emb_keys.rank_00.world_size_1", 0, 0, 0},
        {"t_emb_keys.rank_-1.world_size_1", 0, 0, 0},
        {"t_emb_keys.rank_0.world_size_", 0, 0, 0},
        {"t_emb_keys.rank_0.world_size_1.bak", 0, 0, 0},
        {"t_emb_keys.rank_0.world_size_4294967297", 0, 0, 0},
        {"", 0, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hs_dynemb_file file = {0};
        if (hs_dynemb_parse_name(&file, cases[i].name) != (cases[i].table_bytes > 0))
            fail_msg("'%s' is taken for the wrong kind of file", cases[i].name);
        assert_int_equal(file.table_bytes, cases[i].table_bytes);
        assert_int_equal(file.rank, cases[i].rank);
        assert_int_equal(file.world_size, cases[i].world_size);
    }
}

static void test_the_control(void **state)
{
    static const int64_t keys[] = {3, 9, INT64_C(1) << 40}; /* told by the bytes of the file */
    static const float first[] = {0.39229682f, -0.22356407f, -0.3195f, -1.2050371f};
    hs_dynemb t;
    (void)state;
    for (uint64_t dim = 0; dim <= 4; dim += 4) { /* told by the files, and expected */
        open_good(&t, BAD "good", "t", dim);
        assert_int_equal(t.table.n_rows, 3);
        assert_int_equal(t.table.dim, 4);
        assert_int_equal(t.world_size, 1);
        assert_null(hs_table_row(&t.table, 0));
        assert_null(hs_table_row(&t.table, -3));
        const float *base = hs_table_row(&t.table, 3);
        assert_non_null(base);
        assert_ptr_equal((const void *)base, t.rank[0].values.data); /* not a copy */
        for (size_t i = 0; i < 3; i++)
            assert_ptr_equal(hs_table_row(&t.table, keys[i]), base + 4 * i);
        for (size_t i = 0; i < 4; i++)
            assert_float_equal(base[i], first[i], 1e-6f);
        hs_dynemb_close(&t);
    }
}

static void test_what_must_be_refused(void **state)
{
    hs_dynemb t;
    (void)state;
    expect_refusal(BAD "keys_not_multiple_of_8", "t", 4, HSTU_EFORMAT,
        "t_emb_keys.rank_0.world_size_1: 27 bytes, expected keys of 8 bytes each");
    expect_refusal(BAD "values_short", "t", 4, HSTU_EFORMAT,
        "t_emb_values.rank_0.world_size_1: 40 bytes for 3 keys, expected 48 (rows of 4 floats)");
    expect_refusal(BAD "values_short", "t", 0, HSTU_EFORMAT, "40 bytes for 3 keys, expected rows of");
    expect_refusal(BAD "values_missing", "t", 4, HSTU_EFORMAT,
        "rank 0 of the table 't' is not complete: there is no t_emb_values.");
    expect_refusal(BAD "rank_missing", "t", 4, HSTU_EFORMAT,
        "rank 1 of the table 't' is not complete: there is no t_emb_keys.rank_1.world_size_2");
    expect_refusal(BAD "two_world_sizes", "t", 4, HSTU_EFORMAT, "files of two world sizes stand together");
    expect_refusal(BAD "duplicate_key", "t", 4, HSTU_EFORMAT,
        "the key 9 stands twice, in t_emb_keys.rank_0.world_size_2 (row 1) and in t_emb_keys.rank_1.world_size_2 (row "
        "0)");
    expect_refusal(BAD "dim_mismatch", "t", 4, HSTU_EFORMAT, "60 bytes for 3 keys, expected 48 (rows of 4 floats)");
    expect_refusal(BAD "good", "u", 4, HSTU_ENOENT, "there is no key file of the table 'u'");
    expect_refusal(BAD "good", "t", HS_DYNEMB_MAX_DIM + 1, HSTU_EUNSUP, "at most 65536");

    open_good(&t, BAD "empty", "t", 4);
    assert_int_equal(t.table.n_rows, 0);
    assert_int_equal(t.table.dim, 4);
    assert_null(hs_table_row(&t.table, 0));
    hs_dynemb_close(&t);
    open_good(&t, BAD "empty", "t", 0);
    assert_int_equal(t.table.dim, 0);
    hs_dynemb_close(&t);

    /* Opening does not read rows: a NaN comes out where it stands. */
    open_good(&t, BAD "nan_row", "t", 4);
    int n_nan = 0;
    const int64_t keys[] = {3, 9, INT64_C(1) << 40};
    for (size_t i = 0; i < 3; i++) {
        const float *row = hs_table_row(&t.table, keys[i]);
        assert_non_null(row);
        for (int d = 0; d < 4; d++)
            n_nan += row[d] != row[d];
    }
    assert_true(n_nan > 0);
    hs_dynemb_close(&t);
}

static void write_part(
    scratch *s, uint32_t rank, uint32_t world, const int64_t *keys, size_t n, const float *values, size_t n_values)
{
    char name[128];
    snprintf(name, sizeof name, "t_emb_keys.rank_%" PRIu32 ".world_size_%" PRIu32, rank, world);
    scratch_write(s, name, keys, n * sizeof *keys);
    snprintf(name, sizeof name, "t_emb_values.rank_%" PRIu32 ".world_size_%" PRIu32, rank, world);
    scratch_write(s, name, values, n_values * sizeof *values);
}

static void test_more_refusals(void **state)
{
    static const int64_t keys[] = {5, 6, 5};
    static const float values[8] = {0};
    scratch *s = *state;
    write_part(s, 0, 1, keys, 3, values, 6);
    expect_refusal(s->folder, "t", 2, HSTU_EFORMAT,
        "the key 5 stands twice, in t_emb_keys.rank_0.world_size_1 (row 0) and in t_emb_keys.rank_0.world_size_1 (row "
        "2)");
    write_part(s, 0, 1, keys, 2, values, 0);
    expect_refusal(s->folder, "t", 0, HSTU_EFORMAT, "0 bytes for 2 keys, expected rows of 1 to 65536 floats");
    write_part(s, 0, 1, keys, 0, values, 1);
    expect_refusal(s->folder, "t", 0, HSTU_EFORMAT, "4 bytes for 0 keys, expected 0");
    /* Ranks of different widths. */
    assert_int_equal(remove(scratch_path(s, "t_emb_keys.rank_0.world_size_1")), 0);
    assert_int_equal(remove(scratch_path(s, "t_emb_values.rank_0.world_size_1")), 0);
    write_part(s, 0, 2, keys, 1, values, 4);
    write_part(s, 1, 2, keys + 1, 1, values, 3);
    expect_refusal(s->folder, "t", 0, HSTU_EFORMAT, "rank_1.world_size_2: 12 bytes for 1 keys, expected 16");
    assert_int_equal(remove(scratch_path(s, "t_emb_keys.rank_1.world_size_2")), 0);
    expect_refusal(s->folder, "t", 0, HSTU_EFORMAT, "there is no t_emb_keys.rank_1.world_size_2");
    /* A rank outside its world, and no world at all. */
    write_part(s, 2, 2, keys, 1, values, 4);
    expect_refusal(s->folder, "t", 0, HSTU_EFORMAT, "expected a world size of 1 to 65536 and a rank below it");
    write_part(s, 0, 0, keys, 1, values, 4);
    expect_refusal(s->folder, "t", 0, HSTU_EFORMAT, "t_emb_keys.rank_0.world_size_0: expected a world size");
}

/* ---- Golden embeddings ------------------------------------------------------------------------------------------ */

static void open_golden(hs_statedict *out, const char *test_case, const char *file)
{
    char path[512];
    hstu_error err;
    snprintf(path, sizeof path, RANKING "%s/%s", test_case, file);
    *out = (hs_statedict){0};
    if (hs_safetensors_open(out, path, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

/* The reference's own rows, its zero rows for missing ids included. Returns how many ids were missing. */
static int compare_rows(const char *test_case, const char *table, const char *ids, const char *rows)
{
    char folder[512];
    hs_statedict inputs, expected;
    hs_dynemb t;
    hstu_error err;
    int n_missing = 0;
    open_golden(&inputs, test_case, "inputs.safetensors");
    open_golden(&expected, test_case, "embeddings.safetensors");
    snprintf(folder, sizeof folder, RANKING "%s" MODULE, test_case);
    open_good(&t, folder, table, 0);
    const hs_entry *id = hs_statedict_find(&inputs, "", ids), *row = hs_statedict_find(&expected, "", rows);
    assert_non_null(id);
    assert_non_null(row);
    const int64_t n = hs_tensor_elements(&id->tensor), dim = row->tensor.shape[1];
    assert_int_equal(t.table.dim, dim);
    assert_int_equal(row->tensor.shape[0], n);
    int64_t *key = hs_alloc((size_t)n, sizeof *key);
    float *want = hs_alloc((size_t)(n * dim), sizeof *want);
    static const float zeros[32];
    assert_int_equal(hs_tensor_to_i64(&id->tensor, key, ids, &err), HSTU_OK);
    hs_tensor_to_f32(&row->tensor, want);
    for (int64_t i = 0; i < n; i++) {
        const float *found = hs_table_row(&t.table, key[i]);
        n_missing += !found;
        assert_memory_equal(found ? found : zeros, want + i * dim, (size_t)dim * sizeof(float));
    }
    hs_free(key);
    hs_free(want);
    hs_dynemb_close(&t);
    hs_statedict_close(&inputs);
    hs_statedict_close(&expected);
    return n_missing;
}

static void test_golden_rows(void **state)
{
    (void)state;
    int n_missing = compare_rows("c0_hd32_d24_pclamp_2rank", "video_id", "items", "emb.video_id"); /* two ranks */
    n_missing += compare_rows("c6_fused_fp32", "video_id", "items", "emb.video_id");
    n_missing += compare_rows("c6_fused_fp32", "user_id", "ctx.user_id", "emb.user_id");
    n_missing += compare_rows("noln_noresidual", "video_id", "items", "emb.video_id");
    n_missing += compare_rows("noln_noresidual", "user_id", "ctx.user_id", "emb.user_id");
    assert_true(n_missing > 0); /* the cases ask for ids that nobody has trained */
}

/* ---- Many keys -------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Every key leads to the row that holds its own number, and none of as many other keys leads anywhere. */
static void check_all_found(scratch *s, int64_t *keys, size_t n)
{
    enum { RANKS = 3 };
    hs_dynemb t;
    float *values = malloc(2 * n * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < n; i++) {
        values[2 * i] = (float)i;
        values[2 * i + 1] = -(float)i;
    }
    const size_t end[RANKS + 1] = {0, n / 4, n / 4, n}; /* the second rank holds nothing */
    for (uint32_t r = 0; r < RANKS; r++)
        write_part(s, r, RANKS, keys + end[r], end[r + 1] - end[r], values + 2 * end[r], 2 * (end[r + 1] - end[r]));
    open_good(&t, s->folder, "t", 2);
    assert_int_equal(t.table.n_rows, n);
    for (size_t i = 0; i < n; i++) {
        const float *row = hs_table_row(&t.table, keys[i]);
        if (!row || row[0] != (float)i || row[1] != -(float)i)
            fail_msg("the key %" PRId64 " does not lead to row %zu", keys[i], i);
        if (hs_table_row(&t.table, (int64_t)mix(n + i)))
            fail_msg("a key that the table does not hold leads to a row");
    }
    hs_dynemb_close(&t);
    free(values);
}

enum { MANY = 100000 };

static void test_many_keys(void **state)
{
    int64_t *keys = malloc(MANY * sizeof *keys);
    assert_non_null(keys);
    for (size_t i = 0; i < MANY; i++)
        keys[i] = (int64_t)mix(i);
    keys[0] = 0;
    keys[1] = -1;
    keys[2] = INT64_MIN;
    keys[3] = INT64_MAX;
    check_all_found(*state, keys, MANY);
    for (size_t i = 0; i < MANY; i++)
        keys[i] = (int64_t)i << 20; /* what a bad hash would pile up */
    check_all_found(*state, keys, MANY);
    free(keys);
}

static uint64_t inverse(uint64_t odd)
{
    uint64_t x = odd; /* Newton's iteration: each step doubles the correct bits */
    for (int i = 0; i < 6; i++)
        x *= 2 - odd * x;
    return x;
}

/* The key whose hash, with the seed that is tried first, is h. */
static int64_t key_of_hash(uint64_t h)
{
    h = (h ^ h >> 33) * inverse(UINT64_C(0xc4ceb9fe1a85ec53));
    h = (h ^ h >> 33) * inverse(UINT64_C(0xff51afd7ed558ccd));
    return (int64_t)(h ^ h >> 33);
}

/* Keys made to fall on one place: the time must not grow with their square, and all must be found. */
static void test_hostile_keys(void **state)
{
    hs_dynemb t;
    scratch *s = *state;
    int64_t *keys = malloc(MANY * sizeof *keys);
    assert_non_null(keys);
    for (size_t i = 0; i < MANY; i++)
        keys[i] = key_of_hash(UINT64_C(0x80000000) << 32 | i);
    check_all_found(s, keys, MANY);
    open_good(&t, s->folder, "t", 2);
    assert_true(t.table.seed != 0); /* the first seed was given up: the keys really collide */
    hs_dynemb_close(&t);
    free(keys);
}

/* Bytes of this process that are in memory. */
static uint64_t resident(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*u %llu", &pages) != 1)
        skip();
    (void)fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

#if defined(__SANITIZE_THREAD__)
enum { SHADOW = 4 }; /* bytes that the sanitizer adds to each */
#else
enum { SHADOW = 0 };
#endif

/* The size of KuaiRand's item table, 9 GB of rows (holes in the file): what is in memory afterwards are keys and index. */
static void test_a_large_table(void **state)
{
    enum { ROWS = 4400000, WIDTH = 512, TOUCHED = 1000 };
    scratch *s = *state;
    hs_dynemb t;
    int64_t *keys = malloc(ROWS * sizeof *keys);
    assert_non_null(keys);
    for (size_t i = 0; i < ROWS; i++)
        keys[i] = (int64_t)(mix(i) >> 1);
    scratch_write(s, "t_emb_keys.rank_0.world_size_1", keys, ROWS * sizeof *keys);
    scratch_write(s, "t_emb_values.rank_0.world_size_1", "", 0);
    assert_int_equal(truncate(s->path, (off_t)ROWS * WIDTH * 4), 0);
    const uint64_t before = resident();
    const double start = hs_clock_s();
    open_good(&t, s->folder, "t", WIDTH);
    print_message("%d keys: opened in %.2f s, %.0f MB more in memory\n", ROWS, hs_clock_s() - start,
        (double)(resident() - before) / 1e6);
    for (size_t i = 0; i < TOUCHED; i++) {
        const float *row = hs_table_row(&t.table, keys[i * (ROWS / TOUCHED)]);
        assert_non_null(row);
        assert_true(row[0] == 0.0f && row[WIDTH - 1] == 0.0f);
    }
    /* 35 MB of keys, 53 MB of slots, AddressSanitizer's shadow of both, 8 MB of pages touched. */
    assert_in_range(resident() - before, 0, 128000000 * (1 + SHADOW));
    hs_dynemb_close(&t);
    free(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_names),
        cmocka_unit_test(test_the_control),
        cmocka_unit_test(test_what_must_be_refused),
        cmocka_unit_test_setup_teardown(test_more_refusals, scratch_setup, scratch_teardown),
        cmocka_unit_test(test_golden_rows),
        cmocka_unit_test_setup_teardown(test_many_keys, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_hostile_keys, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_a_large_table, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
