/* Lines of a requests file that must be refused, and with which words. */
#ifndef TESTS_CLI_REQUEST_CASES_H
#define TESTS_CLI_REQUEST_CASES_H

#include "cli/request_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

typedef struct request_case {
    const char *line, *expected;
} request_case;

/* parse reads its line as line 7 of a file. */
static inline void assert_refusals(
    hstu_status (*parse)(hs_request *request, const char *line, hstu_error *err), const request_case *cases, size_t n)
{
    hs_request r = {0};
    for (size_t i = 0; i < n; i++) {
        hstu_error err = {0};
        if (parse(&r, cases[i].line, &err) != HSTU_EFORMAT)
            fail_msg("'%s' was not refused", cases[i].line);
        if (!strstr(err.msg, cases[i].expected))
            fail_msg("'%s': expected '%s' in '%s'", cases[i].line, cases[i].expected, err.msg);
        assert_int_equal(err.pos, 7);
    }
    hs_request_free(&r);
}

#endif
