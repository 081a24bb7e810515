/* Reading gin files. */
#include "model/gin.h"

#include "base/error.h"

#include <ctype.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BYTES = 1 << 20, MAX_BINDINGS = 4096, MAX_DEPTH = 8, MAX_WORD = 200 };

typedef struct reader {
    const char *at, *end;
    const char *name;
    int line;
    hstu_error *err;
} reader;

#define FAIL(r, code, ...) hs_fail((r)->err, code, 0, "%.200s:%d: " __VA_ARGS__)

static bool is_at(const reader *r, char c)
{
    return r->at < r->end && *r->at == c;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '.';
}

static void skip_comment(reader *r)
{
    while (r->at < r->end && *r->at != '\n')
        r->at++;
}

/* Blanks and continued lines; with `lines`, as inside brackets, line ends and comments too. */
static void skip_blanks(reader *r, bool lines)
{
    while (r->at < r->end) {
        const size_t left = (size_t)(r->end - r->at);
        if (*r->at == ' ' || *r->at == '\t' || *r->at == '\r') {
            r->at++;
        } else if (left >= 2 && memcmp(r->at, "\\\n", 2) == 0) {
            r->at += 2;
            r->line++;
        } else if (left >= 3 && memcmp(r->at, "\\\r\n", 3) == 0) {
            r->at += 3;
            r->line++;
        } else if (lines && *r->at == '\n') {
            r->at++;
            r->line++;
        } else if (lines && *r->at == '#') {
            skip_comment(r);
        } else {
            return;
        }
    }
}

/* A name with dots, or a number; empty when none stands there. */
static hstu_status read_word(reader *r, char out[MAX_WORD + 1])
{
    size_t n = 0;
    while (r->at < r->end) {
        const bool sign = (*r->at == '+' || *r->at == '-') &&
                          (n == 0 || ((out[n - 1] == 'e' || out[n - 1] == 'E') && !isalpha((unsigned char)out[0])));
        if (!sign && !is_word(*r->at))
            break;
        if (n == MAX_WORD)
            return FAIL(r, HSTU_EFORMAT, "a word of more than %d bytes", r->name, r->line, MAX_WORD);
        out[n++] = *r->at++;
    }
    out[n] = '\0';
    return HSTU_OK;
}

static hstu_status fail_character(const reader *r, const char *expected)
{
    if (r->at == r->end || *r->at == '\n')
        return FAIL(r, HSTU_EFORMAT, "expected %s, found the end of the line", r->name, r->line, expected);
    switch (*r->at) {
    case '@':
        return FAIL(r, HSTU_EUNSUP, "references (@name) are not supported", r->name, r->line);
    case '%':
        return FAIL(r, HSTU_EUNSUP, "macros (%%name) are not supported", r->name, r->line);
    case '/':
        return FAIL(r, HSTU_EUNSUP, "scoped names (scope/name) are not supported", r->name, r->line);
    case '{':
        return FAIL(r, HSTU_EUNSUP, "dictionaries ({...}) are not supported", r->name, r->line);
    default:
        break;
    }
    const unsigned char byte = (unsigned char)*r->at;
    if (byte < ' ' || byte > '~')
        return FAIL(r, HSTU_EFORMAT, "expected %s, found the byte 0x%02x", r->name, r->line, expected, byte);
    return FAIL(r, HSTU_EFORMAT, "expected %s, found '%c'", r->name, r->line, expected, byte);
}

static cJSON *word_value(const char *word)
{
    if (strcmp(word, "True") == 0)
        return cJSON_CreateTrue();
    if (strcmp(word, "False") == 0)
        return cJSON_CreateFalse();
    return strcmp(word, "None") == 0 ? cJSON_CreateNull() : NULL;
}

/* Python's decimal numbers: '_' may stand between digits. strtod reads the locale's decimal point. */
static bool to_number(const char *word, double *out)
{
    char digits[MAX_WORD + 1];
    size_t n = 0;
    for (const char *c = word; *c; c++) {
        if (*c == '_' && c > word && isdigit((unsigned char)c[-1]) && isdigit((unsigned char)c[1]))
            continue;
        if (!isdigit((unsigned char)*c) && !strchr("+-.eE", *c))
            return false;
        digits[n++] = *c == '.' ? *localeconv()->decimal_point : *c;
    }
    digits[n] = '\0';
    char *end = NULL;
    *out = strtod(digits, &end);
    return n > 0 && *end == '\0' && isfinite(*out);
}

