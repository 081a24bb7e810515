/* Every allocation fails once, on its own, while a file or folder is opened or written: the error is HSTU_ENOMEM and a sentence, the
 * output is untouched, and (under the address sanitizer) nothing leaks. */
#include "ckpt/nvdir.h"
#include "ckpt/pth.h"

#include "ckpt_support.h"
#include "file/safetensors.h"
#include "torture.h"

static hstu_status open_file(void *path, hstu_error *err)
{
    hs_statedict dict = {0};
    const hs_statedict untouched = {0};
    const hstu_status status = hs_ckpt_open(&dict, *(const char **)path, err);
    if (status == HSTU_OK)
        hs_statedict_close(&dict);
    else
        assert_memory_equal(&dict, &untouched, sizeof dict);
    return status;
}

static hstu_status split_table(const hs_nvdir_table *table, hstu_error *err)
{
    static const uint64_t rows[] = {8, 9, 9, 8, 8, 233};
    enum { N = sizeof rows / sizeof *rows };
    hs_table out[N] = {{0}};
    const hs_table untouched[N] = {{0}};
    char names[256];
    assert_true(strlen(table->name) < sizeof names);
    const hstu_status status = hs_nvdir_split(out, names, table, rows, N, "a folder", err);
    if (status != HSTU_OK)
        assert_memory_equal(out, untouched, sizeof out);
    for (int i = 0; i < N; i++)
        hs_table_close(&out[i]);
    return status;
}

static hstu_status open_folder(void *path, hstu_error *err)
{
    hs_nvdir dir = {0};
    hs_statedict weights = {0};
    hstu_status status = hs_nvdir_open(&dir, *(const char **)path, err);
    if (status != HSTU_OK) {
        assert_null(dir.rank);
        return status;
    }
    status = hs_nvdir_weights(&weights, &dir, 16, err);
    if (status == HSTU_OK)
        status = split_table(&dir.table[0], err);
    else
        assert_null(weights.entry);
    hs_statedict_close(&weights);
    hs_nvdir_close(&dir);
    return status;
}

static hstu_status write_file(void *path, hstu_error *err)
{
    static const int64_t shape[2] = {2, 3};
    static const float values[6] = {0};
    hs_safetensors_writer *w = NULL;
    hstu_status status = hs_safetensors_create(&w, *(const char **)path, err);
    if (status != HSTU_OK) {
        assert_null(w);
        return status;
    }
    for (int i = 0; i < 40 && status == HSTU_OK; i++) {
        char name[16];
        snprintf(name, sizeof name, "tensor %d", i);
        status = hs_safetensors_add_tensor(w, name, HS_F32, 2, shape, err);
        if (status == HSTU_OK)
            status = hs_safetensors_add_metadata(w, name, "value", err);
    }
    for (int i = 0; i < 40 && status == HSTU_OK; i++)
        status = hs_safetensors_write(w, values, sizeof values, err);
    if (status == HSTU_OK)
        return hs_safetensors_commit(w, err);
    hs_safetensors_discard(w);
    return status;
}

/* Both works take the address of a path. */
static void torture_file(hstu_status (*work)(void *path, hstu_error *err), const char *path, long at_least)
{
    torture(work, &path, at_least);
}

static void zip_container(void **state)
{
    (void)state;
    torture_file(open_file, TEST_DATA "/pickle/valid_torch2.11/optimizer.pt", 10);
    torture_file(open_file, TEST_DATA "/pickle/valid_torch1.13/nested.pt", 10);
    torture_file(open_file, TEST_DATA "/golden/retrieval/base_h1_n71/checkpoint_ep100", 10);
}

static void legacy_container(void **state)
{
    (void)state;
    torture_file(open_file, TEST_DATA "/pickle/valid_torch1.13/legacy_views.pt", 20);
}

static void folders(void **state)
{
    (void)state;
    torture_file(open_folder, TEST_DATA "/golden/ranking/c6_fused_fp32/checkpoint", 40);
    torture_file(open_folder, TEST_DATA "/golden/ranking/c6_fused_fp32/checkpoint_native_tp2", 40);
}

static void safetensors(void **state)
{
    (void)state;
    torture_file(open_file, TEST_DATA "/golden/retrieval/base_h1_n71/inputs.safetensors", 3);
    char folder[] = "/tmp/hstu_torture_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    torture_file(write_file, path, 80);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0); /* no temporary file remained */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zip_container),
        cmocka_unit_test(legacy_container),
        cmocka_unit_test(folders),
        cmocka_unit_test(safetensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
