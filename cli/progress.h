/* What a person sees on standard error: progress bar, warnings, errors; and the interrupt flag. */
#ifndef HS_CLI_PROGRESS_H
#define HS_CLI_PROGRESS_H

#include "hstu/dataset.h"

#include <stdbool.h>
#include <stddef.h>

/* The program's exit codes. */
enum { HS_EXIT_DONE = 0, HS_EXIT_FAILED = 1, HS_EXIT_USAGE = 2, HS_EXIT_INTERRUPTED = 130 };

typedef struct hs_console {
    hstu_progress progress; /* for library calls; ctx is this console, which therefore must not move */
    bool bar;               /* standard error is a terminal and --quiet was not given */
    bool drawn;             /* a bar stands on the last line */
    double next_draw_s;
    /* How fast the stage under way is. */
    char stage[32];
    uint64_t last_done;
    double last_s;
    double per_s; /* units a second of late; 0: not known yet */
} hs_console;

/* From here on SIGINT and SIGTERM set progress.cancel; a second signal ends the program at once. */
void hs_console_open(hs_console *console, bool quiet);
/* Removes the bar from the terminal. */
void hs_console_clear(hs_console *console);
/* As progress.step, for the program's own loops. */
void hs_console_step(hs_console *console, const char *stage, uint64_t done, uint64_t total);
/* Writes ", 12.3 MB/s, 1:23:45 left" as far as it is known and means something; per_s 0: nothing is. */
void hs_console_rate(char *text, size_t size, const char *stage, double per_s, uint64_t left);
/* Names come out of files: control characters, which a terminal would obey, become '?'. */
void hs_console_clean(char *text);
/* "hstu: warning: <sentence>", cleaned. */
__attribute__((format(printf, 2, 3))) void hs_console_warn(hs_console *console, const char *fmt, ...);
bool hs_console_cancelled(const hs_console *console);
/* Prints "hstu: <err->msg>" and gives the exit code of `status`; prints nothing of HSTU_OK. */
int hs_console_end(hs_console *console, hstu_status status, const hstu_error *err);

#endif
