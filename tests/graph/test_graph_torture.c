/* Every allocation of building and encoding a graph fails once, on its own: the first failure stays, and nothing is lost. */
#include "base/error.h"
#include "graph/onnxfile.h"

#include "graph/every_op.h"
#include "torture.h"

static hstu_status build_and_encode(void *ctx, hstu_error *err)
{
    (void)ctx;
    hs_dynbuf out;
    hs_graph *g = hs_graph_new();
    if (!g)
        return hs_fail_nomem(err, sizeof *g, "a graph");
    hs_dynbuf_init(&out, SIZE_MAX);
    every_op(g, HS_F16);
    const bool built = hs_graph_check(g, NULL) == HSTU_OK;
    const hstu_status status = hs_onnx_encode(&out, g, NULL, 0, err);
    assert_true((status == HSTU_OK) == (out.len > 0));
    assert_true(built || out.data == NULL);
    hs_dynbuf_free(&out);
    hs_graph_free(g);
    return status;
}

static void test_allocations(void **state)
{
    (void)state;
    torture(build_and_encode, NULL, 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_allocations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
