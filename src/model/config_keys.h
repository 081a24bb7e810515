/* The tables of configuration keys: reading, writing and error messages all go by them. */
#ifndef HS_MODEL_CONFIG_KEYS_H
#define HS_MODEL_CONFIG_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hs_config;

/* Which models a key means something to. */
enum {
    HS_KEY_HSTU = 1,
    HS_KEY_SASREC = 2,
    HS_KEY_RANKING = 4,
    HS_KEY_DECODER = 8,
    HS_KEY_RETRIEVAL = HS_KEY_HSTU | HS_KEY_SASREC,
    HS_KEY_LISTS = HS_KEY_RETRIEVAL | HS_KEY_DECODER, /* models that answer with a list of items */
    HS_KEY_ALL = HS_KEY_LISTS | HS_KEY_RANKING
};

typedef enum hs_key_kind {
    HS_KEY_INT,      /* int64_t */
    HS_KEY_COUNT,    /* int64_t that holds the key's value - 1: the largest id of so many */
    HS_KEY_REAL,     /* double */
    HS_KEY_BOOL,     /* bool */
    HS_KEY_CHOICE,   /* int: the place in `choice` */
    HS_KEY_DATASET,  /* const char *: one of the known data sets; other names are accepted and forgotten */
    HS_KEY_FEATURE,  /* hs_config_feature: its name */
    HS_KEY_CONTEXT,  /* context, n_context: a list of names */
    HS_KEY_TABLES,   /* table, n_tables: a list of objects */
    HS_KEY_TABLE_OF, /* the features' tables: an object; read after the features */
    HS_KEY_HEAD      /* head, n_head: a list of sizes */
} hs_key_kind;

/* A field that families name differently has a row for each name. */
typedef struct hs_key {
    unsigned families;
    const char *name;
    const char *synonym; /* or NULL */
    hs_key_kind kind;
    size_t offset;             /* in hs_config */
    int64_t min, max;          /* HS_KEY_INT, HS_KEY_COUNT; HS_KEY_REAL must be positive and at most 1 */
    const char *const *choice; /* HS_KEY_CHOICE: NULL-terminated; a '|' separates spellings of one choice */
} hs_key;

/* Terminated by a NULL name; fewer than 128 rows, since hs_config.given holds a bit for each. */
extern const hs_key hs_key_table[];
/* The row's number, or -1. A synonym finds its row. `family`: hs_config_family. */
int hs_key_find(const char *name, int family);

bool hs_key_is_given(const struct hs_config *config, int row);
void hs_key_mark_given(struct hs_config *config, int row);

/* The rows of a family, of both of retrieval's modules, and those of one model. */
unsigned hs_key_families(int family);
unsigned hs_key_families_of(const struct hs_config *config);
extern const char *const hs_family_names[]; /* by hs_config_family, NULL-terminated */

/* The length of a choice's first spelling. */
int hs_key_spelling(const char *choice);

/* Keys of which this version runs few values. */
typedef struct hs_fixed_key {
    unsigned families;
    const char *name;
    const char *allowed; /* JSON text of a list */
    const char *what;    /* what another value would ask for, or NULL */
} hs_fixed_key;
extern const hs_fixed_key hs_fixed_key_table[]; /* terminated by a NULL name */
const hs_fixed_key *hs_fixed_key_find(const char *name, int family);

/* Keys without a row: either of use together with others, or known and without meaning to inference (training, provenance,
 * notes). */
typedef struct hs_other_key {
    unsigned families;
    const char *name;
} hs_other_key;
extern const hs_other_key hs_other_keys[]; /* terminated by a NULL name */
bool hs_other_key_find(const char *name, int family);

/* hs_config_family of a family that knows the key, or -1. */
int hs_key_family_of(const char *name);

/* The nearest of several names by edit distance. */
typedef struct hs_nearest {
    const char *name; /* the one that is wrong */
    const char *best; /* NULL when none is near */
    size_t distance;
} hs_nearest;
hs_nearest hs_nearest_make(const char *name);
void hs_nearest_consider(hs_nearest *nearest, const char *known);
/* The family's known key that is nearest to `name`, or NULL. */
const char *hs_key_nearest(const char *name, int family);

#endif
