/* Sessions on ONNX Runtime's own provider: what is shared, what stays in place, threads, and that standard error stays empty. */
#include "ort_support.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static void test_info(void **state)
{
    (void)state;
    const hs_ort_choice choice = choice_of("ort-cpu");
    hs_ort *ort = open_or_skip(&choice);
    hs_ort_info info;
    hs_ort_get_info(ort, &info);
    assert_int_equal(strncmp(info.ort_version, "1.", 2), 0);
    assert_int_equal(info.library[0], '/');
    assert_string_equal(info.provider, "CPUExecutionProvider");
    assert_string_equal(info.kind, "CPU");
    assert_null(info.provider_library);
    assert_false(info.is_virtual);
    hs_ort_close(ort);
    hs_ort_close(NULL);
    hs_ort_session_close(NULL);
    hs_ort_binding_close(NULL);
}

/* y = x @ w with a constant that is large enough to stay where it is. */
enum { IN = 16, OUT = 8 };
static _Alignas(64) float weight[IN * OUT];

static rig product_rig(hs_ort *ort)
{
    rig r = rig_on(ort);
    for (int i = 0; i < IN * OUT; i++)
        weight[i] = (float)(i % 5) - 2;
    const hs_value x = rig_floats(&r, hs_dims_2(1, IN));
    rig_output(&r, hs_graph_matmul(r.g, x, hs_graph_constant(r.g, HS_F32, hs_dims_2(IN, OUT), weight)));
    return r;
}

static void check_product(const rig *r, const float *x, const float *y)
{
    (void)r;
    for (size_t col = 0; col < OUT; col++) {
        double sum = 0;
        for (size_t k = 0; k < IN; k++)
            sum += (double)x[k] * weight[k * OUT + col];
        expect_near(y[col], sum, 1e-6, "product", col);
    }
}

/* One environment for all; it ends with the last and starts anew. */
static void test_several(void **state)
{
    (void)state;
    const hs_ort_choice choice = choice_of("ort-cpu");
    for (int round = 0; round < 3; round++) {
        hs_ort *a = open_or_skip(&choice), *b = open_or_skip(&choice);
        rig r = product_rig(a), s = product_rig(b);
        rig_run(&r);
        rig_free(&r);
        hs_ort_close(a);
        rig_run(&s);
        check_product(&s, s.in[0], s.out[0]);
        rig_free(&s);
        hs_ort_close(b);
    }
}

static void test_another_library(void **state)
{
    (void)state;
    hs_ort_choice choice = choice_of("ort-cpu");
    hs_ort *ort = open_or_skip(&choice);
    hs_ort_info info;
    hs_ort_get_info(ort, &info);
    choice.library = FAKE_ORT_EMPTY;
    expect_open(&choice, HSTU_EDEVICE, "one process cannot use");
    char path[1024];
    snprintf(path, sizeof path, "%s", info.library); /* the same one by its full path is no other */
    choice.library = path;
    hs_ort *again = open_or_skip(&choice);
    hs_ort_close(ort);
    hs_ort_close(again);
    choice.library = FAKE_ORT_EMPTY;
    expect_open(&choice, HSTU_EDEVICE, "has no OrtGetApiBase");
}

/* The session reads the caller's constant itself; a binding is told once where its memory is. */
static void test_in_place(void **state)
{
    (void)state;
    const hs_ort_choice choice = choice_of("ort-cpu");
    hs_ort *ort = open_or_skip(&choice);
    rig r = product_rig(ort);
    hs_ort_binding *binding = NULL;
    rig_compile(&r);
    assert_int_equal(hs_ort_session_nodes(r.session), 1);
    hs_graph_free(r.g); /* a session needs it no more */
    r.g = NULL;
    assert_int_equal(hs_ort_bind(r.session, r.in, r.out, &binding, NULL), HSTU_OK);
    for (int round = 0; round < 3; round++) {
        weight[5] = (float)round * 10;
        ((float *)r.in[0])[0] = (float)round;
        assert_int_equal(hs_ort_run(binding, NULL), HSTU_OK);
        check_product(&r, r.in[0], r.out[0]);
    }
    hs_ort_binding_close(binding);
    rig_free(&r);
    hs_ort_close(ort);
}

static void test_as_onnx_copies(void **state)
{
    (void)state;
    hs_ort_choice choice = choice_of("ort-cpu");
    choice.as_onnx = true;
    hs_ort *ort = open_or_skip(&choice);
    rig r = product_rig(ort);
    rig_compile(&r);
    hs_graph_free(r.g);
    r.g = NULL;
    const float kept = weight[5];
    weight[5] = 1000;
    rig_run(&r);
    weight[5] = kept;
    check_product(&r, r.in[0], r.out[0]);
    rig_free(&r);
    hs_ort_close(ort);
}

