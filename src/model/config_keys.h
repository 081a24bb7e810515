/* The table of configuration keys: reading, writing and error messages all go by it. */
#ifndef HS_MODEL_CONFIG_KEYS_H
#define HS_MODEL_CONFIG_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum hs_key_kind {
    HS_KEY_INT,    /* int64_t */
    HS_KEY_REAL,   /* double */
    HS_KEY_BOOL,   /* bool */
    HS_KEY_CHOICE, /* int: the place in `choice` */
    HS_KEY_DATASET /* const char *: one of the known data sets; other names are accepted and forgotten */
} hs_key_kind;

typedef struct hs_key {
    const char *name;
    const char *synonym; /* or NULL */
    hs_key_kind kind;
    size_t offset;             /* in hs_config */
    int64_t min, max;          /* HS_KEY_INT; HS_KEY_REAL must be positive and at most 1 */
    const char *const *choice; /* HS_KEY_CHOICE: NULL-terminated; a '|' separates spellings of one choice */
} hs_key;

/* Terminated by a NULL name; fewer than 64 rows, since hs_config.given holds a bit for each. */
extern const hs_key hs_key_table[];
/* The row's number, or -1. A synonym finds its row. */
int hs_key_find(const char *name);

/* The length of a choice's first spelling. */
int hs_key_spelling(const char *choice);

/* Keys whose only value that this version runs is `value`: JSON text of it. */
typedef struct hs_fixed_key {
    const char *name, *value;
} hs_fixed_key;
extern const hs_fixed_key hs_fixed_key_table[]; /* terminated by a NULL name */

/* Keys that are known and mean nothing to inference: training, provenance, notes. NULL-terminated. */
extern const char *const hs_ignored_keys[];

/* The known key that is nearest to `name` by edit distance, or NULL when none is near. */
const char *hs_key_nearest(const char *name);

#endif