static hstu_status read_bare(reader *r, cJSON **out)
{
    char word[MAX_WORD + 1];
    double number = 0;
    HS_TRY(read_word(r, word));
    if (!word[0])
        return fail_character(r, "a value");
    *out = word_value(word);
    if (!*out && to_number(word, &number))
        *out = cJSON_CreateNumber(number);
    else if (!*out)
        return FAIL(r, HSTU_EFORMAT, "'%s' is no number, string, list, True, False or None", r->name, r->line, word);
    return *out ? HSTU_OK : hs_fail_nomem(r->err, sizeof **out, r->name);
}

/* What an escaped character stands for; 0: Python keeps the backslash. */
static char unescape(char c)
{
    switch (c) {
    case 'n':
        return '\n';
    case 't':
        return '\t';
    case '\\':
    case '\'':
    case '"':
        return c;
    default:
        return 0;
    }
}

static hstu_status read_string(reader *r, cJSON **out)
{
    enum { MAX_STRING = 4096 };
    char text[MAX_STRING + 2];
    size_t n = 0;
    const char quote = *r->at++;
    for (; !is_at(r, quote); r->at++) {
        if (r->at == r->end || *r->at == '\n')
            return FAIL(r, HSTU_EFORMAT, "the string does not end on its line", r->name, r->line);
        if (*r->at == '\0' || n >= MAX_STRING)
            return FAIL(
                r, HSTU_EFORMAT, "a NUL byte, or more than %d bytes, in a string", r->name, r->line, MAX_STRING);
        const char escaped = *r->at == '\\' && r->end - r->at >= 2 ? unescape(r->at[1]) : 0;
        if (escaped)
            r->at++;
        text[n++] = escaped ? escaped : *r->at;
    }
    r->at++;
    text[n] = '\0';
    *out = cJSON_CreateString(text);
    return *out ? HSTU_OK : hs_fail_nomem(r->err, n + 1, r->name);
}

/* Lists that are open around the place of reading. Their entries are not counted: a long one would take time squared. */
typedef struct nest {
    struct {
        cJSON *list;
        char close;
        bool comma; /* behind the last entry: then (x,) is a tuple, while (x) is x */
    } level[MAX_DEPTH];
    int depth;
    cJSON *done; /* the value, once the outermost list is closed */
} nest;

static void nest_free(nest *s)
{
    while (s->depth > 0)
        cJSON_Delete(s->level[--s->depth].list);
    cJSON_Delete(s->done);
}

/* Takes `value`. */
static hstu_status give_value(reader *r, nest *s, cJSON *value)
{
    if (s->depth == 0) {
        s->done = value;
        return HSTU_OK;
    }
    cJSON *list = s->level[s->depth - 1].list;
    if (list->child && !s->level[s->depth - 1].comma) {
        cJSON_Delete(value);
        return FAIL(r, HSTU_EFORMAT, "a comma is missing between two entries of a list", r->name, r->line);
    }
    if (!cJSON_AddItemToArray(list, value)) {
        cJSON_Delete(value);
        return hs_fail_nomem(r->err, sizeof *value, r->name);
    }
    s->level[s->depth - 1].comma = false;
    return HSTU_OK;
}

static hstu_status open_list(reader *r, nest *s)
{
    if (s->depth == MAX_DEPTH)
        return FAIL(r, HSTU_EFORMAT, "more than %d lists in each other", r->name, r->line, MAX_DEPTH);
    cJSON *list = cJSON_CreateArray();
    if (!list)
        return hs_fail_nomem(r->err, sizeof *list, r->name);
    s->level[s->depth].list = list;
    s->level[s->depth].close = *r->at++ == '[' ? ']' : ')';
    s->level[s->depth++].comma = false;
    return HSTU_OK;
}

static hstu_status close_list(reader *r, nest *s)
{
    r->at++;
    s->depth--;
    cJSON *list = s->level[s->depth].list;
    if (s->level[s->depth].close == ')' && !s->level[s->depth].comma && list->child && !list->child->next) {
        cJSON *only = cJSON_DetachItemFromArray(list, 0);
        cJSON_Delete(list);
        list = only;
    }
    return give_value(r, s, list);
}

static hstu_status read_comma(reader *r, nest *s)
{
    if (s->level[s->depth - 1].comma || !s->level[s->depth - 1].list->child)
        return FAIL(r, HSTU_EFORMAT, "expected an entry of the list, found ','", r->name, r->line);
    s->level[s->depth - 1].comma = true;
    r->at++;
    return HSTU_OK;
}

static hstu_status read_piece(reader *r, nest *s)
{
    cJSON *value = NULL;
    skip_blanks(r, s->depth > 0);
    if (s->depth > 0 && r->at == r->end)
        return FAIL(r, HSTU_EFORMAT, "a list is not closed", r->name, r->line);
    if (s->depth > 0 && is_at(r, s->level[s->depth - 1].close))
        return close_list(r, s);
    if (s->depth > 0 && is_at(r, ','))
        return read_comma(r, s);
    if (is_at(r, '[') || is_at(r, '('))
        return open_list(r, s);
    if (is_at(r, '\'') || is_at(r, '"'))
        HS_TRY(read_string(r, &value));
    else
        HS_TRY(read_bare(r, &value));
    return give_value(r, s, value);
}

