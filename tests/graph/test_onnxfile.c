/* onnxfile: the bytes are read back by a small reader of protobuf's wire format that knows nothing of the writer, message by
 * message; files equal buffers; a full disk, a limit and a failed graph are told, and leave nothing behind. */
#include "base/reserve.h"
#include "graph/onnxfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "graph/every_op.h"

/* ---- a reader ------------------------------------------------------------------------------------------------------- */

typedef struct message {
    const unsigned char *at, *end;
} message;

typedef struct field {
    uint64_t number, value; /* value: of an integer */
    bool is_bytes;
    message bytes;
} field;

static uint64_t read_varint(message *m)
{
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        assert_true(m->at < m->end && shift < 64);
        value |= (uint64_t)(*m->at & 0x7f) << shift;
        if (!(*m->at++ & 0x80)) {
            assert_true(m->at[-1] || shift == 0); /* no longer than it need be */
            return value;
        }
    }
}

static bool next_field(message *m, field *out)
{
    if (m->at == m->end)
        return false;
    const uint64_t key = read_varint(m);
    *out = (field){.number = key >> 3, .is_bytes = (key & 7) == 2};
    assert_true(out->is_bytes || (key & 7) == 0);
    out->value = read_varint(m);
    if (out->is_bytes) {
        assert_true(out->value <= (uint64_t)(m->end - m->at));
        out->bytes = (message){m->at, m->at + out->value};
        m->at += out->value;
    }
    return true;
}

/* The i-th field of this number. */
static bool find(message m, uint64_t number, int i, field *out)
{
    while (next_field(&m, out)) {
        if (out->number == number && i-- == 0)
            return true;
    }
    return false;
}

static message part(message m, uint64_t number, int i)
{
    field f;
    assert_true(find(m, number, i, &f) && f.is_bytes);
    return f.bytes;
}

static int64_t integer(message m, uint64_t number, int i)
{
    field f;
    assert_true(find(m, number, i, &f) && !f.is_bytes);
    return (int64_t)f.value;
}

static int count(message m, uint64_t number)
{
    field f;
    int n = 0;
    while (next_field(&m, &f))
        n += f.number == number;
    return n;
}

static void expect_text(message m, uint64_t number, int i, const char *text)
{
    const message found = part(m, number, i);
    assert_int_equal(found.end - found.at, strlen(text));
    assert_memory_equal(found.at, text, strlen(text));
}

/* Every field has one of these numbers. */
static void expect_only(message m, const char *numbers)
{
    field f;
    while (next_field(&m, &f)) {
        char text[16];
        (void)snprintf(text, sizeof text, " %d ", (int)f.number);
        if (!strstr(numbers, text))
            fail_msg("field %d is none of%s", (int)f.number, numbers);
    }
}

/* ---- what onnx.proto says ------------------------------------------------------------------------------------------- */

static void expect_value_info(message m, const hs_graph_value *v)
{
    expect_only(m, " 1 2 ");
    expect_text(m, 1, 0, v->name);
    const message type = part(part(m, 2, 0), 1, 0), shape = part(type, 2, 0);
    assert_int_equal(integer(type, 1, 0), hs_onnx_type(v->type));
    assert_int_equal(count(shape, 1), v->dims.rank);
    for (int i = 0; i < v->dims.rank; i++)
        assert_int_equal(integer(part(shape, 1, i), 1, 0), v->dims.size[i]);
}

static void expect_tensor(message m, const hs_graph_value *v)
{
    const message raw = part(m, 9, 0);
    expect_only(m, " 1 2 8 9 ");
    assert_int_equal(count(m, 1), v->dims.rank);
    for (int i = 0; i < v->dims.rank; i++)
        assert_int_equal(integer(m, 1, i), v->dims.size[i]);
    assert_int_equal(integer(m, 2, 0), hs_onnx_type(v->type));
    expect_text(m, 8, 0, v->name);
    assert_int_equal(raw.end - raw.at, hs_dims_elements(&v->dims) * hs_dtype_bytes(v->type));
    assert_memory_equal(raw.at, v->data, (size_t)(raw.end - raw.at));
}

static void expect_attribute(message m, const hs_graph_attribute *a)
{
    expect_only(m, a->is_list ? " 1 8 20 " : " 1 3 20 ");
    expect_text(m, 1, 0, a->name);
    assert_int_equal(count(m, a->is_list ? 8 : 3), a->n);
    for (int i = 0; i < a->n; i++)
        assert_int_equal(integer(m, a->is_list ? 8 : 3, i), a->value[i]);
    assert_int_equal(integer(m, 20, 0), a->is_list ? 7 : 2);
}