/* ---- threads ---- */

enum { THREADS = 4, RUNS = 100 };

typedef struct worker {
    pthread_t thread;
    hs_ort *ort;
    hs_ort_session *session; /* shared; NULL: compiles one of its own */
    const hs_graph *g;
    _Alignas(64) float x[IN];
    _Alignas(64) float y[OUT];
    int seed;
    bool wrong;
} worker;

static void *work(void *argument)
{
    worker *w = argument;
    hs_ort_session *session = w->session;
    hs_ort_binding *binding = NULL;
    void *in[] = {w->x}, *out[] = {w->y};
    w->wrong = !session && hs_ort_compile(w->ort, w->g, &session, NULL) != HSTU_OK;
    w->wrong = w->wrong || hs_ort_bind(session, in, out, &binding, NULL) != HSTU_OK;
    for (int run = 0; run < RUNS && !w->wrong; run++) {
        for (int k = 0; k < IN; k++)
            w->x[k] = (float)((run + k * w->seed) % 9);
        w->wrong = hs_ort_run(binding, NULL) != HSTU_OK;
        for (int col = 0; col < OUT && !w->wrong; col++) {
            float sum = 0; /* small integers: exact in any order */
            for (int k = 0; k < IN; k++)
                sum += w->x[k] * weight[k * OUT + col];
            w->wrong = w->y[col] != sum;
        }
    }
    hs_ort_binding_close(binding);
    if (!w->session)
        hs_ort_session_close(session);
    return NULL;
}

static void run_threads(bool shared)
{
    hs_ort_choice choice = choice_of("ort-cpu");
    choice.threads = 2;
    hs_ort *ort = open_or_skip(&choice);
    rig r = product_rig(ort);
    rig_compile(&r);
    static worker w[THREADS];
    for (int i = 0; i < THREADS; i++) {
        w[i] = (worker){.ort = ort, .session = shared ? r.session : NULL, .g = r.g, .seed = i + 1};
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(w[i].thread, NULL);
        assert_false(w[i].wrong);
    }
    rig_free(&r);
    hs_ort_close(ort);
}

static void test_threads_share_a_session(void **state)
{
    (void)state;
    run_threads(true);
}

static void test_threads_compile(void **state)
{
    (void)state;
    run_threads(false);
}

static void *open_and_close(void *argument)
{
    bool *wrong = argument;
    const hs_ort_choice choice = choice_of("ort-cpu");
    for (int i = 0; i < 5 && !*wrong; i++) {
        hs_ort *ort = NULL;
        *wrong = hs_ort_open(&ort, &choice, NULL) != HSTU_OK;
        hs_ort_close(ort);
    }
    return NULL;
}

static void test_threads_open(void **state)
{
    (void)state;
    const hs_ort_choice choice = choice_of("ort-cpu");
    hs_ort_close(open_or_skip(&choice));
    pthread_t thread[THREADS];
    bool wrong[THREADS] = {false};
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, open_and_close, &wrong[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        assert_false(wrong[i]);
    }
}

/* ---- errors ---- */

static void test_bad_graph(void **state)
{
    (void)state;
    const hs_ort_choice choice = choice_of("ort-cpu");
    hs_ort *ort = open_or_skip(&choice);
    hs_graph *g = hs_graph_new();
    hs_ort_session *session = NULL;
    hstu_error err = {.msg = ""}, reason = {.msg = ""};
    const hs_value a = hs_graph_input(g, "a", HS_F32, hs_dims_2(2, 3)),
                   b = hs_graph_input(g, "b", HS_F32, hs_dims_2(2, 3));
    hs_graph_output(g, "c", hs_graph_matmul(g, a, b));
    const hstu_status expected = hs_graph_check(g, &reason);
    assert_int_not_equal(expected, HSTU_OK);
    assert_int_equal(hs_ort_compile(ort, g, &session, &err), expected);
    assert_string_equal(err.msg, reason.msg);
    assert_null(session);
    hs_graph_free(g);
    hs_ort_close(ort);
}

/* An index past the end: the runtime finds it while it runs. */
static void test_run_fails(void **state)
{
    (void)state;
    const hs_ort_choice choice = choice_of("ort-cpu");
    hs_ort *ort = open_or_skip(&choice);
    rig r = rig_on(ort);
    const hs_value x = rig_floats(&r, hs_dims_2(3, 4)), index = rig_input(&r, HS_I64, hs_dims_1(1));
    ((int64_t *)r.in[1])[0] = 99;
    rig_output(&r, hs_graph_gather(r.g, x, index));
    rig_compile(&r);
    hs_ort_binding *binding = NULL;
    hstu_error err = {.msg = ""};
    assert_int_equal(hs_ort_bind(r.session, r.in, r.out, &binding, NULL), HSTU_OK);
    assert_int_equal(hs_ort_run(binding, &err), HSTU_EDEVICE);
    expect_text(err.msg, "CPUExecutionProvider: ");
    expect_text(err.msg, "99");
    ((int64_t *)r.in[1])[0] = 2; /* the next run is as if nothing had been */
    assert_int_equal(hs_ort_run(binding, &err), HSTU_OK);
    assert_float_equal(((float *)r.out[0])[3], ((float *)r.in[0])[11], 0);
    hs_ort_binding_close(binding);
    rig_free(&r);
    hs_ort_close(ort);
}

