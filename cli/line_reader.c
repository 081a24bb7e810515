/* Reading a text file line by line. */
#include "cli/line_reader.h"

#include "base/alloc.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

hstu_status hs_line_reader_open(hs_line_reader *reader, const char *path, size_t max_line_bytes, hstu_error *err)
{
    const bool standard = strcmp(path, "-") == 0;
    *reader = (hs_line_reader){.path = standard ? "standard input" : path};
    char *chunk = hs_alloc(HS_LINE_CHUNK, 1);
    if (!chunk)
        return hs_fail_nomem(err, HS_LINE_CHUNK, path);
    reader->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0) {
        const hstu_status status = errno == EINTR ? hs_fail(err, HSTU_ECANCELLED, 0, "interrupted")
                                                  : hs_fail_errno(err, errno, "cannot open '%s'", path);
        hs_free(chunk);
        return status;
    }
    reader->chunk = chunk;
    hs_dynbuf_init(&reader->text, max_line_bytes);
    return HSTU_OK;
}

void hs_line_reader_close(hs_line_reader *reader)
{
    if (reader->chunk && reader->fd != STDIN_FILENO)
        (void)close(reader->fd);
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

/* What the file has, not more: a pipe's writer may wait for the answer before it goes on. */
static hstu_status fill(hs_line_reader *reader, hstu_error *err)
{
    const ssize_t n = read(reader->fd, reader->chunk, HS_LINE_CHUNK);
    if (n < 0 && errno == EINTR)
        return hs_fail(err, HSTU_ECANCELLED, reader->line, "interrupted");
    if (n < 0)
        return hs_fail_errno(err, errno, "cannot read '%s'", reader->path);
    reader->at = 0;
    reader->n = (size_t)n;
    return HSTU_OK;
}

static void skip_byte_order_mark(hs_line_reader *reader)
{
    static const char mark[] = "\xef\xbb\xbf";
    const size_t n = sizeof mark - 1;
    hs_dynbuf *text = &reader->text;
    if (text->len < n || memcmp(text->data, mark, n) != 0)
        return;
    text->len -= n;
    memmove(text->data, text->data + n, text->len + 1);
}

hstu_status hs_line_reader_next(hs_line_reader *reader, bool *got, hstu_error *err)
{
    reader->text.len = 0;
    if (reader->text.data)
        reader->text.data[0] = '\0';
    reader->line++;
    *got = false;
    for (;;) {
        if (reader->at == reader->n) {
            HS_TRY(fill(reader, err));
            if (reader->n == 0)
                break;
        }
        *got = true;
        const char *from = reader->chunk + reader->at;
        const char *end = memchr(from, '\n', reader->n - reader->at);
        const size_t n = end ? (size_t)(end - from) : reader->n - reader->at;
        HS_TRY(append(reader, n, err));
        reader->at += n + (end != NULL);
        if (end)
            break;
    }
    if (reader->line == 1)
        skip_byte_order_mark(reader);
    if (reader->text.len && reader->text.data[reader->text.len - 1] == '\r')
        reader->text.data[--reader->text.len] = '\0';
    return HSTU_OK;
}
