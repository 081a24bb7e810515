/* Writing to a connection that the other side has closed must not end the program. */
#ifndef HS_FETCH_SIGPIPE_H
#define HS_FETCH_SIGPIPE_H

#include <signal.h>
#include <stdbool.h>

typedef struct hs_sigpipe {
    sigset_t before;
    bool pending, blocked;
} hs_sigpipe;

/* Holds SIGPIPE back in this thread until hs_sigpipe_release, which drops what came meanwhile; the process's own handling of the
 * signal stays as it is. */
void hs_sigpipe_hold(hs_sigpipe *hold);
void hs_sigpipe_release(hs_sigpipe *hold);

#endif