static void test_providers(void **state)
{
    (void)state;
    hs_ort_choice choice = choice_of("ort-cpu");
    hs_ort_close(open_or_skip(&choice));
    char home[] = "/tmp/hstu_ort_XXXXXX"; /* without providers, whatever is installed */
    assert_non_null(mkdtemp(home));
    hs_ort_info info;
    hs_ort *ort = open_or_skip(&choice);
    hs_ort_get_info(ort, &info);
    char library[1024];
    snprintf(library, sizeof library, "%s", info.library);
    hs_ort_close(ort);
    choice.library = library;
    char *old = getenv("HSTU_ORT_HOME");
    setenv("HSTU_ORT_HOME", home, 1);
    const char *const vendor[][2] = {{"npu:qualcomm", "'scripts/get_onnxruntime qualcomm'"},
        {"npu:amd", "--ort_provider_library"}, {"npu:VitisAIExecutionProvider", "--ort_provider_library"}};
    for (size_t i = 0; i < sizeof vendor / sizeof vendor[0]; i++) {
        choice.device = vendor[i][0];
        expect_open(&choice, HSTU_EDEVICE, vendor[i][1]);
    }
    choice.device = "npu:nobody";
    expect_open(&choice, HSTU_EINVAL, "'npu:nobody' is unknown");
    choice.provider_library = "/nowhere/provider.so";
    expect_open(&choice, HSTU_ENOENT, "'/nowhere/provider.so' does not exist");
    choice.provider_library = TEST_DATA "/fuzz/README.md";
    expect_open(&choice, HSTU_EDEVICE, "cannot load the provider");
    choice.provider_library = FAKE_ORT_EMPTY;
    expect_open(&choice, HSTU_EDEVICE, "has no CreateEpFactories");
    if (old)
        setenv("HSTU_ORT_HOME", old, 1);
    else
        unsetenv("HSTU_ORT_HOME");
    rmdir(home);
}

static void test_list(void **state)
{
    (void)state;
    hs_ort_choice choice = choice_of("ort-cpu");
    hs_ort_close(open_or_skip(&choice));
    hs_ort_seen *seen = NULL;
    size_t n = 0;
    bool cpu = false, vendor[4] = {false};
    static const char *const name[] = {"npu:intel", "npu:qualcomm", "npu:ascend", "npu:amd"};
    assert_int_equal(hs_ort_list(&seen, &n, &choice, NULL), HSTU_OK);
    for (size_t i = 0; i < n; i++) {
        assert_true(seen[i].usable == (seen[i].why[0] == '\0'));
        cpu = cpu || (strcmp(seen[i].name, "ort-cpu") == 0 && seen[i].usable);
        for (int v = 0; v < 4; v++)
            vendor[v] = vendor[v] || strcmp(seen[i].name, name[v]) == 0;
    }
    assert_true(cpu && vendor[0] && vendor[1] && vendor[2] && vendor[3]);
    hs_free(seen);
}

/* All of the above that fails once more, with standard error in a file. */
static void test_silence(void **state)
{
    const hs_ort_choice choice = choice_of("ort-cpu");
    hs_ort_close(open_or_skip(&choice));
    char path[] = "/tmp/hstu_err_XXXXXX";
    const int file = mkstemp(path), kept = dup(STDERR_FILENO);
    assert_true(file >= 0 && kept >= 0 && dup2(file, STDERR_FILENO) >= 0);
    test_run_fails(state);
    test_providers(state);
    test_list(state);
    dup2(kept, STDERR_FILENO);
    close(kept);
    char text[200] = "";
    const ssize_t n = pread(file, text, sizeof text - 1, 0);
    close(file);
    unlink(path);
    if (n != 0)
        fail_msg("on standard error: %s", text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_another_library),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_as_onnx_copies),
        cmocka_unit_test(test_threads_share_a_session),
        cmocka_unit_test(test_threads_compile),
        cmocka_unit_test(test_threads_open),
        cmocka_unit_test(test_bad_graph),
        cmocka_unit_test(test_run_fails),
        cmocka_unit_test(test_providers),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
