/* Every allocation fails once while a graph becomes a file and while devices are listed: the call fails with HSTU_ENOMEM, no file
 * appears, nothing leaks. */
#include "torture.h"

#include "engine/cache_models.h"

#include "hstu/npu.h"

#include <sys/stat.h>

static char folder[] = "/tmp/hstu_test_export_torture_XXXXXX";
static char config_path[64], out_path[64];

static hstu_status export_graph(void *ctx, hstu_error *err)
{
    hstu_model_options o;
    hstu_onnx_options onnx;
    struct stat st;
    (void)ctx;
    hstu_model_options_init(&o);
    hstu_onnx_options_init(&onnx);
    o.config = config_path;
    o.max_item_id = o.max_user_id = ITEMS;
    onnx.n_users = 2;
    onnx.history = 16;
    onnx.cached = 32;
    onnx.candidates = 3;
    const hstu_status status = hstu_export_onnx(NULL, &o, &onnx, out_path, err);
    const bool is_there = stat(out_path, &st) == 0;
    if (is_there != (status == HSTU_OK))
        return HSTU_EIO; /* which is not what a failed allocation gives */
    if (is_there)
        (void)remove(out_path);
    return status;
}

static hstu_status list_devices(void *ctx, hstu_error *err)
{
    hstu_devices *devices = NULL;
    (void)ctx;
    const hstu_status status = hstu_devices_open(&devices, NULL, err);
    hstu_devices_close(devices);
    return status;
}

/* As torture(), but workspace that could not be kept for the next pass is no failure. */
static void torture_calls(hstu_status (*work)(void *ctx, hstu_error *err), long at_least)
{
    long n_failures = 0;
    for (long n = 1;; n++) {
        hstu_error err = {0};
        torture_left = n;
        const hstu_status status = work(NULL, &err);
        const bool failed = torture_left == 0;
        torture_left = 0;
        n_failures += status != HSTU_OK;
        if (status != HSTU_OK && (!failed || status != HSTU_ENOMEM || !strstr(err.msg, "out of memory")))
            fail_msg("allocation %ld failed, status %d: %s", n, (int)status, err.msg);
        if (!failed)
            break;
    }
    assert_true(n_failures > at_least);
}

static void torture_export(const char *variant)
{
    FILE *file = fopen(config_path, "w");
    assert_non_null(file);
    assert_true(fputs(find_variant(variant)->config, file) >= 0);
    assert_int_equal(fclose(file), 0);
    torture_calls(export_graph, 50);
}

static void test_export_of_ranking(void **state)
{
    (void)state;
    torture_export("ranking, one layer, no residual, bf16");
}

static void test_export_of_retrieval(void **state)
{
    (void)state;
    torture_export("HSTU, one layer, no place behind the history");
}

static void test_devices(void **state)
{
    (void)state;
    torture_calls(list_devices, 2);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder) || setenv("HSTU_ORT_LIBRARY", "/nonexistent/libonnxruntime.so", 1) != 0)
        return -1;
    (void)snprintf(config_path, sizeof config_path, "%s/config.json", folder);
    (void)snprintf(out_path, sizeof out_path, "%s/graph.onnx", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)remove(config_path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_export_of_ranking),
        cmocka_unit_test(test_export_of_retrieval),
        cmocka_unit_test(test_devices),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
