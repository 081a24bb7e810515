/* SIGPIPE held back in one thread. */
#include "fetch/sigpipe.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

void hs_sigpipe_hold(hs_sigpipe *hold)
{
    sigset_t waiting, one;
    (void)sigemptyset(&one);
    (void)sigaddset(&one, SIGPIPE);
    hold->pending = sigpending(&waiting) == 0 && sigismember(&waiting, SIGPIPE) == 1;
    hold->blocked = pthread_sigmask(SIG_BLOCK, &one, &hold->before) == 0;
}

void hs_sigpipe_release(hs_sigpipe *hold)
{
    sigset_t one;
    const struct timespec now = {0};
    if (!hold->blocked)
        return;
    (void)sigemptyset(&one);
    (void)sigaddset(&one, SIGPIPE);
    while (!hold->pending && sigtimedwait(&one, NULL, &now) < 0 && errno == EINTR)
        continue;
    (void)pthread_sigmask(SIG_SETMASK, &hold->before, NULL);
}