static hstu_status read_value(reader *r, cJSON **out)
{
    nest s = {.depth = 0};
    hstu_status status = HSTU_OK;
    while (status == HSTU_OK && !s.done)
        status = read_piece(r, &s);
    if (status != HSTU_OK)
        nest_free(&s);
    else
        *out = s.done;
    return status;
}

static hstu_status expect_line_end(reader *r)
{
    skip_blanks(r, false);
    if (is_at(r, '#'))
        skip_comment(r);
    return r->at == r->end || *r->at == '\n' ? HSTU_OK : fail_character(r, "the end of the line");
}

/* "Class.key": the last two names of `word`, or NULL. */
static const char *class_and_key(const char *word)
{
    const char *dot[2] = {NULL, NULL};
    for (const char *c = word; *c; c++) {
        if (*c != '.')
            continue;
        if (c == word || c[-1] == '.' || c[1] == '\0')
            return NULL;
        dot[0] = dot[1];
        dot[1] = c;
    }
    if (!dot[1] || !(isalpha((unsigned char)*word) || *word == '_'))
        return NULL;
    return dot[0] ? dot[0] + 1 : word;
}

/* Takes `value`. */
static hstu_status bind(reader *r, cJSON *root, const char *key, int line, cJSON *value)
{
    cJSON *entry = cJSON_CreateObject();
    if (!entry || !cJSON_AddNumberToObject(entry, "line", line) || !cJSON_AddItemToObject(entry, "value", value)) {
        cJSON_Delete(entry);
        cJSON_Delete(value);
        return hs_fail_nomem(r->err, sizeof *entry, r->name);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(root, key);
    if (cJSON_AddItemToObject(root, key, entry))
        return HSTU_OK;
    cJSON_Delete(entry);
    return hs_fail_nomem(r->err, strlen(key), r->name);
}

static hstu_status read_binding(reader *r, cJSON *root, const char *word)
{
    const int line = r->line;
    cJSON *value = NULL;
    skip_blanks(r, false);
    if (!is_at(r, '='))
        return fail_character(r, "'='");
    const char *key = class_and_key(word);
    if (!key && strchr(word, '.'))
        return FAIL(r, HSTU_EFORMAT, "'%s' is no Class.key", r->name, line, word);
    if (!key)
        return FAIL(r, HSTU_EUNSUP, "'%s' has no class in front of it, so it is a macro, which is not supported",
            r->name, line, word);
    r->at++;
    HS_TRY(read_value(r, &value));
    const hstu_status status = expect_line_end(r);
    if (status != HSTU_OK) {
        cJSON_Delete(value);
        return status;
    }
    return bind(r, root, key, line, value);
}

static hstu_status read_statement(reader *r, cJSON *root)
{
    char word[MAX_WORD + 1];
    HS_TRY(read_word(r, word));
    if (!word[0])
        return fail_character(r, "a name");
    if (strcmp(word, "import") == 0 || strcmp(word, "from") == 0) {
        skip_comment(r);
        return HSTU_OK;
    }
    if (strcmp(word, "include") == 0)
        return FAIL(r, HSTU_EUNSUP, "include lines are not supported: put the included bindings in this file", r->name,
            r->line);
    return read_binding(r, root, word);
}

static hstu_status read_all(reader *r, cJSON *root)
{
    int n = 0;
    for (;;) {
        skip_blanks(r, true);
        if (r->at == r->end)
            return HSTU_OK;
        if (n++ == MAX_BINDINGS)
            return FAIL(r, HSTU_EFORMAT, "more than %d statements", r->name, r->line, MAX_BINDINGS);
        HS_TRY(read_statement(r, root));
    }
}

hstu_status hs_gin_parse(cJSON **out, const char *text, size_t len, const char *name, hstu_error *err)
{
    if (len > MAX_BYTES)
        return hs_fail(
            err, HSTU_EFORMAT, 0, "%s: %zu bytes are too many for a gin file (at most %d)", name, len, MAX_BYTES);
    const size_t mark = len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    reader r = {.at = text + mark, .end = text + len, .name = name, .line = 1, .err = err};
    cJSON *root = cJSON_CreateObject();
    if (!root)
        return hs_fail_nomem(err, sizeof *root, name);
    const hstu_status status = read_all(&r, root);
    if (status == HSTU_OK)
        *out = root;
    else
        cJSON_Delete(root);
    return status;
}
