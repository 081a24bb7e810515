/* Retrieval models and the decoder in bfloat16: embeddings within 1e-2 of their float32 ones, on every instruction set of this
 * processor, and the same bits alone as in a batch. (The rounding points of ranking models have golden values.) */
#include "engine/golden.h"

#include "device/cpu/cpu_ops.h"

typedef struct embeddings {
    float *value; /* [n_users, dim] */
    size_t n_users, dim;
} embeddings;

static embeddings encode(const char *checkpoint, const char *dtype, const hstu_batch *batch)
{
    hstu_error err;
    hstu_model_options options;
    hstu_model_info info;
    hstu_model *model = NULL;
    hstu_session *session = NULL;
    golden_options_init(&options);
    options.dtype = dtype;
    assert_ok(hstu_model_open(&model, checkpoint, &options, &err), &err);
    assert_ok(hstu_session_open(&session, model, &err), &err);
    hstu_model_get_info(model, &info);
    const embeddings e = {.value = hs_calloc(batch->n_users * (size_t)info.dim, sizeof *e.value),
        .n_users = batch->n_users,
        .dim = (size_t)info.dim};
    assert_non_null(e.value);
    assert_ok(hstu_encode(session, batch, e.value, e.n_users * e.dim, &err), &err);
    for (size_t u = 0; u < e.n_users; u++) {
        float alone[1024];
        hstu_batch one = *batch;
        one.n_users = 1;
        one.offset = (const int64_t[]){0, batch->offset[u + 1] - batch->offset[u]};
        one.item_id = batch->item_id + batch->offset[u];
        one.timestamp = batch->timestamp ? batch->timestamp + batch->offset[u] : NULL;
        one.query_time = batch->query_time ? batch->query_time + u : NULL;
        assert_ok(hstu_encode(session, &one, alone, e.dim, &err), &err);
        assert_memory_equal(alone, e.value + u * e.dim, e.dim * sizeof *alone);
    }
    hstu_session_close(session);
    hstu_model_close(model);
    return e;
}

/* The largest difference; of embeddings that are no unit vectors, as a part of their largest value. */
static double difference(const embeddings *a, const embeddings *b)
{
    double most = 0, largest = 1;
    for (size_t i = 0; i < a->n_users * a->dim; i++) {
        most = fmax(most, fabs((double)a->value[i] - (double)b->value[i]));
        largest = fmax(largest, fabs((double)a->value[i]));
    }
    return most / largest;
}

static void check(const char *what, const char *checkpoint, const hstu_batch *batch, double bound)
{
    for (int isa = 0; hs_cpu_kernels_at(isa); isa++) {
        if (!hs_cpu_can_run(isa))
            continue;
        assert_int_equal(setenv("HSTU_ISA", hs_cpu_kernels_at(isa)->isa, 1), 0);
        const embeddings exact = encode(checkpoint, "fp32", batch), rounded = encode(checkpoint, "bf16", batch);
        const double d = difference(&exact, &rounded);
        print_message("%s, %s: %.2g\n", what, hs_cpu_kernels_at(isa)->isa, d);
        assert_true(d > 0 && d <= bound);
        hs_free(exact.value);
        hs_free(rounded.value);
    }
    assert_int_equal(unsetenv("HSTU_ISA"), 0);
}

static void check_retrieval(const char *name, const char *checkpoint)
{
    char folder[128], path[1024];
    hs_statedict inputs;
    golden_batch b;
    (void)snprintf(folder, sizeof folder, "retrieval/%s", name);
    (void)snprintf(path, sizeof path, "%s", golden_path(folder, checkpoint));
    golden_open(&inputs, folder, "inputs.safetensors");
    golden_batch_make(&b, &inputs, &inputs, &inputs, "timestamps");
    check(name, path, &b.batch, 1e-2);
    golden_batch_free(&b);
    hs_statedict_close(&inputs);
}

static void test_retrieval(void **state)
{
    (void)state;
    check_retrieval("base_h1_n71", "checkpoint_ep100");
    check_retrieval("concat_ua_n71", "checkpoint_ep100");
    check_retrieval("linact_none_layernorm_out_n71", "checkpoint_ep100");
    check_retrieval("softmax_rel_bias_n71", "checkpoint_ep100");
    check_retrieval("h2_n211_eval", "checkpoint_ep100");
    check_retrieval("sasrec_h2_n71", "checkpoint_ep100");
}

static void test_decoder(void **state)
{
    enum { USERS = 3, LENGTH = 12 };
    int64_t offset[USERS + 1], item[USERS * LENGTH];
    char path[1024];
    (void)state;
    for (int64_t u = 0; u <= USERS; u++)
        offset[u] = u * LENGTH;
    for (int64_t i = 0; i < USERS * LENGTH; i++)
        item[i] = i * 7 % 61;
    const hstu_batch batch = {.n_users = USERS, .offset = offset, .item_id = item};
    (void)snprintf(path, sizeof path, "%s", golden_path("decoder/model_fp32", "model_raw.pt"));
    check("decoder", path, &batch, 1e-2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_retrieval), cmocka_unit_test(test_decoder)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
