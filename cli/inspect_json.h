/* What `hstu inspect` tells as JSON, and what its text takes from there. */
#ifndef HS_CLI_INSPECT_JSON_H
#define HS_CLI_INSPECT_JSON_H

#include "cli/json_writer.h"
#include "hstu/checkpoint.h"

enum { HS_INSPECT_MAX_JSON_BYTES = 1 << 30 };

const char *hs_inspect_use_name(hstu_tensor_use use);
/* The configuration, an object of plain values or NULL, in the writer's own layout. */
hstu_status hs_inspect_put_config(hs_json_writer *w, const char *config, hstu_error *err);
/* The whole listing as one document on standard output. */
hstu_status hs_inspect_print_json(const hstu_checkpoint *c, const char *path, hstu_error *err);

#endif
