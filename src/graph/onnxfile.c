/* ONNX files: the messages and field numbers of onnx.proto, in protobuf's wire format. Sizes stand before what they measure, so
 * each message is emitted twice: once to count its bytes, once to write them. Constants are written from where they lie. */
#include "graph/onnxfile.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "raw_data is little endian"
#endif

enum { IR_VERSION = 8, FILE_LIMIT = INT32_MAX };
enum { WIRE_VARINT = 0, WIRE_BYTES = 2 };
enum {
    MODEL_IR_VERSION = 1,
    MODEL_PRODUCER_NAME = 2,
    MODEL_GRAPH = 7,
    MODEL_OPSET_IMPORT = 8,
    MODEL_METADATA_PROPS = 14
};
enum { OPSET_DOMAIN = 1, OPSET_VERSION = 2 };
enum { ENTRY_KEY = 1, ENTRY_VALUE = 2 };
enum {
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_INITIALIZER = 5,
    GRAPH_INPUT = 11,
    GRAPH_OUTPUT = 12,
    GRAPH_VALUE_INFO = 13
};
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_NAME = 3, NODE_OP_TYPE = 4, NODE_ATTRIBUTE = 5 };
enum { ATTRIBUTE_NAME = 1, ATTRIBUTE_I = 3, ATTRIBUTE_INTS = 8, ATTRIBUTE_TYPE = 20 };
enum { ATTRIBUTE_TYPE_INT = 2, ATTRIBUTE_TYPE_INTS = 7 };
enum { TENSOR_DIMS = 1, TENSOR_DATA_TYPE = 2, TENSOR_NAME = 8, TENSOR_RAW_DATA = 9 };
enum { VALUE_INFO_NAME = 1, VALUE_INFO_TYPE = 2 };
enum { TYPE_TENSOR = 1, TENSOR_TYPE_ELEMENT = 1, TENSOR_TYPE_SHAPE = 2, SHAPE_DIM = 1, DIM_VALUE = 1 };

/* Where bytes go: to a file, to a buffer, or, with neither, nowhere. */
typedef struct sink {
    hs_outfile *file;
    hs_dynbuf *buf;
    uint64_t n_bytes; /* so far */
    hstu_status status;
    hstu_error *err;
} sink;

/* What a message is made of: all of them have this one argument, and look at what they need. */
typedef struct source {
    const hs_graph *g;
    const hs_onnx_metadata *metadata;
    size_t n_metadata;
    int i; /* which node, value, attribute's node or entry */
    const hs_graph_attribute *attribute;
    int64_t size; /* of a dimension */
} source;

/* ---- wire format ---------------------------------------------------------------------------------------------------- */

static void put(sink *s, const void *data, size_t n)
{
    s->n_bytes += n;
    if (s->status != HSTU_OK)
        return;
    if (s->file)
        s->status = hs_outfile_write(s->file, data, n, s->err);
    else if (s->buf && !hs_dynbuf_append(s->buf, data, n))
        s->status = s->buf->out_of_memory ? hs_fail_nomem(s->err, n, "an ONNX model")
                                          : hs_fail(s->err, HSTU_EUNSUP, 0,
                                                "an ONNX model in memory would be larger than %zu bytes", s->buf->max);
}

static void put_varint(sink *s, uint64_t value)
{
    unsigned char byte[10];
    size_t n = 0;
    for (; value > 0x7f; value >>= 7)
        byte[n++] = (unsigned char)(value | 0x80);
    byte[n++] = (unsigned char)value;
    put(s, byte, n);
}

static void put_integer(sink *s, unsigned field, int64_t value)
{
    put_varint(s, field << 3 | WIRE_VARINT);
    put_varint(s, (uint64_t)value);
}

static void put_bytes(sink *s, unsigned field, const void *data, size_t n)
{
    put_varint(s, field << 3 | WIRE_BYTES);
    put_varint(s, n);
    put(s, data, n);
}

static void put_text(sink *s, unsigned field, const char *text)
{
    put_bytes(s, field, text, strlen(text));
}

/* A sink that only counts gets the count, so that a message is not counted again for every message around it. */
static void put_message(sink *s, unsigned field, void (*emit)(sink *, const source *), const source *from)
{
    sink count = {0};
    emit(&count, from);
    put_varint(s, field << 3 | WIRE_BYTES);
    put_varint(s, count.n_bytes);
    if (s->file || s->buf)
        emit(s, from);
    else
        s->n_bytes += count.n_bytes;
}

/* ---- messages ------------------------------------------------------------------------------------------------------- */

static void dimension(sink *s, const source *from)
{
    put_integer(s, DIM_VALUE, from->size);
}

static void shape(sink *s, const source *from)
{
    const hs_dims *dims = &from->g->value[from->i].dims;
    for (int i = 0; i < dims->rank; i++)
        put_message(s, SHAPE_DIM, dimension, &(source){.size = dims->size[i]});
}

static void tensor_type(sink *s, const source *from)
{
    put_integer(s, TENSOR_TYPE_ELEMENT, hs_onnx_type(from->g->value[from->i].type));
    put_message(s, TENSOR_TYPE_SHAPE, shape, from);
}

static void type(sink *s, const source *from)
{
    put_message(s, TYPE_TENSOR, tensor_type, from);
}

static void value_info(sink *s, const source *from)
{
    put_text(s, VALUE_INFO_NAME, from->g->value[from->i].name);
    put_message(s, VALUE_INFO_TYPE, type, from);
}

