/* Reading gin files, the references' configuration language, as data: nothing in them is looked up or called. */
#ifndef HS_MODEL_GIN_H
#define HS_MODEL_GIN_H

#include "base/json.h"
#include "hstu/status.h"

#include <stddef.h>

/* *out becomes an object: "Class.key" -> {"line": number of the line where the binding begins, "value": what is bound}. A
 * module in front of the class is taken off. Values are numbers, strings, true, false, null and lists (from tuples too). Of two
 * bindings of a key the later one stays, as in gin. Comments and import lines mean nothing here.
 *
 * HSTU_EUNSUP: include lines, macros, references, scoped names, dictionaries. HSTU_EFORMAT: anything that is no gin, more than
 * 1 MiB, 4,096 bindings or 8 lists in each other. Errors are "<name>:<line>: ...". The caller frees *out with cJSON_Delete. */
hstu_status hs_gin_parse(cJSON **out, const char *text, size_t len, const char *name, hstu_error *err);

#endif
