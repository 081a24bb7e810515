/* Reading a text file line by line. */
#include "cli/line_reader.h"

#include "base/alloc.h"
#include "base/error.h"

#include <errno.h>
#include <string.h>

hstu_status hs_line_reader_open(hs_line_reader *reader, const char *path, size_t max_line_bytes, hstu_error *err)
{
    *reader = (hs_line_reader){.path = path};
    char *chunk = hs_alloc(HS_LINE_CHUNK, 1);
    if (!chunk)
        return hs_fail_nomem(err, HS_LINE_CHUNK, path);
    reader->stream = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (!reader->stream) {
        const hstu_status status = hs_fail_errno(err, errno, "cannot open '%s'", path);
        hs_free(chunk);
        return status;
    }
    reader->chunk = chunk;
    hs_dynbuf_init(&reader->text, max_line_bytes);
    return HSTU_OK;
}

void hs_line_reader_close(hs_line_reader *reader)
{
    if (reader->stream && reader->stream != stdin)
        (void)fclose(reader->stream);
    hs_free(reader->chunk);
    hs_dynbuf_free(&reader->text);
    *reader = (hs_line_reader){0};
}

static hstu_status append(hs_line_reader *reader, size_t n, hstu_error *err)
{
    if (n > reader->text.max - reader->text.len)
        return hs_fail(err, HSTU_EFORMAT, reader->line, "%s: line %llu: a line may have %zu bytes, found more",
            reader->path, (unsigned long long)reader->line, reader->text.max);
    if (!hs_dynbuf_append(&reader->text, reader->chunk + reader->at, n))
        return hs_fail_nomem(err, reader->text.len + n, reader->path);
    return HSTU_OK;
}

hstu_status hs_line_reader_next(hs_line_reader *reader, bool *got, hstu_error *err)
{
    reader->text.len = 0;
    if (reader->text.data)
        reader->text.data[0] = '\0';
    reader->line++;
    for (bool any = false;;) {
        if (reader->at == reader->n) {
            reader->at = 0;
            reader->n = fread(reader->chunk, 1, HS_LINE_CHUNK, reader->stream);
            if (reader->n == 0 && ferror(reader->stream))
                return hs_fail_errno(err, errno, "cannot read '%s'", reader->path);
            if (reader->n == 0) {
                *got = any;
                return HSTU_OK;
            }
        }
        any = true;
        const char *from = reader->chunk + reader->at;
        const char *end = memchr(from, '\n', reader->n - reader->at);
        const size_t n = end ? (size_t)(end - from) : reader->n - reader->at;
        HS_TRY(append(reader, n, err));
        reader->at += n + (end != NULL);
        if (end)
            break;
    }
    if (reader->text.len && reader->text.data[reader->text.len - 1] == '\r')
        reader->text.data[--reader->text.len] = '\0';
    *got = true;
    return HSTU_OK;
}