static void expect_node(message m, const hs_graph *g, int i)
{
    const hs_graph_node *n = &g->node[i];
    char name[64];
    expect_only(m, " 1 2 3 4 5 ");
    assert_int_equal(count(m, 1), n->n_inputs);
    assert_int_equal(count(m, 2), n->n_outputs);
    assert_int_equal(count(m, 5), n->n_attributes);
    for (int j = 0; j < n->n_inputs; j++)
        expect_text(m, 1, j, hs_graph_at(g, n->input[j])->name);
    for (int j = 0; j < n->n_outputs; j++)
        expect_text(m, 2, j, hs_graph_at(g, n->output[j])->name);
    (void)snprintf(name, sizeof name, "%s%d", n->op, i);
    expect_text(m, 3, 0, name);
    expect_text(m, 4, 0, n->op);
    for (int j = 0; j < n->n_attributes; j++)
        expect_attribute(part(m, 5, j), &n->attribute[j]);
}

static void expect_values(message m, const hs_graph *g)
{
    int n_constants = 0, n_between = 0;
    for (int i = 0; i < g->n_values; i++) {
        const hs_graph_value *v = &g->value[i];
        bool is_output = false;
        for (int j = 0; j < g->n_outputs; j++)
            is_output = is_output || g->output[j] == i;
        if (v->kind == HS_VALUE_CONSTANT)
            expect_tensor(part(m, 5, n_constants++), v);
        else if (v->kind == HS_VALUE_NODE && !is_output)
            expect_value_info(part(m, 13, n_between++), v);
    }
    assert_int_equal(count(m, 5), n_constants);
    assert_int_equal(count(m, 13), n_between);
    assert_true(n_constants > 0 && n_between > 0);
}

static void expect_graph(message m, const hs_graph *g)
{
    expect_only(m, " 1 2 5 11 12 13 ");
    expect_text(m, 2, 0, "hstu");
    assert_int_equal(count(m, 1), g->n_nodes);
    for (int i = 0; i < g->n_nodes; i++)
        expect_node(part(m, 1, i), g, i);
    assert_int_equal(count(m, 11), g->n_inputs);
    for (int i = 0; i < g->n_inputs; i++)
        expect_value_info(part(m, 11, i), hs_graph_at(g, g->input[i]));
    assert_int_equal(count(m, 12), g->n_outputs);
    for (int i = 0; i < g->n_outputs; i++)
        expect_value_info(part(m, 12, i), hs_graph_at(g, g->output[i]));
    expect_values(m, g);
}

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

static hs_graph *make_graph(hs_dtype type)
{
    hs_graph *g = hs_graph_new();
    assert_non_null(g);
    every_op(g, type);
    assert_int_equal(hs_graph_check(g, NULL), HSTU_OK);
    return g;
}

static void test_every_operator(void **state)
{
    (void)state;
    char long_127[128] = "", long_128[129] = ""; /* around the first length of two bytes */
    memset(long_127, 'x', 127);
    memset(long_128, 'y', 128);
    const hs_onnx_metadata metadata[4] = {
        {"inputs", "a: \"three\" \xc3\xa9\n"}, {"outputs", ""}, {"127", long_127}, {"128", long_128}};
    for (int half = 0; half < 2; half++) {
        hs_graph *g = make_graph(half ? HS_F16 : HS_F32);
        hs_dynbuf buf;
        hs_dynbuf_init(&buf, 1 << 20);
        assert_int_equal(hs_onnx_encode(&buf, g, metadata, 4, NULL), HSTU_OK);
        const message m = {(const unsigned char *)buf.data, (const unsigned char *)buf.data + buf.len};
        expect_only(m, " 1 2 7 8 14 ");
        assert_int_equal(integer(m, 1, 0), 8);
        expect_text(m, 2, 0, "hstu");
        assert_int_equal(count(m, 8), 1);
        expect_text(part(m, 8, 0), 1, 0, "");
        assert_int_equal(integer(part(m, 8, 0), 2, 0), 17);
        assert_int_equal(count(m, 14), 4);
        for (int i = 0; i < 4; i++) {
            expect_text(part(m, 14, i), 1, 0, metadata[i].key);
            expect_text(part(m, 14, i), 2, 0, metadata[i].value);
        }
        assert_int_equal(count(m, 7), 1);
        expect_graph(part(m, 7, 0), g);
        hs_dynbuf_free(&buf);
        hs_graph_free(g);
    }
}

