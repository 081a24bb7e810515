/* Ranking metrics against counting every pair in double precision, and against values worked out by hand. */
#include "hstu/metric.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { N = 600, N_CLASSES = 5 };

/* cmocka compares in single precision only. */
static void assert_near(double found, double expected, double tolerance)
{
    if (!(fabs(found - expected) <= tolerance))
        fail_msg("expected %.17g, found %.17g", expected, found);
}

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Scores on a grid of `n_values`, so that ties are many; some negative zeros among the zeros. */
static void fill(float *score, size_t stride, uint8_t *positive, size_t n, unsigned n_values, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        const float x = ((float)(next(&seed) % n_values) - (float)(n_values / 2)) / 8;
        score[i * stride] = x == 0 && next(&seed) % 2 ? -x : x;
        positive[i] = next(&seed) % 3 == 0 ? (uint8_t)(1 + next(&seed) % 255) : 0;
    }
}

static double right(float positive, float negative)
{
    return positive > negative ? 1.0 : positive == negative ? 0.5 : 0.0;
}

/* Placements of every candidate among those of the other label, then DeLong's variance as it is written down. */
static hstu_auc count_all(const hstu_scores *s)
{
    static double placement[N];
    hstu_auc m = {0};
    double sum = 0, square[2] = {0};
    for (size_t i = 0; i < s->n; i++) {
        m.n_positive += s->positive[i] != 0;
        m.n_negative += s->positive[i] == 0;
    }
    for (size_t i = 0; i < s->n; i++) {
        placement[i] = 0;
        for (size_t j = 0; j < s->n; j++) {
            const float a = s->score[i * s->stride], b = s->score[j * s->stride];
            if (s->positive[i] && !s->positive[j])
                placement[i] += right(a, b) / (double)m.n_negative;
            else if (!s->positive[i] && s->positive[j])
                placement[i] += right(b, a) / (double)m.n_positive;
        }
        sum += s->positive[i] ? placement[i] : 0;
    }
    if (m.n_positive == 0 || m.n_negative == 0)
        return m;
    m.auc = sum / (double)m.n_positive;
    for (size_t i = 0; i < s->n; i++)
        square[s->positive[i] != 0] += (placement[i] - m.auc) * (placement[i] - m.auc);
    if (m.n_positive > 1 && m.n_negative > 1)
        m.standard_error = sqrt(square[1] / (double)(m.n_positive - 1) / (double)m.n_positive +
                                square[0] / (double)(m.n_negative - 1) / (double)m.n_negative);
    return m;
}

static void check_auc(const hstu_scores *s)
{
    hstu_error err;
    hstu_auc found = {.auc = -1};
    const hstu_auc expected = count_all(s);
    assert_int_equal(hstu_auc_of(&found, s, &err), HSTU_OK);
    assert_int_equal(found.n_positive, expected.n_positive);
    assert_int_equal(found.n_negative, expected.n_negative);
    assert_near(found.auc, expected.auc, 1e-12);
    assert_near(found.standard_error, expected.standard_error, 1e-12);
}

static void test_auc(void **state)
{
    (void)state;
    static const unsigned n_values[] = {1, 2, 7, 40, 1000000};
    static const size_t sizes[] = {0, 1, 2, 3, 10, 101, N};
    static float score[8 * N];
    static uint8_t positive[N];
    for (size_t v = 0; v < sizeof n_values / sizeof *n_values; v++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            for (size_t stride = 1; stride <= 8; stride += 7) {
                fill(score, stride, positive, sizes[i], n_values[v], 31 * v + i);
                check_auc(&(hstu_scores){.score = score, .stride = stride, .positive = positive, .n = sizes[i]});
            }
        }
    }
}

