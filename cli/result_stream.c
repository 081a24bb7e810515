/* Standard output for results alone. */
#include "cli/result_stream.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static FILE *apart; /* NULL: stdout itself */

hstu_status hs_result_keep_apart(hstu_error *err)
{
    if (apart)
        return HSTU_OK;
    const int copy = dup(STDOUT_FILENO);
    FILE *stream = copy < 0 ? NULL : fdopen(copy, "w");
    if (!stream || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        const int error = errno;
        if (stream)
            (void)fclose(stream);
        else if (copy >= 0)
            (void)close(copy);
        return hs_fail(err, HSTU_EIO, 0, "cannot keep standard output for results: %s", strerror(error));
    }
    apart = stream;
    return HSTU_OK;
}

FILE *hs_result_stream(void)
{
    return apart ? apart : stdout;
}

bool hs_result_end(void)
{
    FILE *stream = hs_result_stream();
    const bool written = fflush(stream) == 0 && !ferror(stream);
    const int error = errno;
    if (apart) {
        (void)fclose(apart);
        apart = NULL;
    }
    errno = error;
    return written;
}
