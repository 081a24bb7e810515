/* `hstu synth`: options, the library call, and what was written. */
#include "base/clock.h"
#include "cli/program.h"
#include "cli/progress.h"
#include "hstu/dataset.h"

#include <inttypes.h>
#include <stdio.h>

enum { LIKE, DATA_ROOT, USERS, ITEMS, EVENTS, SEED, THREADS, FORCE, QUIET, N_OPTIONS };

static const hs_option options_of_synth[N_OPTIONS] = {
    [LIKE] = {"like", HS_OPTION_TEXT, "NAME", "KuaiRand-1K", NULL, 0, 0,
        "the data set whose shape and file names it takes: KuaiRand-1K, KuaiRand-Pure or KuaiRand-27K"},
    [DATA_ROOT] = {"data_root", HS_OPTION_TEXT, "DIR", "tmp_data", NULL, 0, 0,
        "the files go into DIR/NAME/data/, where preprocess finds them"},
    [USERS] = {"users", HS_OPTION_INT, "N", NULL, "as the real set", 1, 100000000, "users"},
    [ITEMS] = {"items", HS_OPTION_INT, "N", NULL, "in proportion to the events", 1, 1000000000, "items"},
    [EVENTS] = {"events", HS_OPTION_INT, "N", NULL, "as the real set", 1, 4294967294, "rows of all logs together"},
    [SEED] = {"seed", HS_OPTION_INT, "N", "1", NULL, 0, INT64_MAX, "another seed gives other data of the same shape"},
    [THREADS] = {"threads", HS_OPTION_INT, "N", NULL, "all processors", 1, 256, "the files do not depend on it"},
    [FORCE] = {"force", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "replace files that exist"},
    [QUIET] = {"quiet", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "no progress bar"},
};

static void print_summary(const hstu_synth_report *report, double seconds)
{
    (void)printf(
        "users %" PRId64 ", items %" PRId64 ", events %" PRId64 "\n", report->users, report->items, report->events);
    for (int i = 0; i < report->n_files; i++)
        (void)printf("wrote %s (%" PRIu64 " rows)\n", report->path[i], report->rows[i]);
    (void)printf("%.1f MB in %.2f s, %.0f MB/s\n", (double)report->bytes / 1e6, seconds,
        (double)report->bytes / 1e6 / (seconds > 0 ? seconds : 1));
}

static int run_verb(const hs_options *options)
{
    const hs_option_value *value = options->value;
    hstu_synth_options settings;
    hstu_synth_report report;
    hs_console console;
    hstu_error err;
    hs_console_open(&console, value[QUIET].given);
    hstu_synth_options_init(&settings);
    settings.like = value[LIKE].text;
    settings.data_root = value[DATA_ROOT].text;
    settings.users = value[USERS].number;
    settings.items = value[ITEMS].number;
    settings.events = value[EVENTS].number;
    settings.seed = (uint64_t)value[SEED].number;
    settings.threads = (int)value[THREADS].number;
    settings.overwrite = value[FORCE].given;
    settings.progress = console.progress;
    const double begin = hs_clock_s();
    const hstu_status status = hstu_synth(&settings, &report, &err);
    const int code = hs_console_end(&console, status, &err);
    if (status == HSTU_OK)
        print_summary(&report, hs_clock_s() - begin);
    return status == HSTU_EINVAL ? HS_EXIT_USAGE : code;
}

const hs_verb hs_verb_synth = {
    .name = "synth",
    .summary = "make logs of KuaiRand's shape and size, for tests and measurements",
    .text =
        "Writes standard logs and user features in KuaiRand's own format: heavy-tailed users and items, sessions, "
        "actions, times and duplicate rows at the real rates. Ids and values are made up. The bytes depend on NAME, "
        "users, items, events and seed alone.",
    .option = options_of_synth,
    .n_options = N_OPTIONS,
    .example = "hstu synth --like KuaiRand-1K --data_root synth_data",
    .run = run_verb,
};
