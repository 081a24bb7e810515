/* AUC against torchmetrics on logits with many ties: golden case ranking/auc_ties. The scores of a task are fp32 sigmoids, or
 * those of logits that were rounded to bf16, rounded again. */
#include "base/half.h"
#include "cli/run.h"

#include "engine/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static const char folder[] = "ranking/auc_ties";

enum { N_TASKS = 8, MAX_N = 300 };

static float rounded(float x)
{
    return hs_bf16_to_f32(hs_f32_to_bf16(x));
}

static void check(const char *logits_name, const char *labels_name, const char *expected_name, int bf16)
{
    static uint8_t positive[MAX_N];
    const hstu_model_info info = {.n_tasks = N_TASKS, .n_classes = N_TASKS};
    hs_statedict in, out;
    int64_t n = 0, n_labels = 0, n_expected = 0;
    golden_open(&in, folder, "inputs.safetensors");
    golden_open(&out, folder, "expected.safetensors");
    float *score = golden_f32(&in, logits_name, &n);
    int64_t *label = golden_i64(&in, labels_name, &n_labels);
    float *expected = golden_f32(&out, expected_name, &n_expected);
    assert_int_equal(n, n_labels * N_TASKS);
    assert_int_equal(n_expected, N_TASKS);
    assert_true(n_labels <= MAX_N);
    for (int64_t i = 0; i < n; i++)
        score[i] = bf16 ? rounded(score[i]) : score[i];
    for (int64_t i = 0; i < n_labels; i++) {
        float probability[N_TASKS];
        hs_run_probabilities(&info, score + i * N_TASKS, probability);
        for (int64_t t = 0; t < N_TASKS; t++)
            score[i * N_TASKS + t] = bf16 ? rounded(probability[t]) : probability[t];
    }
    for (int t = 0; t < N_TASKS; t++) {
        hstu_auc m;
        for (int64_t i = 0; i < n_labels; i++)
            positive[i] = (uint8_t)(label[i] >> t & 1);
        const hstu_scores scores = {score + t, N_TASKS, positive, (size_t)n_labels};
        assert_int_equal(hstu_auc_of(&m, &scores, NULL), HSTU_OK);
        if (fabs(m.auc - (double)expected[t]) > 1e-7)
            fail_msg("%s, task %d: expected %.9g, found %.9g", expected_name, t, (double)expected[t], m.auc);
    }
    hs_free(score);
    hs_free(label);
    hs_free(expected);
    hs_statedict_close(&in);
    hs_statedict_close(&out);
}

static void test_tasks(void **state)
{
    (void)state;
    check("logits", "labels", "auc_fp32", 0);
    check("logits", "labels", "auc_bf16", 1);
    check("logits2", "labels2", "auc2_fp32", 0);
    check("logits2", "labels2", "auc2_bf16", 1);
}

static void test_classes(void **state)
{
    (void)state;
    hs_statedict in, out;
    int64_t n = 0, n_labels = 0, one = 0;
    hstu_multiclass m;
    golden_open(&in, folder, "inputs.safetensors");
    golden_open(&out, folder, "expected.safetensors");
    float *logits = golden_f32(&in, "mc_logits", &n), *expected = golden_f32(&out, "auc_multiclass", &one);
    int64_t *label = golden_i64(&in, "mc_labels", &n_labels);
    assert_int_equal(hstu_multiclass_of(&m, logits, label, (size_t)n_labels, (size_t)(n / n_labels), NULL), HSTU_OK);
    if (fabs(m.auc - (double)*expected) > 1e-7)
        fail_msg("expected %.9g, found %.9g", (double)*expected, m.auc);
    assert_int_equal(m.n_classes_seen, 5);
    hs_free(logits);
    hs_free(expected);
    hs_free(label);
    hs_statedict_close(&in);
    hs_statedict_close(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tasks), cmocka_unit_test(test_classes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
