/* Random weights: their distributions, and that threads and chunks leave no trace in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "model/init.h"
#include "model/model.h"

#include <math.h>
#include <string.h>

enum { N = 300001 }; /* several chunks, and a tail */

static hs_device *open_device(int threads)
{
    hstu_error err;
    hs_device *dev = NULL;
    if (hs_device_open(&dev, &(hs_device_options){.name = "cpu", .threads = threads}, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    return dev;
}

static float *fill(hs_device *dev, hs_init init, double scale, uint64_t seed, uint64_t stream)
{
    float *x = hs_alloc_aligned(N, sizeof *x);
    assert_non_null(x);
    hs_init_fill(dev, x, N, init, scale, seed, stream);
    return x;
}

typedef struct moments {
    double mean, deviation, kurtosis, low, high;
} moments;

static moments measure(const float *x)
{
    moments m = {.low = INFINITY, .high = -INFINITY};
    for (int i = 0; i < N; i++) {
        m.mean += (double)x[i] / N;
        m.low = fmin(m.low, (double)x[i]);
        m.high = fmax(m.high, (double)x[i]);
    }
    for (int i = 0; i < N; i++) {
        const double d = (double)x[i] - m.mean;
        m.deviation += d * d / N;
        m.kurtosis += d * d * d * d / N;
    }
    m.kurtosis /= m.deviation * m.deviation;
    m.deviation = sqrt(m.deviation);
    return m;
}

static void test_distributions(void **state)
{
    (void)state;
    hs_device *dev = open_device(2);
    float *x = fill(dev, HS_INIT_NORMAL, 0.02, 1, 2);
    moments m = measure(x);
    assert_true(fabs(m.mean) < 1.5e-4 && fabs(m.deviation / 0.02 - 1.0) < 0.006 && fabs(m.kurtosis - 3.0) < 0.05);
    assert_true(m.high > 4.0 * 0.02);
    hs_free(x);

    /* A normal distribution cut at 2 deviations has deviation 0.87962566 and kurtosis 2.3655. */
    x = fill(dev, HS_INIT_TRUNCATED_NORMAL, 0.02, 1, 2);
    m = measure(x);
    assert_true(fabs(m.mean) < 1.5e-4 && fabs(m.deviation / (0.02 * 0.87962566) - 1.0) < 0.006);
    assert_true(fabs(m.kurtosis - 2.3655) < 0.03);
    assert_true(m.low >= -0.04000002 && m.high <= 0.04000002 && m.high > 0.0399);
    hs_free(x);

    x = fill(dev, HS_INIT_UNIFORM, 0.3, 1, 2);
    m = measure(x);
    assert_true(fabs(m.mean) < 2e-3 && fabs(m.deviation / (0.3 / sqrt(3.0)) - 1.0) < 0.006);
    assert_true(m.low > -0.3000001 && m.high < 0.3000001 && m.high > 0.2999 && m.low < -0.2999);
    hs_free(x);

    x = fill(dev, HS_INIT_ZERO, 1.0, 1, 2);
    m = measure(x);
    assert_true(m.low == 0.0 && m.high == 0.0);
    hs_free(x);
    hs_device_close(dev);
}

/* Values of the distribution function at known quantiles: the rational fit is right along its whole range. */
static void test_truncated_quantiles(void **state)
{
    (void)state;
    hs_device *dev = open_device(1);
    float *x = fill(dev, HS_INIT_TRUNCATED_NORMAL, 1.0, 7, 0);
    static const double at[] = {-1.9, -1.5, -1.0, -0.5, 0.0, 0.25, 0.75, 1.25, 1.75, 1.95};
    for (size_t j = 0; j < sizeof at / sizeof at[0]; j++) {
        double below = 0.0;
        for (int i = 0; i < N; i++)
            below += (double)x[i] < at[j];
        const double expected = 0.5 + 0.5 * erf(at[j] / sqrt(2.0)) / erf(sqrt(2.0));
        assert_true(fabs(below / N - expected) < 4.0 * sqrt(0.25 / N));
    }
    hs_free(x);
    hs_device_close(dev);
}

static void test_threads_leave_no_trace(void **state)
{
    (void)state;
    hs_device *one = open_device(1), *three = open_device(3);
    static const hs_init inits[] = {HS_INIT_UNIFORM, HS_INIT_NORMAL, HS_INIT_TRUNCATED_NORMAL};
    for (size_t i = 0; i < 3; i++) {
        float *a = fill(one, inits[i], 0.5, 42, 3), *b = fill(three, inits[i], 0.5, 42, 3);
        assert_memory_equal(a, b, N * sizeof *a);
        float *seed = fill(one, inits[i], 0.5, 43, 3), *stream = fill(one, inits[i], 0.5, 42, 4);
        assert_memory_not_equal(a, seed, 64);
        assert_memory_not_equal(a, stream, 64);
        hs_free(a);
        hs_free(b);
        hs_free(seed);
        hs_free(stream);
    }
    hs_device_close(one);
    hs_device_close(three);
}

static hstu_status make(const char *text, hs_device *dev, uint64_t seed, hs_model *out, hstu_error *err)
{
    hs_config c;
    if (hs_config_parse(&c, text, strlen(text), HS_CONFIG_ANY, "mine.json", err) != HSTU_OK)
        fail_msg("%s", err->msg);
    return hs_model_random(out, &c, dev, &(hs_model_random_options){.seed = seed}, err);
}

static const char small_hstu[] = "{\"max_sequence_length\": 20, \"item_embedding_dim\": 16, \"num_blocks\": 2, "
                                 "\"num_heads\": 2, \"dqk\": 4, \"dv\": 8, \"max_item_id\": 1000}";

static void test_model_depends_on_the_seed_alone(void **state)
{
    hs_model a, b, c;
    hstu_error err;
    (void)state;
    hs_device *one = open_device(1), *two = open_device(2);
    assert_int_equal(make(small_hstu, one, 5, &a, &err), HSTU_OK);
    assert_int_equal(make(small_hstu, two, 5, &b, &err), HSTU_OK);
    assert_int_equal(make(small_hstu, two, 6, &c, &err), HSTU_OK);
    assert_memory_equal(a.weight.item.data, b.weight.item.data, 1001 * 16 * sizeof(float));
    assert_memory_equal(a.weight.hstu[1].position_w, b.weight.hstu[1].position_w, (2 * 31 - 1) * sizeof(float));
    assert_memory_equal(a.item_inv_norm, b.item_inv_norm, 1001 * sizeof(float));
    assert_memory_not_equal(a.weight.item.data, c.weight.item.data, 1001 * 16 * sizeof(float));
    assert_memory_not_equal(a.weight.hstu[0].time_w, a.weight.hstu[1].time_w, 129 * sizeof(float));
    assert_int_equal(a.n_parameters, 1001 * 16 + 31 * 16 + 2 * (16 * 48 + 129 + 61 + 16 * 16 + 16));
    hs_model_free(&a);
    hs_model_free(&b);
    hs_model_free(&c);
    hs_device_close(one);
    hs_device_close(two);
}

/* Sizes that the reference's own models have. */
static void test_preset_parameters(void **state)
{
    static const struct {
        const char *name;
        int64_t parameters;
    } cases[] = {{"ml-1m", 234400}, {"ml-1m-large", 313000}};
    hs_config c;
    hs_model m;
    hstu_error err;
    (void)state;
    hs_device *dev = open_device(1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(hs_preset_find(&c, cases[i].name, HS_CONFIG_ANY));
        assert_int_equal(hs_model_random(&m, &c, dev, &(hs_model_random_options){.seed = 1}, &err), HSTU_OK);
        assert_int_equal(m.n_parameters, cases[i].parameters);
        hs_model_free(&m);
    }
    hs_device_close(dev);
}

static void test_sasrec_biases(void **state)
{
    hs_model m;
    hstu_error err;
    (void)state;
    hs_device *dev = open_device(1);
    assert_int_equal(make("{\"main_module\": \"SASRec\", \"max_sequence_length\": 20, \"item_embedding_dim\": 16, "
                          "\"num_blocks\": 1, \"num_heads\": 2, \"ffn_hidden_dim\": 24, \"max_item_id\": 100}",
                         dev, 5, &m, &err),
        HSTU_OK);
    for (int i = 0; i < 48; i++)
        assert_true(m.weight.sasrec[0].in_bias[i] == 0.0f);
    for (int i = 0; i < 24; i++)
        assert_true(fabsf(m.weight.sasrec[0].ffn1_bias[i]) <= 0.25f && m.weight.sasrec[0].ffn1_bias[i] != 0.0f);
    hs_model_free(&m);
    hs_device_close(dev);
}

/* 2^36 items of 65536 values are 18 PB: refused before anything is allocated. */
static void test_memory_is_checked_first(void **state)
{
    hs_model m;
    hstu_error err;
    (void)state;
    hs_device *dev = open_device(1);
    assert_int_equal(make("{\"max_sequence_length\": 20, \"item_embedding_dim\": 65536, \"num_blocks\": 1, "
                          "\"num_heads\": 2, \"dqk\": 4, \"dv\": 8, \"max_item_id\": 68719476736}",
                         dev, 5, &m, &err),
        HSTU_ENOMEM);
    assert_non_null(strstr(err.msg, "mine.json"));
    assert_non_null(strstr(err.msg, "are available"));
    hs_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distributions),
        cmocka_unit_test(test_truncated_quantiles),
        cmocka_unit_test(test_threads_leave_no_trace),
        cmocka_unit_test(test_model_depends_on_the_seed_alone),
        cmocka_unit_test(test_preset_parameters),
        cmocka_unit_test(test_sasrec_biases),
        cmocka_unit_test(test_memory_is_checked_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