static void test_auc_by_hand(void **state)
{
    (void)state;
    static const float score[] = {0.1f, 0.4f, 0.4f, 0.8f, -INFINITY, INFINITY};
    static const uint8_t positive[] = {0, 0, 1, 1, 1, 0}, none[6] = {0}, all[] = {1, 2, 3, 4, 5, 6};
    hstu_auc m;
    /* Positives .4 .8 -inf against negatives .1 .4 inf: 1.5 + 2 + 0 of 9. */
    assert_int_equal(hstu_auc_of(&m, &(hstu_scores){score, 1, positive, 6}, NULL), HSTU_OK);
    assert_near(m.auc, 3.5 / 9, 1e-15);
    assert_int_equal(m.n_positive, 3);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(hstu_auc_of(&m, &(hstu_scores){score, 1, i ? all : none, 6}, NULL), HSTU_OK);
        assert_near(m.auc, 0, 0);
        assert_near(m.standard_error, 0, 0);
        assert_int_equal(m.n_positive, i ? 6 : 0);
        assert_int_equal(m.n_negative, i ? 0 : 6);
    }
}

static void test_nan(void **state)
{
    (void)state;
    static const float score[] = {0, 1, NAN, 2};
    static const uint8_t positive[] = {0, 1, 0, 1};
    static const int64_t offset[] = {0, 4};
    const hstu_scores s = {score, 1, positive, 4};
    hstu_error err = {0};
    hstu_auc auc = {.auc = 7};
    hstu_gauc gauc = {.gauc = 7};
    hstu_log_loss loss = {.log_loss = 7};
    assert_int_equal(hstu_auc_of(&auc, &s, &err), HSTU_EINVAL);
    assert_string_equal(err.msg, "candidate 2: expected a score, found NaN");
    assert_int_equal(hstu_gauc_of(&gauc, &s, offset, 1, &err), HSTU_EINVAL);
    assert_int_equal(hstu_log_loss_of(&loss, &s, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "candidate 2"));
    assert_true(auc.auc == 7 && gauc.gauc == 7 && loss.log_loss == 7);
}

/* More candidates than integers can count: refused before any is read. */
static void test_too_many(void **state)
{
    (void)state;
    static const float score[] = {0};
    static const uint8_t positive[] = {0};
    static const int64_t label[] = {0}, offset[] = {0, INT64_C(1) << 32};
    const hstu_scores s = {score, 1, positive, (size_t)1 << 32};
    const char *const expected = "expected at most 4294967295 candidates, found 4294967296";
    hstu_error err = {0};
    hstu_auc auc;
    hstu_gauc gauc;
    hstu_multiclass m;
    assert_int_equal(hstu_auc_of(&auc, &s, &err), HSTU_EINVAL);
    assert_string_equal(err.msg, expected);
    assert_int_equal(hstu_gauc_of(&gauc, &s, offset, 1, &err), HSTU_EINVAL);
    assert_string_equal(err.msg, expected);
    assert_int_equal(hstu_multiclass_of(&m, score, label, s.n, 1, &err), HSTU_EINVAL);
    assert_string_equal(err.msg, expected);
    assert_int_equal(hstu_multiclass_of(&m, score, label, SIZE_MAX / 2, 3, &err), HSTU_ENOMEM);
}

static void test_gauc(void **state)
{
    (void)state;
    /* Two candidates in the right order; no candidate; only positives; four candidates. */
    static const float score[] = {1, 2, 5, 6, 7, 3, 3, 1, 9};
    static const uint8_t positive[] = {0, 1, 1, 1, 1, 0, 1, 1, 0};
    static const int64_t offset[] = {0, 2, 2, 5, 9};
    static const int64_t bad[][5] = {{1, 2, 2, 5, 9}, {0, 2, 2, 5, 8}, {0, 5, 2, 5, 9}, {0, 2, 2, 10, 9}};
    const hstu_scores s = {score, 1, positive, 9};
    hstu_error err;
    hstu_gauc m;
    assert_int_equal(hstu_gauc_of(&m, &s, offset, 4, &err), HSTU_OK);
    /* The last user: negatives 3 and 9, positives 3 and 1: half a pair of four. */
    assert_near(m.gauc, (2 * 1.0 + 4 * 0.125) / 6, 1e-15);
    assert_int_equal(m.n_users, 2);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(hstu_gauc_of(&m, &s, bad[i], 4, &err), HSTU_EINVAL);
    assert_int_equal(hstu_gauc_of(&m, &(hstu_scores){score, 1, positive, 0}, offset, 0, &err), HSTU_OK);
    assert_near(m.gauc, 0, 0);
    assert_int_equal(m.n_users, 0);
}

