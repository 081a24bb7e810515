/* Writing JSON, pretty or on one line, into a growing buffer. cJSON's printer is not used for what users read: it keeps numbers
 * as double, which ids of 64 bits do not survive, indents with tabs, and takes text that is no UTF-8 as it is. */
#ifndef HS_CLI_JSON_WRITER_H
#define HS_CLI_JSON_WRITER_H

#include "base/dynbuf.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct hs_json_writer {
    hs_dynbuf *buf;
    int indent; /* spaces a level; 0: everything on one line */
    int depth;
    bool first;     /* nothing stands yet at this level */
    bool after_key; /* the next value belongs to a key */
    bool failed;    /* the buffer was full or memory exhausted: the text is cut */
} hs_json_writer;

void hs_json_writer_init(hs_json_writer *writer, hs_dynbuf *buf, int indent);
void hs_json_begin(hs_json_writer *writer, char open); /* '{' or '[' */
void hs_json_end(hs_json_writer *writer, char close);  /* '}' or ']' */
void hs_json_key(hs_json_writer *writer, const char *key);
void hs_json_put_text(hs_json_writer *writer, const char *text); /* NULL becomes null; bytes that are no UTF-8 U+FFFD */
void hs_json_put_int(hs_json_writer *writer, int64_t x);
void hs_json_put_double(hs_json_writer *writer, double x, int digits); /* significant digits; null unless finite */
void hs_json_put_bool(hs_json_writer *writer, bool x);
void hs_json_put_raw(hs_json_writer *writer, const char *json, size_t n); /* n bytes that are one JSON value */

/* A key and its value. */
void hs_json_pair_text(hs_json_writer *writer, const char *key, const char *text);
void hs_json_pair_int(hs_json_writer *writer, const char *key, int64_t x);
void hs_json_pair_double(hs_json_writer *writer, const char *key, double x, int digits);
void hs_json_pair_bool(hs_json_writer *writer, const char *key, bool x);

/* The bytes of the UTF-8 character at s (n >= 1 bytes are left), or 0 when there is none. */
size_t hs_utf8_length(const char *s, size_t n);

#endif
