/* Texts that are numbered from 1 in the order of their first appearance: what ids that are no numbers become. */
#ifndef HS_DATA_IDTEXTS_H
#define HS_DATA_IDTEXTS_H

#include "base/outfile.h"
#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hs_idtexts {
    char *text; /* all texts, one behind the other */
    size_t text_bytes, text_capacity;
    size_t *end; /* [n] where text number i + 1 ends */
    size_t n, capacity;
    uint32_t *slot; /* [n_slots] numbers; 0: an empty slot */
    size_t n_slots; /* a power of two, or 0 before the first text */
} hs_idtexts;       /* a zeroed one is empty */

/* The number of a text, which is added when it is new. HSTU_ENOMEM; HSTU_EUNSUP, naming `what`, where more than max_bytes
 * would be held or more than 2^31 - 1 texts; nothing is added then. */
hstu_status hs_idtexts_add(hs_idtexts *texts, const char *text, size_t len, size_t max_bytes, const char *what,
    int64_t *number, hstu_error *err);
/* Bytes that it holds. */
size_t hs_idtexts_bytes(const hs_idtexts *texts);
/* A CSV file with the columns `name` (numbers, ascending) and text. On success *out is complete but for the commit. */
hstu_status hs_idtexts_write(
    hs_outfile **out, const char *path, const hs_idtexts *texts, const char *name, hstu_error *err);
void hs_idtexts_free(hs_idtexts *texts);

#endif
