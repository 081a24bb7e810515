/* The little that this module must know of URLs. */
#include "fetch/url.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

hs_scheme hs_url_scheme(const char *url)
{
    if (strncasecmp(url, "http://", 7) == 0)
        return HS_SCHEME_HTTP;
    return strncasecmp(url, "https://", 8) == 0 ? HS_SCHEME_HTTPS : HS_SCHEME_OTHER;
}

/* Where the host, or the user name before it, begins; the URL has been checked. */
static const char *authority(const char *url)
{
    const char *begin = strstr(url, "://");
    return begin ? begin + 3 : url;
}

hstu_status hs_url_check(const char *url, const char *option, hstu_error *err)
{
    char shown[200];
    hs_url_show(url, shown, sizeof shown);
    if (strlen(url) >= HS_URL_MAX)
        return hs_fail(err, HSTU_EINVAL, 0, "%s is longer than %d bytes", option, HS_URL_MAX - 1);
    if (hs_url_scheme(url) == HS_SCHEME_OTHER)
        return hs_fail(err, HSTU_EINVAL, 0, "%s must begin with http:// or https://, found '%s'", option, shown);
    for (const char *c = url; *c; c++) {
        if ((unsigned char)*c <= 0x20 || *c == 0x7f)
            return hs_fail(err, HSTU_EINVAL, (uint64_t)(c - url),
                "%s must not hold blanks or control characters, found '%s'", option, shown);
    }
    const char *host = authority(url);
    if (*host == '\0' || *host == '/')
        return hs_fail(err, HSTU_EINVAL, 0, "%s names no host: '%s'", option, shown);
    return HSTU_OK;
}

void hs_url_show(const char *url, char *out, size_t n)
{
    const char *host = authority(url);
    const size_t span = strcspn(host, "/?#");
    const char *rest = host;
    for (size_t i = 0; i < span; i++) {
        if (host[i] == '@')
            rest = host + i + 1;
    }
    (void)snprintf(out, n, "%.*s%s", (int)(host - url), url, rest);
}

void hs_url_name(const char *url, char *out, size_t n)
{
    const char *path = authority(url);
    const size_t span = strcspn(path, "?#");
    size_t begin = span;
    while (begin && path[begin - 1] != '/')
        begin--;
    (void)snprintf(out, n, "%.*s", begin ? (int)(span - begin) : 0, path + begin);
}
