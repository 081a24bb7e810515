/* Graphs as ONNX files (onnx.proto's wire format): IR version 8, operator set HS_GRAPH_OPSET. */
#ifndef HS_GRAPH_ONNXFILE_H
#define HS_GRAPH_ONNXFILE_H

#include "base/dynbuf.h"
#include "base/outfile.h"
#include "graph/graph.h"

/* Text for people: what the inputs and outputs mean, as pairs of ModelProto.metadata_props. */
typedef struct hs_onnx_metadata {
    const char *key, *value;
} hs_onnx_metadata;

/* The whole model with its constants, in a file or in memory. A file holds at most 2 GiB less one byte: HSTU_EUNSUP says how
 * large it would be. The graph must have passed hs_graph_check. HSTU_ENOMEM, HSTU_EIO. */
hstu_status hs_onnx_write(
    hs_outfile *file, const hs_graph *g, const hs_onnx_metadata *metadata, size_t n_metadata, hstu_error *err);
hstu_status hs_onnx_encode(
    hs_dynbuf *out, const hs_graph *g, const hs_onnx_metadata *metadata, size_t n_metadata, hstu_error *err);

#endif
