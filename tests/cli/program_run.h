/* Runs the whole program in this process, as a command line, and keeps what it printed. */
#ifndef TESTS_CLI_PROGRAM_RUN_H
#define TESTS_CLI_PROGRAM_RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "cli/program.h"
#include "cli/progress.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ARGUMENTS = 32, MAX_OUTPUT = 1 << 16 };

typedef struct outcome {
    int code;
    char out[MAX_OUTPUT], err[MAX_OUTPUT];
} outcome;

static outcome last;

/* Files of their own for each process, since tests run side by side in one folder. */
static inline const char *run_path(const char *kind)
{
    static char path[64];
    (void)snprintf(path, sizeof path, "test_run.%ld.%s", (long)getpid(), kind);
    return path;
}

static inline void run_cleanup(void)
{
    (void)unlink(run_path("out"));
    (void)unlink(run_path("err"));
}

static inline void read_file(const char *path, char *text)
{
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    const size_t n = fread(text, 1, MAX_OUTPUT - 1, in);
    text[n] = '\0';
    assert_int_equal(fclose(in), 0);
}

static inline void write_file(const char *path, const char *text)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fputs(text, out) < 0, 0);
    assert_int_equal(fclose(out), 0);
}

static inline int redirect(FILE *stream, const char *path)
{
    const int kept = dup(fileno(stream)), file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(kept >= 0 && file >= 0);
    (void)fflush(stream);
    assert_true(dup2(file, fileno(stream)) >= 0);
    assert_int_equal(close(file), 0);
    return kept;
}

static inline void restore(FILE *stream, int kept)
{
    (void)fflush(stream);
    assert_true(dup2(kept, fileno(stream)) >= 0);
    assert_int_equal(close(kept), 0);
}

/* Runs "hstu <line>" with both streams into files; words stand between blanks. */
static inline int run(const char *line)
{
    char text[4096], name[] = "hstu", *argument[MAX_ARGUMENTS] = {name};
    int n = 1;
    assert_true(strlen(line) < sizeof text);
    memcpy(text, line, strlen(line) + 1);
    for (char *save = NULL, *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        assert_true(n < MAX_ARGUMENTS);
        argument[n++] = word;
    }
    const int out = redirect(stdout, run_path("out")), err = redirect(stderr, run_path("err"));
    last.code = hs_program_run(n, argument);
    restore(stdout, out);
    restore(stderr, err);
    read_file(run_path("out"), last.out);
    read_file(run_path("err"), last.err);
    return last.code;
}

static inline void expect_done(const char *line)
{
    if (run(line) != HS_EXIT_DONE)
        fail_msg("'hstu %s': code %d, '%s'", line, last.code, last.err);
}

/* The program fails with one sentence on one line, told as the program's, which holds `sentence`. */
static inline void expect_sentence(const char *line, int code, const char *sentence)
{
    const int found = run(line);
    if (found != code || !strstr(last.err, sentence))
        fail_msg("'hstu %s': code %d, '%s'", line, found, last.err);
    assert_memory_equal(last.err, "hstu: ", 6);
    assert_ptr_equal(strchr(last.err, '\n'), last.err + strlen(last.err) - 1);
}

/* The same, and nothing was answered. */
static inline void expect_error(const char *line, int code, const char *sentence)
{
    expect_sentence(line, code, sentence);
    assert_string_equal(last.out, "");
}

static inline double number(const cJSON *root, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, key);
    if (!cJSON_IsNumber(item))
        fail_msg("'%s' is no number in: %s", key, last.out);
    return item->valuedouble;
}

static inline cJSON *parse_text(const char *text)
{
    cJSON *root = NULL;
    hstu_error err = {0};
    if (hs_json_parse(&root, text, strlen(text), "standard output", &err) != HSTU_OK)
        fail_msg("%s: %s", err.msg, text);
    return root;
}

static inline cJSON *parse_output(void)
{
    return parse_text(last.out);
}

#endif
