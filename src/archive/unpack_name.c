/* Which names of an archive may be used, and which are wanted. */
#include "archive/unpack_int.h"

#include <limits.h>
#include <stdint.h>
#include <string.h>

enum { MAX_DEPTH = 32 };

/* Bytes of the UTF-8 character at s, 0 where there is none: too long forms, surrogates and numbers past 10FFFF are none. */
static size_t utf8_bytes(const unsigned char *s, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf8 ? 4 : 0;
    *code = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (s[i] & 0x3fu);
    }
    return n && *code >= least[n] && *code <= 0x10ffff && (*code < 0xd800 || *code > 0xdfff) ? n : 0;
}

static const char *check_text(const char *name)
{
    for (const unsigned char *s = (const unsigned char *)name; *s;) {
        uint32_t code = 0;
        const size_t n = utf8_bytes(s, &code);
        if (!n)
            return "its name is not UTF-8";
        if (code < 0x20 || (code >= 0x7f && code < 0xa0))
            return "its name holds a control character";
        if (code == '\\')
            return "its name holds a backslash";
        s += n;
    }
    return NULL;
}

const char *hs_unpack_name(hs_path *out, const char *name)
{
    size_t len = 0, depth = 0;
    const char *why = check_text(name);
    if (why)
        return why;
    if (*name == '\0')
        return "it has no name";
    if (*name == '/')
        return "its name is absolute";
    while (*name) {
        const size_t n = strcspn(name, "/");
        if (n == 2 && memcmp(name, "..", 2) == 0)
            return "its name leads out of the folder with '..'";
        if (n > NAME_MAX || len + n + 2 > sizeof out->text || depth == MAX_DEPTH)
            return "its name is too long, or its folders lie too deep";
        if (n > 1 || (n == 1 && *name != '.')) {
            if (len)
                out->text[len++] = '/';
            memcpy(out->text + len, name, n);
            len += n;
            depth++;
        }
        name += n + (name[n] == '/');
    }
    out->text[len] = '\0';
    return NULL;
}

bool hs_unpack_fits(const char *pattern, const char *name)
{
    const char *star = NULL, *from = NULL; /* the newest '*', and where its text ends for now */
    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            from = name;
        } else if (*pattern && (*pattern == '?' || *pattern == *name)) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star + 1;
            name = ++from;
        } else {
            return false;
        }
    }
    return pattern[strspn(pattern, "*")] == '\0';
}

size_t hs_unpack_wanted(const hstu_unpack_options *options, const char *name)
{
    const char *base = hs_path_base(name);
    size_t i = 0;
    while (i < options->n_patterns && !hs_unpack_fits(options->pattern[i], base))
        i++;
    return i;
}
