/* Verbs, --version, --help, and exit codes. */
#include "cli/program.h"

#include "cli/progress.h"
#include "cli/result_stream.h"
#include "cli/suggest.h"
#include "hstu/version.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const hs_verb *const verbs[] = {&hs_verb_preprocess, &hs_verb_synth, &hs_verb_run, &hs_verb_bench,
    &hs_verb_inspect, &hs_verb_convert, &hs_verb_devices};
enum { N_VERBS = sizeof verbs / sizeof verbs[0] };

static void print_help(FILE *out)
{
    (void)fputs("usage: hstu VERB [options]\n\n"
                "HSTU generative-recommender inference: from raw logs to recommendations and metrics.\n\nverbs:\n",
        out);
    for (size_t i = 0; i < N_VERBS; i++)
        (void)fprintf(out, "  %-12s%s\n", verbs[i]->name, verbs[i]->summary);
    (void)fputs("\n'hstu VERB --help' tells a verb's options; 'hstu --version' the version.\n\nexample:\n", out);
    (void)fprintf(out, "  %s\n  %s\n", hs_verb_preprocess.example, hs_verb_run.example);
}

static const hs_verb *find_verb(const char *name)
{
    for (size_t i = 0; i < N_VERBS; i++) {
        if (strcmp(verbs[i]->name, name) == 0)
            return verbs[i];
    }
    return NULL;
}

static int fail_unknown_verb(const char *name)
{
    const char *names[N_VERBS + 2];
    for (size_t i = 0; i < N_VERBS; i++)
        names[i] = verbs[i]->name;
    names[N_VERBS] = "--help";
    names[N_VERBS + 1] = "--version";
    const char *near = hs_suggest(name, names, N_VERBS + 2);
    (void)fprintf(stderr, "hstu: unknown verb '%.80s': ", name);
    if (near)
        (void)fprintf(stderr, "did you mean '%s'?\n", near);
    else
        (void)fputs("expected preprocess, synth, run, bench, inspect, convert or devices\n", stderr);
    return HS_EXIT_USAGE;
}

static int run_verb(const hs_verb *verb, int argc, char **argv)
{
    hs_options options;
    hstu_error err;
    if (hs_options_parse(&options, verb, argc, argv, &err) != HSTU_OK) {
        (void)fprintf(stderr, "hstu: %s\n", err.msg);
        return HS_EXIT_USAGE;
    }
    if (options.help) {
        hs_options_help(stdout, verb);
        return HS_EXIT_DONE;
    }
    return verb->run(&options);
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return HS_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("hstu %s\n", hstu_version());
        return HS_EXIT_DONE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return HS_EXIT_DONE;
    }
    const hs_verb *verb = find_verb(argv[1]);
    return verb ? run_verb(verb, argc - 2, argv + 2) : fail_unknown_verb(argv[1]);
}

/* Puts /dev/null in the place of standard streams that the caller closed: else the next file that is opened takes their number,
 * and messages end up inside it. Input and output are opened the wrong way round, so that their use still fails. */
static void hold_standard_streams(void)
{
    static const int mode[] = {O_WRONLY, O_RDONLY, O_WRONLY};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", mode[fd]);
    }
}

int hs_program_run(int argc, char **argv)
{
    hold_standard_streams();
    const int code = dispatch(argc, argv);
    /* A result that did not reach its reader is a failure, even if all else went well. */
    if (!hs_result_end() && code == HS_EXIT_DONE) {
        (void)fprintf(stderr, "hstu: cannot write standard output: %s\n", strerror(errno));
        return HS_EXIT_FAILED;
    }
    return code;
}
