/* The little that this module must know of URLs; curl takes them apart. */
#ifndef HS_FETCH_URL_H
#define HS_FETCH_URL_H

#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { HS_URL_MAX = 2048 }; /* bytes, with the final NUL */

typedef enum hs_scheme { HS_SCHEME_OTHER, HS_SCHEME_HTTP, HS_SCHEME_HTTPS } hs_scheme;

hs_scheme hs_url_scheme(const char *url);
/* HSTU_EINVAL unless it is http:// or https://, of bounded length, and of printing characters without blanks. `option` is
 * what the URL is, for the error. */
hstu_status hs_url_check(const char *url, const char *option, hstu_error *err);
/* The URL without user name and password, which belong neither into errors nor into files, cut at n - 1 bytes. */
void hs_url_show(const char *url, char *out, size_t n);
/* The last part of the URL's path into `out`, cut at n - 1 bytes; "" without one. */
void hs_url_name(const char *url, char *out, size_t n);

#endif