static void test_log_loss(void **state)
{
    (void)state;
    static const float logit[] = {0, 2, -3, 1000, -1000};
    static const uint8_t positive[] = {1, 0, 1, 1, 1};
    hstu_log_loss m;
    const double three = log(2) + log1p(exp(2)) + log1p(exp(3));
    assert_int_equal(hstu_log_loss_of(&m, &(hstu_scores){logit, 1, positive, 3}, NULL), HSTU_OK);
    assert_near(m.log_loss, three / 3, 1e-15);
    assert_near(m.label_rate, 2.0 / 3, 1e-15);
    assert_near(m.normalised_entropy, three / 3 / (log(3) - 2.0 / 3 * log(2)), 1e-14);
    /* Far from zero the loss is the logit itself, or nothing. */
    assert_int_equal(hstu_log_loss_of(&m, &(hstu_scores){logit + 3, 1, positive + 3, 2}, NULL), HSTU_OK);
    assert_near(m.log_loss, 500, 0);
    assert_near(m.normalised_entropy, 0, 0);
    assert_near(m.label_rate, 1, 0);
    static const float infinite[] = {INFINITY, -INFINITY, INFINITY};
    static const uint8_t first[] = {1, 0, 0};
    assert_int_equal(hstu_log_loss_of(&m, &(hstu_scores){infinite, 1, first, 2}, NULL), HSTU_OK);
    assert_true(m.log_loss == 0 && m.normalised_entropy == 0);
    assert_int_equal(hstu_log_loss_of(&m, &(hstu_scores){infinite, 1, first, 3}, NULL), HSTU_OK);
    assert_true(isinf(m.log_loss) && isinf(m.normalised_entropy));
    assert_int_equal(hstu_log_loss_of(&m, &(hstu_scores){logit, 1, positive, 0}, NULL), HSTU_OK);
    assert_true(m.log_loss == 0 && m.normalised_entropy == 0 && m.label_rate == 0);
    /* The logits' rate itself as every prediction: the entropy is not improved. */
    const float constant = (float)log(3);
    static const uint8_t quarter[] = {0, 1, 1, 1};
    const float same[] = {constant, constant, constant, constant};
    assert_int_equal(hstu_log_loss_of(&m, &(hstu_scores){same, 1, quarter, 4}, NULL), HSTU_OK);
    assert_near(m.normalised_entropy, 1, 1e-7);
}

