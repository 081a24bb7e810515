/* Options of one verb: a table drives parsing, defaults and help. */
#ifndef HS_CLI_OPTIONS_H
#define HS_CLI_OPTIONS_H

#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { HS_MAX_OPTIONS = 64, HS_MAX_OPTION_VALUES = 16 };

typedef enum hs_option_kind {
    HS_OPTION_FLAG,   /* --name */
    HS_OPTION_SWITCH, /* --name, --no_name, --name on|off */
    HS_OPTION_TEXT,
    HS_OPTION_TEXTS, /* may be given several times; commas mean nothing */
    HS_OPTION_INT,
    HS_OPTION_INTS,  /* comma-separated, no value twice */
    HS_OPTION_SIZE,  /* bytes: a whole number, with KiB, MiB, GiB, TiB (K, M, G, T are the same), KB, MB, GB, TB or B
                         behind it, or nothing */
    HS_OPTION_CHOICE /* one of the words in `value` */
} hs_option_kind;

typedef struct hs_option {
    const char *name; /* with '_'; the command line may write '-' instead */
    hs_option_kind kind;
    const char *value;         /* what help shows behind the name; for a choice "word|word|..." */
    const char *fallback;      /* the default, parsed like a given value; NULL: the verb decides */
    const char *fallback_text; /* what help says of a default that the verb decides; NULL: nothing */
    int64_t min, max;          /* of numbers */
    const char *help;
} hs_option;

typedef struct hs_option_value {
    bool given;
    const char *text; /* as given or the fallback; NULL without either */
    int64_t number;   /* INT; SIZE in bytes; FLAG and SWITCH 0 or 1; CHOICE the index of the word */
    int64_t list[HS_MAX_OPTION_VALUES];
    const char *texts[HS_MAX_OPTION_VALUES]; /* of TEXTS, in the order of the command line */
    size_t n_list;                           /* of either */
} hs_option_value;

typedef struct hs_options {
    hs_option_value value[HS_MAX_OPTIONS]; /* in the order of the verb's table */
    const char *operand, *second_operand;  /* the verb's files, or NULL */
    bool help;                             /* --help was asked: nothing else was checked */
} hs_options;

typedef struct hs_verb {
    const char *name;
    const char *operand;        /* NULL, or the name of the operand that the verb needs */
    const char *second_operand; /* NULL, or the name of another one behind it */
    const char *summary;        /* a line for the list of verbs */
    const char *text;           /* what it does, for its own help */
    const hs_option *option;
    size_t n_options;
    const char *example;
    int (*run)(const hs_options *options); /* gives the exit code */
} hs_verb;

/* The arguments behind the verb. HSTU_EINVAL with a sentence for the first wrong one. Text points into argv. */
hstu_status hs_options_parse(hs_options *out, const hs_verb *verb, int argc, char **argv, hstu_error *err);
void hs_options_help(FILE *out, const hs_verb *verb);

/* A whole decimal number, nothing around it, within min .. max. */
bool hs_parse_int(const char *text, int64_t min, int64_t max, int64_t *out);
/* The same of bytes with a unit, as HS_OPTION_SIZE says; letters in any case. */
bool hs_parse_size(const char *text, int64_t min, int64_t max, int64_t *out);

#endif