static void test_file_equals_buffer(void **state)
{
    (void)state;
    char path[] = "/tmp/hstu_test_onnx_XXXXXX", found[1 << 14];
    const int fd = mkstemp(path);
    hs_graph *g = make_graph(HS_F32);
    hs_dynbuf buf;
    hs_outfile *file = NULL;
    assert_true(fd >= 0);
    (void)close(fd);
    hs_dynbuf_init(&buf, 1 << 20);
    assert_int_equal(hs_onnx_encode(&buf, g, NULL, 0, NULL), HSTU_OK);
    assert_int_equal(hs_outfile_open(&file, path, NULL), HSTU_OK);
    assert_int_equal(hs_onnx_write(file, g, NULL, 0, NULL), HSTU_OK);
    assert_int_equal(hs_outfile_commit(file, NULL), HSTU_OK);
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    const size_t n = fread(found, 1, sizeof found, stream);
    (void)fclose(stream);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(n, buf.len);
    assert_memory_equal(found, buf.data, n);
    hs_dynbuf_free(&buf);
    hs_graph_free(g);
}

static void test_full_disk(void **state)
{
    (void)state;
    static const char data[4 << 20];
    hstu_error err;
    hs_outfile *file = NULL;
    if (access("/dev/full", W_OK) != 0)
        skip();
    hs_graph *g = make_graph(HS_F32);
    hs_graph_output(g, "large", hs_graph_constant(g, HS_U8, hs_dims_1(sizeof data), data));
    assert_int_equal(hs_outfile_open(&file, "/dev/full", NULL), HSTU_OK);
    assert_int_equal(hs_onnx_write(file, g, NULL, 0, &err), HSTU_EIO);
    assert_string_equal(err.msg, "cannot write '/dev/full': No space left on device");
    hs_outfile_discard(file);
    hs_graph_free(g);
}

/* A model with a constant of n bytes that are never touched. */
static hstu_status write_large(const void *data, int64_t n, hstu_error *err)
{
    hs_outfile *file = NULL;
    hs_graph *g = hs_graph_new();
    assert_non_null(g);
    hs_graph_output(g, "y", hs_graph_constant(g, HS_U8, hs_dims_1(n), data));
    assert_int_equal(hs_outfile_open(&file, "/dev/null", NULL), HSTU_OK);
    const hstu_status status = hs_onnx_write(file, g, NULL, 0, err);
    hs_outfile_discard(file);
    hs_graph_free(g);
    return status;
}

static void test_size_limit(void **state)
{
    (void)state;
    hstu_error err;
    unsigned long long bytes = 0;
    const size_t limit = INT32_MAX;
    void *data = hs_reserve(limit);
    if (!data)
        skip();
    assert_int_equal(write_large(data, INT32_MAX, &err), HSTU_EUNSUP);
    assert_int_equal(sscanf(err.msg, "the ONNX model would have %llu bytes", &bytes), 1);
    assert_non_null(strstr(err.msg, " bytes, and the format allows at most 2147483647"));
    assert_in_range(bytes, limit + 1, limit + 200);
    const int64_t around = (int64_t)(bytes - limit); /* what stands around the constant */
    assert_int_equal(write_large(data, INT32_MAX - around + 1, &err), HSTU_EUNSUP);
    assert_string_equal(
        err.msg, "the ONNX model would have 2147483648 bytes, and the format allows at most 2147483647");
    assert_int_equal(write_large(data, INT32_MAX - around, &err), HSTU_OK);
    hs_reserve_free(data, limit);
}

static void test_buffer_limit(void **state)
{
    (void)state;
    hstu_error err;
    hs_graph *g = make_graph(HS_F32);
    hs_dynbuf buf;
    hs_dynbuf_init(&buf, 100);
    assert_true(hs_dynbuf_append_text(&buf, "before"));
    assert_int_equal(hs_onnx_encode(&buf, g, NULL, 0, &err), HSTU_EUNSUP);
    assert_string_equal(err.msg, "an ONNX model in memory would be larger than 100 bytes");
    assert_string_equal(buf.data, "before");
    assert_int_equal(buf.len, 6);
    hs_dynbuf_free(&buf);
    hs_graph_free(g);
}

static void test_failed_graph(void **state)
{
    (void)state;
    hstu_error err;
    hs_dynbuf buf;
    hs_graph *g = make_graph(HS_F32);
    hs_dynbuf_init(&buf, 1 << 20);
    (void)hs_graph_sqrt(g, HS_NO_VALUE);
    assert_int_equal(hs_onnx_encode(&buf, g, NULL, 0, &err), HSTU_EINVAL);
    assert_string_equal(err.msg, "cannot build Sqrt: -1 is no value of the graph");
    assert_null(buf.data);
    hs_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_operator), cmocka_unit_test(test_file_equals_buffer),
        cmocka_unit_test(test_full_disk), cmocka_unit_test(test_size_limit), cmocka_unit_test(test_buffer_limit),
        cmocka_unit_test(test_failed_graph)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
