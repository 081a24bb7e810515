/* Clearing the last tokens of a page leaves what a page has that never held them. */
#include "kv_test.h"

static void check_clear(hs_kv_shape shape, int64_t from)
{
    const int64_t offset[] = {0}, all[] = {shape.page_tokens}, some[] = {from};
    hs_mat k = mat_new(shape.page_tokens, shape.n_heads * shape.dqk, shape.n_heads * shape.dqk, FILL_SIGNED, 31);
    hs_mat v = mat_new(shape.page_tokens, shape.n_heads * shape.dv, shape.n_heads * shape.dv, FILL_SIGNED, 32);
    kv_pages full = kv_of(shape, &k, &v, offset, all, 1), want = kv_new(shape, all, 1);
    const size_t bytes = hs_kv_layer_bytes(&shape);
    memset(want.page[0], 0, bytes);
    for (int64_t j = 0; j < some[0]; j++)
        kv_put(&want, 0, j, k.data + j * k.ld, v.data + j * v.ld);
    hs_kv_clear(&shape, full.page[0], from);
    if (shape.type == HS_BF16 && shape.dqk % 2) { /* the empty half of a token's last pair */
        hs_kv_clear(&shape, want.page[0], from);
        for (int64_t h = 0; h < shape.n_heads; h++) {
            const char *got = hs_kv_keys(&shape, full.page[0], h), *expected = hs_kv_keys(&shape, want.page[0], h);
            for (size_t i = 0; i < hs_kv_key_bytes(&shape); i += 2) {
                const size_t word = i / 4, row = word / 16 % (size_t)((shape.dqk + 1) / 2);
                if (i % 4 == 0 || row != (size_t)(shape.dqk / 2))
                    assert_memory_equal(got + i, expected + i, 2);
            }
            assert_memory_equal(hs_kv_values(&shape, full.page[0], h), hs_kv_values(&shape, want.page[0], h),
                hs_kv_value_bytes(&shape));
        }
    } else {
        assert_memory_equal(full.page[0], want.page[0], bytes);
    }
    kv_free(&full);
    kv_free(&want);
    hs_free(k.data);
    hs_free(v.data);
}

static void test_clear(void **state)
{
    (void)state;
    for (int64_t from = 0; from <= 64; from++) {
        check_clear((hs_kv_shape){.type = HS_F32, .page_tokens = 64, .n_heads = 2, .dqk = 5, .dv = 3}, from);
        check_clear((hs_kv_shape){.type = HS_BF16, .page_tokens = 64, .n_heads = 3, .dqk = 6, .dv = 5}, from);
        check_clear((hs_kv_shape){.type = HS_BF16, .page_tokens = 64, .n_heads = 2, .dqk = 5, .dv = 3}, from);
        check_clear((hs_kv_shape){.type = HS_F32, .page_tokens = 64, .n_heads = 1, .dqk = 6, .dv = 48}, from);
        check_clear((hs_kv_shape){.type = HS_BF16, .page_tokens = 64, .n_heads = 2, .dqk = 5, .dv = 37}, from);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_clear)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