/* One class against the rest with the probabilities themselves, ties included; every number by its definition. */
static void test_multiclass(void **state)
{
    (void)state;
    static float logit[N * N_CLASSES], probability[N];
    static uint8_t positive[N];
    static int64_t label[N];
    uint64_t seed = 5;
    double auc = 0, loss = 0, entropy = 0, accuracy = 0;
    hstu_multiclass m;
    for (size_t i = 0; i < N; i++) {
        label[i] = (int64_t)(next(&seed) % (N_CLASSES - 1)); /* the last class does not occur */
        for (size_t c = 0; c < N_CLASSES; c++)
            logit[i * N_CLASSES + c] = (float)(next(&seed) % 5);
    }
    for (size_t c = 0; c < N_CLASSES; c++) {
        double count = 0;
        for (size_t i = 0; i < N; i++) {
            float sum = 0;
            for (size_t j = 0; j < N_CLASSES; j++)
                sum += expf(logit[i * N_CLASSES + j] - 4);
            /* Rounded, so that equal probabilities tie however they were computed. */
            probability[i] = roundf(expf(logit[i * N_CLASSES + c] - 4) / sum * 65536);
            positive[i] = label[i] == (int64_t)c;
            count += positive[i];
            loss -= positive[i] ? log((double)expf(logit[i * N_CLASSES + c] - 4) / (double)sum) / N : 0;
        }
        auc += count_all(&(hstu_scores){probability, 1, positive, N}).auc / N_CLASSES;
        entropy -= count > 0 ? count / N * log(count / N) : 0;
    }
    for (size_t i = 0; i < N; i++) {
        size_t best = 0;
        for (size_t c = 1; c < N_CLASSES; c++)
            best = logit[i * N_CLASSES + c] > logit[i * N_CLASSES + best] ? c : best;
        accuracy += (double)((int64_t)best == label[i]) / N;
    }
    assert_int_equal(hstu_multiclass_of(&m, logit, label, N, N_CLASSES, NULL), HSTU_OK);
    assert_near(m.auc, auc, 2e-4);
    assert_near(m.log_loss, loss, 1e-6);
    assert_near(m.normalised_entropy, loss / entropy, 1e-6);
    assert_near(m.accuracy, accuracy, 1e-12);
    assert_int_equal(m.n_classes_seen, N_CLASSES - 1);
}

static void test_multiclass_refusals(void **state)
{
    (void)state;
    static const float good[] = {1, 2, 3, 4}, bad[] = {1, 2, 3, NAN};
    static const int64_t label[] = {0, 1}, high[] = {0, 2}, low[] = {-1, 0};
    hstu_error err;
    hstu_multiclass m = {.auc = 7};
    assert_int_equal(hstu_multiclass_of(&m, good, high, 2, 2, &err), HSTU_EINVAL);
    assert_string_equal(err.msg, "candidate 1: expected a label from 0 to 1, found 2");
    assert_int_equal(hstu_multiclass_of(&m, good, low, 2, 2, &err), HSTU_EINVAL);
    assert_int_equal(hstu_multiclass_of(&m, bad, label, 2, 2, &err), HSTU_EINVAL);
    assert_string_equal(err.msg, "candidate 1: expected a finite logit of class 1, found nan");
    assert_int_equal(hstu_multiclass_of(&m, good, label, 2, 0, &err), HSTU_EINVAL);
    assert_near(m.auc, 7, 0);
    assert_int_equal(hstu_multiclass_of(&m, good, label, 0, 2, &err), HSTU_OK);
    assert_near(m.auc, 0, 0);
    /* Both rows say the same, so that each class ties. */
    assert_int_equal(hstu_multiclass_of(&m, good, label, 2, 2, &err), HSTU_OK);
    assert_near(m.auc, 0.5, 0);
    assert_near(m.accuracy, 0.5, 0);
    /* Far apart: exp of the logits themselves overflows. One class alone has no entropy to compare with. */
    static const float far[] = {-3e38f, 3e38f, 1000, 0};
    static const int64_t right_labels[] = {1, 0}, one_class[] = {1, 1};
    assert_int_equal(hstu_multiclass_of(&m, far, right_labels, 2, 2, &err), HSTU_OK);
    assert_true(m.auc == 1 && m.log_loss == 0 && m.normalised_entropy == 0 && m.accuracy == 1);
    assert_int_equal(hstu_multiclass_of(&m, far, one_class, 2, 2, &err), HSTU_OK);
    assert_true(m.auc == 0 && m.log_loss == 500 && m.normalised_entropy == 0 && m.n_classes_seen == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auc),
        cmocka_unit_test(test_auc_by_hand),
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_gauc),
        cmocka_unit_test(test_log_loss),
        cmocka_unit_test(test_multiclass),
        cmocka_unit_test(test_multiclass_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
