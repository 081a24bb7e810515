/* Time buckets: the thresholds that PyTorch's CPU build was seen to have, and the matrix that attention reads. */
#include "kernel_test.h"

#include "device/cpu/cpu_bucket.h"

/* thresholds_cpu of the golden case retrieval/time_buckets: the smallest difference with bucket >= b, b = 1 .. 103. */
static const int64_t GOLDEN[] = {2, 2, 3, 4, 5, 7, 9, 12, 16, 21, 28, 38, 51, 68, 92, 124, 167, 226, 305, 412, 557, 752,
    1016, 1372, 1854, 2505, 3385, 4574, 6180, 8350, 11283, 15245, 20600, 27834, 37610, 50818, 68666, 92782, 125367,
    169397, 228891, 309280, 417901, 564672, 762990, 1030959, 1393042, 1882290, 2543367, 3436623, 4643595, 6274467,
    8478123, 11455709, 15479071, 20915478, 28261151, 38186755, 51598326, 69720053, 94206444, 127292700, 171999192,
    232406601, 314030161, 424319920, 573345376, 774710112, 1046794145, 1414438848, 1911204161, 2582433664, 3489410432,
    4714926848, 6370844929, 8608349696, 11631690241, 15716857344, 21236737025, 28695292928, 38773372928, 52390873089,
    70791081984, 95653629953, 129247899648, 174641078272, 235976794113, 318853627905, 430838267905, 582153043969,
    786609569792, 1062874873856, 1436167241729, 1940563755009, 2622104403969, 3543014178817, 4787356827649,
    6468712792065, 8740590059521, 11810374156289, 15958267133952, 21562972438529, 29136107077633};
enum { N_GOLDEN = sizeof GOLDEN / sizeof GOLDEN[0] };

static int64_t bucket_of(int64_t delta)
{
    hs_bucket_index index;
    hs_bucket_index_init(&index);
    return hs_bucket_of(&index, delta, 128);
}

static int64_t thresholds_up_to(int64_t delta)
{
    int64_t count = 0;
    for (int i = 0; i < N_GOLDEN; i++)
        count += GOLDEN[i] <= delta;
    return count;
}

static void test_thresholds(void **state)
{
    (void)state;
    assert_int_equal(N_GOLDEN, 103);
    for (int i = 0; i < N_GOLDEN; i++) {
        for (int64_t delta = GOLDEN[i] - 1; delta <= GOLDEN[i] + 1; delta++) {
            assert_int_equal(bucket_of(delta), thresholds_up_to(delta));
            assert_int_equal(bucket_of(-delta), thresholds_up_to(delta));
        }
    }
}

static void test_small_and_huge(void **state)
{
    (void)state;
    assert_int_equal(bucket_of(0), 0);
    assert_int_equal(bucket_of(1), 0);
    assert_int_equal(bucket_of(-1), 0);
    assert_int_equal(bucket_of((INT64_C(1) << 45) - 1), 103);
    assert_int_equal(bucket_of(INT64_C(1) << 46), 105); /* 46 ln 2 / 0.301 = 105.93 */
    assert_int_equal(bucket_of(INT64_C(1) << 50), 115); /* 50 ln 2 / 0.301 = 115.14 */
    assert_int_equal(bucket_of(INT64_MAX), 128);        /* 145 before the clamp */
    assert_int_equal(bucket_of(-INT64_MAX), 128);
    assert_int_equal(bucket_of(INT64_MIN), 0); /* its magnitude wraps to a negative number, which is clamped to 1 */
    hs_bucket_index index;
    hs_bucket_index_init(&index);
    assert_int_equal(hs_bucket_of(&index, INT64_MAX, 255), 145);
    assert_int_equal(hs_bucket_of(&index, 1000, 5), 5);
}

/* Spec 2.6 word by word: t is rows, query time, zeros; row i compares t[min(i + 1, n - 1)] with every t[j], or with those up to
 * t[i]. Rows before first[b] are left out. */
static void check_matrix(bool all_columns, const int64_t *first, int threads)
{
    enum { N = 12, USERS = 4 };
    const int64_t offset[USERS + 1] = {0, 3, 3, 15, 16};
    const int64_t timestamp[16] = {1000, 1005, 99999999, 5, INT64_MAX, INT64_MIN, 0, -7, 1600000000, 1600000001,
        1600003600, 1599999999, 3, 2, 1, 1600000000};
    const int64_t query_time[USERS] = {100000400, 7, 1600009999, 1700000000};
    int64_t out_offset[USERS], size = 2;
    for (int b = 0; b < USERS; b++) {
        const int64_t rows = offset[b + 1] - offset[b];
        out_offset[b] = size;
        size += (rows - (first ? first[b] : 0)) * (all_columns ? N : rows) +
                1; /* one byte between users that nobody may write */
    }
    uint8_t *out = hs_alloc((size_t)size, 1), *want = hs_alloc((size_t)size, 1);
    assert_true(out && want);
    memset(out, 0xee, (size_t)size);
    memset(want, 0xee, (size_t)size);
    for (int b = 0; b < USERS; b++) {
        const int64_t rows = offset[b + 1] - offset[b], cols = all_columns ? N : rows;
        int64_t t[N + 1] = {0};
        for (int64_t j = 0; j < rows; j++)
            t[j] = timestamp[offset[b] + j];
        t[rows] = query_time[b];
        const int64_t begin = first ? first[b] : 0;
        for (int64_t i = begin; i < rows; i++) {
            for (int64_t j = 0; j < cols; j++) {
                const int64_t now = t[i + 1 < N - 1 ? i + 1 : N - 1];
                int64_t delta = 0;
                (void)__builtin_sub_overflow(now, t[j], &delta);
                want[out_offset[b] + (i - begin) * cols + j] = all_columns || j <= i ? (uint8_t)bucket_of(delta) : 0;
            }
        }
    }
    hs_device *dev = device_new(0, threads);
    const hs_time_bucket_args a = {.out = out,
        .out_offset = out_offset,
        .users = {.n_users = USERS, .offset = offset},
        .first = first,
        .timestamp = timestamp,
        .query_time = query_time,
        .n = N,
        .n_buckets = 128,
        .all_columns = all_columns};
    assert_int_equal(dev->table->time_bucket(dev, &a, NULL), HSTU_OK);
    assert_memory_equal(out, want, (size_t)size);
    hs_device_close(dev);
    hs_free(out);
    hs_free(want);
}

static void test_matrix(void **state)
{
    (void)state;
    const int64_t some[] = {2, 0, 5, 1}, last[] = {3, 0, 11, 0};
    const int64_t *first[] = {NULL, some, last};
    for (int f = 0; f < 3; f++) {
        check_matrix(false, first[f], 1);
        check_matrix(false, first[f], 3);
        check_matrix(true, first[f], 1);
        check_matrix(true, first[f], 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thresholds), cmocka_unit_test(test_small_and_huge), cmocka_unit_test(test_matrix)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
