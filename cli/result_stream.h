/* Where results are written. */
#ifndef HS_CLI_RESULT_STREAM_H
#define HS_CLI_RESULT_STREAM_H

#include "hstu/status.h"

#include <stdbool.h>
#include <stdio.h>

/* From now on what libraries print on standard output goes to standard error: vendors' libraries for NPUs print there what they
 * like. HSTU_EIO. */
hstu_status hs_result_keep_apart(hstu_error *err);
/* Standard output as the program was given it. */
FILE *hs_result_stream(void);
/* The last result is written; libraries, which also print while the process ends, are kept apart until then. False, with errno,
 * when something written to the stream did not reach its reader. */
bool hs_result_end(void);

#endif
