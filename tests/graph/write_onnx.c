/* Writes the graph of every_op.h for tests/checks/check_onnx.py. usage: write_onnx FILE f32|f16 */
#include "graph/onnxfile.h"

#include <stdio.h>
#include <string.h>

#include "graph/every_op.h"

static hstu_status write_graph(hs_outfile **file, const char *path, const hs_graph *g, hstu_error *err)
{
    static const hs_onnx_metadata metadata = {"about", "every operator, for a check"};
    const hstu_status status = hs_outfile_open(file, path, err);
    return status == HSTU_OK ? hs_onnx_write(*file, g, &metadata, 1, err) : status;
}

int main(int argc, char **argv)
{
    hstu_error err;
    hs_outfile *file = NULL;
    if (argc != 3)
        return 2;
    hs_graph *g = hs_graph_new();
    if (!g)
        return 1;
    every_op(g, strcmp(argv[2], "f16") == 0 ? HS_F16 : HS_F32);
    hstu_status status = write_graph(&file, argv[1], g, &err);
    if (status == HSTU_OK)
        status = hs_outfile_commit(file, &err);
    else
        hs_outfile_discard(file);
    if (status != HSTU_OK)
        (void)fprintf(stderr, "write_onnx: %s\n", err.msg);
    hs_graph_free(g);
    return status == HSTU_OK ? 0 : 1;
}
