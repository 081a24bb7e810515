/* A growing byte buffer with a mandatory limit. */
#ifndef HS_BASE_DYNBUF_H
#define HS_BASE_DYNBUF_H

#include <stdbool.h>
#include <stddef.h>

typedef struct hs_dynbuf {
    char *data; /* always NUL-terminated once anything was appended; the NUL is not counted */
    size_t len;
    size_t cap;
    size_t max;         /* len never exceeds it */
    bool out_of_memory; /* an append failed for want of memory, not at the limit */
} hs_dynbuf;

void hs_dynbuf_init(hs_dynbuf *buf, size_t max);
void hs_dynbuf_free(hs_dynbuf *buf);
/* Each returns false, with the buffer unchanged, past the limit or without memory. */
bool hs_dynbuf_append(hs_dynbuf *buf, const void *data, size_t n);
bool hs_dynbuf_append_text(hs_dynbuf *buf, const char *text);
__attribute__((format(printf, 2, 3))) bool hs_dynbuf_printf(hs_dynbuf *buf, const char *fmt, ...);

#endif
