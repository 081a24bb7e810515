/* The readers of record lists and checksum files. Whatever they read came from a server: any bytes. */
#include "fetch/published.h"

#include "base/error.h"
#include "base/json.h"

#include <string.h>
#include <strings.h>

static hstu_status fail_absent(const char *name, const char *url, hstu_error *err)
{
    return hs_fail(err, HSTU_ENOENT, 0, "the list at %.200s names no file '%.100s'", url, name);
}

/* One entry of the list, when it is the file's. */
static hstu_status read_entry(
    hs_published *found, const cJSON *entry, const char *name, const char *url, hstu_error *err)
{
    const char *key = NULL, *sum = NULL;
    hs_published file = {.bytes = -1};
    if (!cJSON_IsObject(entry))
        return hs_fail(err, HSTU_EFORMAT, 0, "%.200s: an entry of the list of files is not an object", url);
    HS_TRY(hs_json_get_string(entry, "key", &key, url, err));
    if (!key || strcmp(key, name) != 0)
        return HSTU_OK;
    if (found->checksum.kind != HS_CHECKSUM_NONE)
        return hs_fail(err, HSTU_EFORMAT, 0, "%.200s: the list names '%.100s' twice", url, name);
    HS_TRY(hs_json_get_string(entry, "checksum", &sum, url, err));
    HS_TRY(hs_json_get_int(entry, "size", &file.bytes, url, err));
    if (!sum || !hs_checksum_parse(&file.checksum, sum, strlen(sum)))
        return hs_fail(err, HSTU_EFORMAT, 0, "%.200s: '%.100s' has no md5 or sha256 checksum, found '%.80s'", url, name,
            sum ? sum : "");
    if (file.bytes < -1)
        return hs_fail(err, HSTU_EFORMAT, 0, "%.200s: the size of '%.100s' is below zero", url, name);
    *found = file;
    return HSTU_OK;
}

static hstu_status read_files(
    hs_published *found, const cJSON *root, const char *name, const char *url, hstu_error *err)
{
    const cJSON *files = cJSON_GetObjectItemCaseSensitive(root, "files");
    if (!files)
        files = cJSON_GetObjectItemCaseSensitive(root, "entries");
    if (!cJSON_IsObject(root) || !cJSON_IsArray(files))
        return hs_fail(err, HSTU_EFORMAT, 0, "%.200s: expected an object with an array 'files'", url);
    const cJSON *entry = NULL;
    cJSON_ArrayForEach(entry, files) HS_TRY(read_entry(found, entry, name, url, err));
    return found->checksum.kind == HS_CHECKSUM_NONE ? fail_absent(name, url, err) : HSTU_OK;
}

hstu_status hs_published_record(
    hs_published *out, const char *text, size_t len, const char *name, const char *url, hstu_error *err)
{
    cJSON *root = NULL;
    hs_published found = {.bytes = -1};
    char shown[201];
    /* base/json.h puts the name before what is wrong: a long one would push that out of the sentence. */
    const size_t n = strnlen(url, sizeof shown - 1);
    memcpy(shown, url, n);
    shown[n] = '\0';
    HS_TRY(hs_json_parse(&root, text, len, shown, err));
    const hstu_status status = read_files(&found, root, name, shown, err);
    cJSON_Delete(root);
    if (status == HSTU_OK)
        *out = found;
    return status;
}

/* ---- Checksum files --------------------------------------------------------------------------------------------- */

typedef struct piece {
    const char *text;
    size_t n;
} piece;

static piece trim(const char *text, size_t n)
{
    while (n && (*text == ' ' || *text == '\t')) {
        text++;
        n--;
    }
    while (n && (text[n - 1] == ' ' || text[n - 1] == '\t' || text[n - 1] == '\r'))
        n--;
    return (piece){text, n};
}

/* The last part of the path that the line names, as some tools write paths. */
static bool names(piece path, const char *name)
{
    for (size_t i = path.n; i > 0; i--) {
        if (path.text[i - 1] == '/') {
            path.text += i;
            path.n -= i;
            break;
        }
    }
    return path.n == strlen(name) && memcmp(path.text, name, path.n) == 0;
}

/* "MD5 (name) = hex" */
static bool read_tagged(hs_checksum *sum, piece *path, piece line)
{
    const bool md5 = line.n > 5 && strncasecmp(line.text, "MD5 (", 5) == 0;
    const bool sha256 = line.n > 8 && strncasecmp(line.text, "SHA256 (", 8) == 0;
    size_t close = line.n;
    while (close && line.text[close - 1] != ')')
        close--;
    const size_t open = md5 ? 5 : 8;
    if ((!md5 && !sha256) || close <= open)
        return false;
    piece rest = trim(line.text + close, line.n - close);
    if (!rest.n || *rest.text != '=')
        return false;
    rest = trim(rest.text + 1, rest.n - 1);
    *path = (piece){line.text + open, close - 1 - open};
    return hs_checksum_parse(sum, rest.text, rest.n) && (sum->kind == HS_CHECKSUM_MD5) == md5;
}

/* "hex  name", "hex *name", or "hex" with an empty path. */
static bool read_plain(hs_checksum *sum, piece *path, piece line)
{
    size_t n = 0;
    while (n < line.n && line.text[n] != ' ' && line.text[n] != '\t')
        n++;
    if (!hs_checksum_parse(sum, line.text, n))
        return false;
    *path = trim(line.text + n, line.n - n);
    if (path->n && *path->text == '*') {
        path->text++;
        path->n--;
    }
    return true;
}

static hstu_status read_line(hs_published *found, piece line, const char *name, const char *url, hstu_error *err)
{
    hs_checksum sum = {HS_CHECKSUM_NONE, {0}};
    piece path = {NULL, 0};
    if (!line.n || *line.text == '#')
        return HSTU_OK;
    if (!read_tagged(&sum, &path, line) && !read_plain(&sum, &path, line))
        return hs_fail(err, HSTU_EFORMAT, 0, "%.200s: expected lines of checksums, found '%.*s'", url,
            (int)(line.n < 60 ? line.n : 60), line.text);
    if (path.n && !names(path, name))
        return HSTU_OK;
    if (found->checksum.kind != HS_CHECKSUM_NONE && !hs_checksum_equal(&sum, &found->checksum))
        return hs_fail(err, HSTU_EFORMAT, 0, "%.200s: two different checksums for '%.100s'", url, name);
    found->checksum = sum;
    return HSTU_OK;
}

hstu_status hs_published_checksums(
    hs_published *out, const char *text, size_t len, const char *name, const char *url, hstu_error *err)
{
    hs_published found = {.bytes = -1};
    if (memchr(text, '\0', len))
        return hs_fail(err, HSTU_EFORMAT, 0, "%.200s: a NUL byte stands in the checksum file", url);
    for (const char *end = text + len; text < end;) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline ? newline : end;
        HS_TRY(read_line(&found, trim(text, (size_t)(stop - text)), name, url, err));
        text = newline ? newline + 1 : end;
    }
    if (found.checksum.kind == HS_CHECKSUM_NONE)
        return fail_absent(name, url, err);
    *out = found;
    return HSTU_OK;
}
