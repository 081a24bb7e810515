/* The file beside a partial file: lines of a word, a blank and a value, in a fixed order, and an end that a cut file lacks. */
#include "fetch/partinfo.h"

#include "base/error.h"
#include "base/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct reader {
    const char *text, *end;
} reader;

/* The next line, when it begins with `word` and a blank: its value of less than `size` printing characters. */
static bool next_line(reader *r, const char *word, char *value, size_t size)
{
    const size_t n_word = strlen(word);
    const char *newline = memchr(r->text, '\n', (size_t)(r->end - r->text));
    if (!newline || (size_t)(newline - r->text) <= n_word || memcmp(r->text, word, n_word) != 0 ||
        r->text[n_word] != ' ')
        return false;
    const char *begin = r->text + n_word + 1;
    const size_t n = (size_t)(newline - begin);
    if (n >= size)
        return false;
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)begin[i] < 0x20 || begin[i] == 0x7f)
            return false;
    }
    memcpy(value, begin, n);
    value[n] = '\0';
    r->text = newline + 1;
    return true;
}

/* "-" or at most 18 digits. */
static bool read_size(int64_t *out, const char *text)
{
    const size_t n = strlen(text);
    *out = -1;
    if (strcmp(text, "-") == 0)
        return true;
    if (n == 0 || n > 18 || strspn(text, "0123456789") != n)
        return false;
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out = 10 * *out + (text[i] - '0');
    return true;
}

bool hs_partinfo_parse(hs_partinfo *out, const char *text, size_t n)
{
    reader r = {text, text + n};
    hs_partinfo info = {.bytes = -1};
    char version[8], size[24], sum[HS_CHECKSUM_TEXT], end[8];
    if (!next_line(&r, "hstu-part", version, sizeof version) || strcmp(version, "1") != 0 ||
        !next_line(&r, "url", info.url, sizeof info.url) || !next_line(&r, "etag", info.etag, sizeof info.etag) ||
        !next_line(&r, "modified", info.modified, sizeof info.modified) ||
        !next_line(&r, "validator", info.validator, sizeof info.validator) ||
        !next_line(&r, "size", size, sizeof size) || !next_line(&r, "checksum", sum, sizeof sum) ||
        !next_line(&r, "end", end, sizeof end) || r.text != r.end || strcmp(end, ".") != 0)
        return false;
    if (!read_size(&info.bytes, size))
        return false;
    if (strcmp(sum, "-") != 0 && !hs_checksum_parse(&info.checksum, sum, strlen(sum)))
        return false;
    *out = info;
    return true;
}

hstu_status hs_partinfo_read(hs_partinfo *out, const char *path, hstu_error *err)
{
    char text[HS_PARTINFO_MAX_BYTES];
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return hs_fail_errno(err, errno, "cannot open '%s'", path);
    size_t used = 0;
    ssize_t n = 0;
    do {
        n = read(fd, text + used, sizeof text - used);
        used += n > 0 ? (size_t)n : 0;
    } while (used < sizeof text && (n > 0 || (n < 0 && errno == EINTR)));
    const int code = errno;
    (void)close(fd);
    if (n < 0)
        return hs_fail_errno(err, code, "cannot read '%s'", path);
    if (!hs_partinfo_parse(out, text, used))
        return hs_fail(err, HSTU_EFORMAT, 0, "'%s' does not describe a partial download", path);
    return HSTU_OK;
}

hstu_status hs_partinfo_write(const hs_partinfo *info, const char *path, hstu_error *err)
{
    hs_outfile *file = NULL;
    char sum[HS_CHECKSUM_TEXT], size[24] = "-";
    hs_checksum_text(&info->checksum, sum);
    if (info->bytes >= 0)
        (void)snprintf(size, sizeof size, "%" PRId64, info->bytes);
    HS_TRY(hs_outfile_open(&file, path, err));
    const hstu_status status = hs_outfile_printf(file, err,
        "hstu-part 1\nurl %s\netag %s\nmodified %s\nvalidator %s\nsize %s\nchecksum %s\nend .\n", info->url, info->etag,
        info->modified, info->validator, size, sum[0] ? sum : "-");
    if (status != HSTU_OK) {
        hs_outfile_discard(file);
        return status;
    }
    return hs_outfile_commit(file, err);
}
