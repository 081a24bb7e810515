/* Reading golden cases, and comparing with them: helpers of the engine's tests. */
#ifndef TESTS_ENGINE_GOLDEN_H
#define TESTS_ENGINE_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "file/safetensors.h"
#include "hstu/hstu.h"
#include "hstu/npu.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define assert_ok(call, err)                                                                                           \
    do {                                                                                                               \
        if ((call) != HSTU_OK)                                                                                         \
            fail_msg("%s: %s", #call, (err)->msg);                                                                     \
    } while (0)

/* HSTU_TEST_DEVICE names another device than the CPU, which then must pass the same cases; HSTU_TEST_NPU_OPTION an option of its
 * provider, and HSTU_TEST_ORT the environment variable that holds the path of another build of ONNX Runtime. */
static inline const char *golden_device(void)
{
    const char *name = getenv("HSTU_TEST_DEVICE");
    return name && *name ? name : "cpu";
}

static inline bool golden_on_cpu(void)
{
    return strcmp(golden_device(), "cpu") == 0;
}

static inline void golden_options_init(hstu_model_options *options)
{
    static hstu_npu_options npu;
    static const char *option[1];
    hstu_npu_options_init(&npu);
    option[0] = getenv("HSTU_TEST_NPU_OPTION");
    npu.option = option;
    npu.n_options = option[0] && *option[0];
    if (getenv("HSTU_TEST_ORT"))
        npu.ort_library = getenv(getenv("HSTU_TEST_ORT"));
    hstu_model_options_init(options);
    options->device = golden_device();
    options->npu = &npu;
}

/* Prints why the device cannot be tried here, when no runtime is found. */
static inline bool golden_skips(void)
{
    hstu_error err;
    hstu_model_options options;
    golden_options_init(&options);
    if (getenv("HSTU_TEST_ORT") && !options.npu->ort_library)
        (void)snprintf(err.msg, sizeof err.msg, "%s is not set", getenv("HSTU_TEST_ORT"));
    else if (hstu_model_options_check(&options, &err) != HSTU_ENOENT)
        return false;
    printf("SKIPPED: device %s: %s\n", golden_device(), err.msg);
    return true;
}

enum { GOLDEN_SKIPPED = 77 }; /* what ctest calls skipped */

/* Runs a program's tests on the device that is to be tried. */
#define golden_main(tests) (golden_skips() ? GOLDEN_SKIPPED : cmocka_run_group_tests(tests, NULL, NULL))

/* The CPU's tolerance is 2e-6 of the largest value; other devices sum in other orders, and may be 1e-5 off. */
static inline double golden_tolerance(void)
{
    return golden_on_cpu() ? 2e-6 : 1e-5;
}

static inline const char *golden_path(const char *folder, const char *file)
{
    static char path[1024];
    (void)snprintf(path, sizeof path, "%s/golden/%s/%s", TEST_DATA, folder, file);
    return path;
}

static inline void golden_open(hs_statedict *dict, const char *folder, const char *file)
{
    hstu_error err;
    memset(dict, 0, sizeof *dict);
    char path[1024];
    (void)snprintf(path, sizeof path, "%s", golden_path(folder, file));
    assert_ok(hs_safetensors_open(dict, path, &err), &err);
}

static inline const hs_tensor *golden_tensor(const hs_statedict *dict, const char *name)
{
    const hs_entry *e = hs_statedict_find(dict, "", name);
    if (!e)
        fail_msg("the golden file has no tensor '%s'", name);
    return &e->tensor;
}

/* Copies; freed with hs_free. */
static inline float *golden_f32(const hs_statedict *dict, const char *name, int64_t *n)
{
    const hs_tensor *t = golden_tensor(dict, name);
    *n = hs_tensor_elements(t);
    float *out = hs_alloc((size_t)*n, sizeof *out);
    assert_non_null(out);
    hs_tensor_to_f32(t, out);
    return out;
}

static inline int64_t *golden_i64(const hs_statedict *dict, const char *name, int64_t *n)
{
    hstu_error err;
    const hs_tensor *t = golden_tensor(dict, name);
    *n = hs_tensor_elements(t);
    int64_t *out = hs_alloc((size_t)*n, sizeof *out);
    assert_non_null(out);
    assert_ok(hs_tensor_to_i64(t, out, name, &err), &err);
    return out;
}

/* The batch of a case: its padded [n_users, N] arrays as jagged ones. */
typedef struct golden_batch {
    hstu_batch batch;
    int64_t *offset, *item, *time, *query_time;
    int64_t rows;
} golden_batch;

/* ids: holds past_ids and past_lengths; times: holds `time_name` [n_users, N], whose entry at a user's length is the request
 * time; NULL: no times. */
static inline void golden_batch_make(golden_batch *out, const hs_statedict *ids, const hs_statedict *lengths,
    const hs_statedict *times, const char *time_name)
{
    int64_t n_users = 0, n = 0;
    int64_t *length = golden_i64(lengths, "past_lengths", &n_users);
    int64_t *id = golden_i64(ids, "past_ids", &n);
    int64_t *time = times ? golden_i64(times, time_name, &n) : NULL;
    const int64_t width = n / n_users;
    *out = (golden_batch){0};
    out->offset = hs_calloc((size_t)n_users + 1, sizeof(int64_t));
    out->item = hs_calloc((size_t)n, sizeof(int64_t));
    out->time = hs_calloc((size_t)n, sizeof(int64_t));
    out->query_time = hs_calloc((size_t)n_users, sizeof(int64_t));
    for (int64_t u = 0; u < n_users; u++) {
        for (int64_t i = 0; i < length[u]; i++) {
            out->item[out->rows] = id[u * width + i];
            out->time[out->rows++] = time ? time[u * width + i] : 0;
        }
        out->offset[u + 1] = out->rows;
        out->query_time[u] = time ? time[u * width + length[u]] : 0;
    }
    out->batch = (hstu_batch){
        .n_users = (size_t)n_users,
        .offset = out->offset,
        .item_id = out->item,
        .timestamp = time ? out->time : NULL,
        .query_time = time ? out->query_time : NULL,
    };
    hs_free(length);
    hs_free(id);
    hs_free(time);
}

static inline void golden_batch_free(golden_batch *b)
{
    hs_free(b->offset);
    hs_free(b->item);
    hs_free(b->time);
    hs_free(b->query_time);
}

/* Fails with the first element whose difference is above the tolerance, and the largest difference. */
static inline void assert_close(
    const char *stage, const float *found, const float *expected, int64_t n, double tolerance)
{
    int64_t first = -1;
    double largest = 0.0;
    for (int64_t i = 0; i < n; i++) {
        const double difference = fabs((double)found[i] - (double)expected[i]);
        if (!(difference <= tolerance)) {
            if (first < 0)
                first = i;
        }
        if (!(difference <= largest))
            largest = difference;
    }
    if (first >= 0)
        fail_msg("%s differs first at element %" PRId64
                 ": found %.9g, expected %.9g; largest difference %.3g, allowed %.3g",
            stage, first, (double)found[first], (double)expected[first], largest, tolerance);
}

static inline double largest_magnitude(const float *values, int64_t n)
{
    double most = 0.0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)values[i]));
    return most;
}

/* Two runs of ours: bit for bit on the CPU. */
static inline void assert_same(const char *what, const float *found, const float *expected, size_t n)
{
    if (golden_on_cpu())
        assert_memory_equal(found, expected, n * sizeof *found);
    else
        assert_close(what, found, expected, (int64_t)n, 1e-5 * largest_magnitude(expected, (int64_t)n));
}

/* The golden files' rule for intermediate values: 1e-5 of the largest value. */
static inline double relative_tolerance(const float *expected, int64_t n)
{
    return 1e-5 * largest_magnitude(expected, n);
}

#endif
