/* Every allocation of ours fails once, from opening to a run: the failure is told, and what was made is taken back. */
#include "torture.h"

#include "ort_support.h"

static hstu_status run_once(hs_ort *ort, hs_graph *g, hstu_error *err)
{
    static _Alignas(64) float w[64 * 8];
    static _Alignas(64) float x[64];
    static _Alignas(64) float y[8];
    const hs_value in = hs_graph_input(g, "x", HS_F32, hs_dims_2(1, 64));
    const hs_value product = hs_graph_matmul(g, in, hs_graph_constant(g, HS_F32, hs_dims_2(64, 8), w));
    hs_graph_output(g, "y", hs_graph_add(g, product, hs_graph_number(g, HS_F32, 0.5)));
    hs_ort_session *session = NULL;
    hs_ort_binding *binding = NULL;
    void *input[] = {x}, *output[] = {y};
    hstu_status status = hs_ort_compile(ort, g, &session, err);
    if (status == HSTU_OK)
        status = hs_ort_bind(session, input, output, &binding, err);
    if (status == HSTU_OK)
        status = hs_ort_run(binding, err);
    if (status == HSTU_OK)
        assert_float_equal(y[7], 0.5f, 0);
    hs_ort_binding_close(binding);
    hs_ort_session_close(session);
    return status;
}

static hstu_status open_and_run(void *context, hstu_error *err)
{
    hs_ort *ort = NULL;
    hstu_status status = hs_ort_open(&ort, context, err);
    if (status != HSTU_OK) {
        assert_null(ort);
        return status;
    }
    hs_graph *g = hs_graph_new();
    if (g)
        status = run_once(ort, g, err);
    else
        *err = (hstu_error){.code = status = HSTU_ENOMEM, .msg = "out of memory"};
    hs_graph_free(g);
    hs_ort_close(ort);
    return status;
}

static hstu_status list(void *context, hstu_error *err)
{
    hs_ort_seen *seen = NULL;
    size_t n = 0;
    const hstu_status status = hs_ort_list(&seen, &n, context, err);
    assert_true((status == HSTU_OK) == (seen != NULL));
    hs_free(seen);
    return status;
}

static void test_open_and_run(void **state)
{
    (void)state;
    hs_ort_choice choice = choice_of("ort-cpu");
    hs_ort_close(open_or_skip(&choice));
    torture(open_and_run, &choice, 8);
    choice.as_onnx = true;
    torture(open_and_run, &choice, 8);
}

static void test_list(void **state)
{
    (void)state;
    hs_ort_choice choice = choice_of("ort-cpu");
    torture(list, &choice, 0);
    choice.library = "/nowhere/libonnxruntime.so";
    torture(list, &choice, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_and_run),
        cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