static void tensor(sink *s, const source *from)
{
    const hs_graph_value *v = &from->g->value[from->i];
    for (int i = 0; i < v->dims.rank; i++)
        put_integer(s, TENSOR_DIMS, v->dims.size[i]);
    put_integer(s, TENSOR_DATA_TYPE, hs_onnx_type(v->type));
    put_text(s, TENSOR_NAME, v->name);
    put_bytes(s, TENSOR_RAW_DATA, v->data, hs_dims_elements(&v->dims) * hs_dtype_bytes(v->type));
}

static void attribute(sink *s, const source *from)
{
    const hs_graph_attribute *a = from->attribute;
    put_text(s, ATTRIBUTE_NAME, a->name);
    for (int i = 0; i < a->n; i++)
        put_integer(s, a->is_list ? ATTRIBUTE_INTS : ATTRIBUTE_I, a->value[i]);
    put_integer(s, ATTRIBUTE_TYPE, a->is_list ? ATTRIBUTE_TYPE_INTS : ATTRIBUTE_TYPE_INT);
}

static void node(sink *s, const source *from)
{
    const hs_graph_node *n = &from->g->node[from->i];
    char name[HS_GRAPH_NAME_BYTES];
    for (int i = 0; i < n->n_inputs; i++)
        put_text(s, NODE_INPUT, from->g->value[n->input[i]].name);
    for (int i = 0; i < n->n_outputs; i++)
        put_text(s, NODE_OUTPUT, from->g->value[n->output[i]].name);
    (void)snprintf(name, sizeof name, "%s%d", n->op, from->i);
    put_text(s, NODE_NAME, name);
    put_text(s, NODE_OP_TYPE, n->op);
    for (int i = 0; i < n->n_attributes; i++)
        put_message(s, NODE_ATTRIBUTE, attribute, &(source){.attribute = &n->attribute[i]});
}

static bool is_output(const hs_graph *g, int v)
{
    for (int i = 0; i < g->n_outputs; i++) {
        if (g->output[i] == v)
            return true;
    }
    return false;
}

static void graph(sink *s, const source *from)
{
    const hs_graph *g = from->g;
    for (int i = 0; i < g->n_nodes; i++)
        put_message(s, GRAPH_NODE, node, &(source){.g = g, .i = i});
    put_text(s, GRAPH_NAME, "hstu");
    for (int i = 0; i < g->n_values; i++) {
        if (g->value[i].kind == HS_VALUE_CONSTANT)
            put_message(s, GRAPH_INITIALIZER, tensor, &(source){.g = g, .i = i});
    }
    for (int i = 0; i < g->n_inputs; i++)
        put_message(s, GRAPH_INPUT, value_info, &(source){.g = g, .i = g->input[i]});
    for (int i = 0; i < g->n_outputs; i++)
        put_message(s, GRAPH_OUTPUT, value_info, &(source){.g = g, .i = g->output[i]});
    for (int i = 0; i < g->n_values; i++) {
        if (g->value[i].kind == HS_VALUE_NODE && !is_output(g, i))
            put_message(s, GRAPH_VALUE_INFO, value_info, &(source){.g = g, .i = i});
    }
}

static void operator_set(sink *s, const source *from)
{
    (void)from;
    put_text(s, OPSET_DOMAIN, "");
    put_integer(s, OPSET_VERSION, HS_GRAPH_OPSET);
}

static void metadata_entry(sink *s, const source *from)
{
    put_text(s, ENTRY_KEY, from->metadata->key);
    put_text(s, ENTRY_VALUE, from->metadata->value);
}

static void model(sink *s, const source *from)
{
    put_integer(s, MODEL_IR_VERSION, IR_VERSION);
    put_text(s, MODEL_PRODUCER_NAME, "hstu");
    put_message(s, MODEL_GRAPH, graph, from);
    put_message(s, MODEL_OPSET_IMPORT, operator_set, from);
    for (size_t i = 0; i < from->n_metadata; i++)
        put_message(s, MODEL_METADATA_PROPS, metadata_entry, &(source){.metadata = &from->metadata[i]});
}

/* ---- whole models --------------------------------------------------------------------------------------------------- */

static hstu_status emit_model(sink *s, const source *from)
{
    sink count = {0};
    HS_TRY(hs_graph_check(from->g, s->err));
    model(&count, from);
    if (count.n_bytes > FILE_LIMIT)
        return hs_fail(s->err, HSTU_EUNSUP, 0, "the ONNX model would have %llu bytes, and the format allows at most %d",
            (unsigned long long)count.n_bytes, FILE_LIMIT);
    model(s, from);
    return s->status;
}

hstu_status hs_onnx_write(
    hs_outfile *file, const hs_graph *g, const hs_onnx_metadata *metadata, size_t n_metadata, hstu_error *err)
{
    const source from = {.g = g, .metadata = metadata, .n_metadata = n_metadata};
    return emit_model(&(sink){.file = file, .err = err}, &from);
}

hstu_status hs_onnx_encode(
    hs_dynbuf *out, const hs_graph *g, const hs_onnx_metadata *metadata, size_t n_metadata, hstu_error *err)
{
    const source from = {.g = g, .metadata = metadata, .n_metadata = n_metadata};
    const size_t before = out->len;
    const hstu_status status = emit_model(&(sink){.buf = out, .err = err}, &from);
    if (status != HSTU_OK && out->data) {
        out->len = before;
        out->data[before] = '\0';
    }
    return status;
}
