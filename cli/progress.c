/* Progress bar, warnings, errors, and the interrupt flag. */
#include "cli/progress.h"

#include "base/clock.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BAR_CELLS = 30 };

/* The one piece of global state: a signal handler has no other way to reach the program. */
static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

static void step(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    hs_console_step(ctx, stage, done, total);
}

static void warn(void *ctx, const char *sentence)
{
    hs_console_warn(ctx, "%s", sentence);
}

void hs_console_open(hs_console *console, bool quiet)
{
    *console = (hs_console){.bar = !quiet && isatty(STDERR_FILENO)};
    console->progress = (hstu_progress){.ctx = console, .step = step, .warn = warn, .cancel = &interrupted};
    struct sigaction action = {.sa_flags = (int)SA_RESETHAND};
    action.sa_handler = on_signal;
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

void hs_console_clear(hs_console *console)
{
    if (console->drawn)
        (void)fputs("\r\033[K", stderr);
    console->drawn = false;
}

/* The rate of the last ten seconds or so: a sum over all of the stage would hide that a connection has become slow. */
static void measure(hs_console *console, const char *stage, uint64_t done, double now)
{
    const double passed = now - console->last_s;
    if (strncmp(console->stage, stage, sizeof console->stage - 1) != 0 || done < console->last_done) {
        (void)snprintf(console->stage, sizeof console->stage, "%s", stage);
        console->per_s = 0;
    } else if (passed < 0.5) {
        return;
    } else {
        const double rate = (double)(done - console->last_done) / passed;
        const double part = passed < 10 ? passed / 10 : 1;
        console->per_s = console->per_s > 0 ? console->per_s + part * (rate - console->per_s) : rate;
    }
    console->last_done = done;
    console->last_s = now;
}

void hs_console_rate(char *text, size_t size, const char *stage, double per_s, uint64_t left)
{
    static const char *const of_bytes[] = {"downloading", "checking", "unpacking", "reading"};
    int n = 0;
    text[0] = '\0';
    if (per_s <= 0)
        return;
    for (size_t i = 0; i < sizeof of_bytes / sizeof *of_bytes; i++) {
        if (strcmp(stage, of_bytes[i]) == 0)
            n = snprintf(text, size, ", %.*f MB/s", per_s < 1e7 ? 1 : 0, per_s / 1e6);
    }
    const double left_s = (double)left / per_s;
    if (left_s >= 1 && left_s < 360000) {
        const int s = (int)left_s;
        (void)snprintf(text + n, size - (size_t)n, ", %d:%02d:%02d left", s / 3600, s / 60 % 60, s % 60);
    }
}

void hs_console_step(hs_console *console, const char *stage, uint64_t done, uint64_t total)
{
    const double now = hs_clock_s();
    if (!console->bar || (now < console->next_draw_s && done != total))
        return;
    char rate[64];
    measure(console, stage, done, now);
    hs_console_rate(rate, sizeof rate, stage, console->per_s, done < total ? total - done : 0);
    console->next_draw_s = now + 0.1;
    console->drawn = true;
    if (total == 0) {
        (void)fprintf(stderr, "\r\033[K%s: %llu%s", stage, (unsigned long long)done, rate);
    } else {
        const double part = done < total ? (double)done / (double)total : 1.0;
        const int full = (int)(part * BAR_CELLS);
        char cells[BAR_CELLS + 1];
        memset(cells, '.', BAR_CELLS);
        memset(cells, '#', (size_t)full);
        cells[BAR_CELLS] = '\0';
        (void)fprintf(stderr, "\r\033[K%s [%s] %3d %%%s", stage, cells, (int)(100 * part), rate);
    }
    (void)fflush(stderr);
}

void hs_console_clean(char *text)
{
    for (; *text; text++)
        *text = (unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text;
}

void hs_console_warn(hs_console *console, const char *fmt, ...)
{
    char text[2048];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    hs_console_clean(text);
    hs_console_clear(console);
    (void)fprintf(stderr, "hstu: warning: %s\n", text);
}

bool hs_console_cancelled(const hs_console *console)
{
    return *console->progress.cancel != 0;
}

int hs_console_end(hs_console *console, hstu_status status, const hstu_error *err)
{
    hs_console_clear(console);
    if (status == HSTU_OK)
        return HS_EXIT_DONE;
    (void)fprintf(stderr, "hstu: %s\n", status == HSTU_ECANCELLED ? "interrupted" : err->msg);
    return status == HSTU_ECANCELLED ? HS_EXIT_INTERRUPTED : HS_EXIT_FAILED;
}
