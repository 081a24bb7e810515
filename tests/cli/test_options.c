/* The option parser: spellings, values, defaults, refusals, suggestions, and help from the same table. */
#include "cli/options.h"
#include "cli/suggest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STEPS, BATCH_SIZE, CHECKPOINT, DTYPE, TOP_K, FILTER_SEEN, QUIET, OFFSET, ROOM, LABEL, N_OPTIONS };

static const hs_option table[N_OPTIONS] = {
    [STEPS] = {"steps", HS_OPTION_INT, "N", NULL, "all", 1, 1000, "batches"},
    [BATCH_SIZE] = {"batch_size", HS_OPTION_INT, "N", "2", NULL, 1, 64, "requests"},
    [CHECKPOINT] = {"checkpoint", HS_OPTION_TEXT, "FILE", NULL, NULL, 0, 0, "weights"},
    [DTYPE] = {"dtype", HS_OPTION_CHOICE, "fp32|bf16|leave-one-out", "fp32", NULL, 0, 0, "arithmetic"},
    [TOP_K] = {"top_k", HS_OPTION_INTS, "K[,K...]", "5", NULL, 1, 2500, "items"},
    [FILTER_SEEN] = {"filter_seen", HS_OPTION_SWITCH, "[on|off]", NULL, NULL, 0, 0, "filter"},
    [QUIET] = {"quiet", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "no bar"},
    [OFFSET] = {"offset", HS_OPTION_INT, "N", "0", NULL, INT64_MIN, INT64_MAX, "any number"},
    [ROOM] = {"room", HS_OPTION_SIZE, "SIZE", "1KiB", NULL, 10, INT64_MAX, "bytes"},
    [LABEL] = {"label", HS_OPTION_TEXTS, "KEY=VALUE", NULL, NULL, 0, 0, "words"},
};

static const hs_verb verb = {
    .name = "run", .text = "Runs.", .option = table, .n_options = N_OPTIONS, .example = "hstu run"};
static const hs_verb file_verb = {.name = "inspect",
    .operand = "FILE",
    .text = "Looks.",
    .option = table,
    .n_options = N_OPTIONS,
    .example = "hstu inspect x"};
static const hs_verb files_verb = {.name = "convert",
    .operand = "IN",
    .second_operand = "OUT",
    .text = "Writes.",
    .option = table,
    .n_options = N_OPTIONS,
    .example = "hstu convert x y"};

enum { MAX_ARGUMENTS = 20 };

/* Splits `line` at blanks. */
static hstu_status parse_for(const hs_verb *of, hs_options *out, const char *line, hstu_error *err)
{
    static char text[512];
    char *argument[MAX_ARGUMENTS];
    int n = 0;
    assert_true(strlen(line) < sizeof text);
    strncpy(text, line, sizeof text - 1);
    for (char *save = NULL, *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argument[n++] = word;
    return hs_options_parse(out, of, n, argument, err);
}

static hs_options good(const char *line)
{
    hs_options options;
    hstu_error err = {0};
    if (parse_for(&verb, &options, line, &err) != HSTU_OK)
        fail_msg("'%s' was refused: %s", line, err.msg);
    return options;
}

static void bad(const char *line, const char *expected)
{
    hs_options options;
    hstu_error err = {0};
    assert_int_equal(parse_for(&verb, &options, line, &err), HSTU_EINVAL);
    if (!strstr(err.msg, expected))
        fail_msg("'%s': expected '%s' in '%s'", line, expected, err.msg);
}

static void test_defaults(void **state)
{
    (void)state;
    const hs_options o = good("");
    assert_false(o.value[STEPS].given);
    assert_int_equal(o.value[STEPS].number, 0);
    assert_false(o.value[BATCH_SIZE].given);
    assert_int_equal(o.value[BATCH_SIZE].number, 2);
    assert_null(o.value[CHECKPOINT].text);
    assert_int_equal(o.value[DTYPE].number, 0);
    assert_string_equal(o.value[DTYPE].text, "fp32");
    assert_int_equal(o.value[TOP_K].n_list, 1);
    assert_int_equal(o.value[TOP_K].list[0], 5);
    assert_false(o.help);
}

static void test_spellings(void **state)
{
    (void)state;
    static const char *const lines[] = {"--batch_size 7", "--batch-size 7", "--batch_size=7", "--batch-size=7"};
    for (size_t i = 0; i < 4; i++) {
        const hs_options o = good(lines[i]);
        assert_true(o.value[BATCH_SIZE].given);
        assert_int_equal(o.value[BATCH_SIZE].number, 7);
    }
    const hs_options o = good("--checkpoint=a=b --quiet --dtype leave_one_out --top-k 10,1,2500");
    assert_string_equal(o.value[CHECKPOINT].text, "a=b");
    assert_true(o.value[QUIET].given);
    assert_int_equal(o.value[QUIET].number, 1);
    assert_int_equal(o.value[DTYPE].number, 2);
    assert_int_equal(o.value[TOP_K].n_list, 3);
    assert_int_equal(o.value[TOP_K].list[0], 10);
    assert_int_equal(o.value[TOP_K].list[1], 1);
    assert_int_equal(o.value[TOP_K].list[2], 2500);
}

static void test_switch(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        int64_t on;
    } cases[] = {{"--filter_seen", 1}, {"--filter-seen on", 1}, {"--filter_seen=on", 1}, {"--no_filter_seen", 0},
        {"--no-filter-seen", 0}, {"--filter_seen off", 0}, {"--filter_seen=off", 0}, {"--filter_seen --quiet", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const hs_options o = good(cases[i].line);
        assert_true(o.value[FILTER_SEEN].given);
        assert_int_equal(o.value[FILTER_SEEN].number, cases[i].on);
    }
    bad("--filter_seen=yes", "--filter_seen wants on or off, found 'yes'");
    bad("--filter_seen yes", "--filter_seen wants on or off, found 'yes'");
    bad("--no_filter_seen=on", "takes no value");
    bad("--filter_seen --no_filter_seen", "--filter_seen is given twice");
    bad("--no_quiet", "unknown option '--no_quiet'");
}

static void test_numbers(void **state)
{
    (void)state;
    assert_int_equal(good("--offset -9223372036854775808").value[OFFSET].number, INT64_MIN);
    assert_int_equal(good("--offset 9223372036854775807").value[OFFSET].number, INT64_MAX);
    assert_int_equal(good("--steps 1000").value[STEPS].number, 1000);
    static const char *const wrong[] = {
        "0", "1001", "-1", "+1", "1.0", "1e2", "0x10", "4k", "", "99999999999999999999", "9223372036854775808", "-"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char line[64];
        (void)snprintf(line, sizeof line, "--steps=%s", wrong[i]);
        bad(line, "option --steps wants a whole number from 1 to 1000, found '");
    }
    int64_t x = 77;
    assert_false(hs_parse_int("9223372036854775808", INT64_MIN, INT64_MAX, &x));
    assert_false(hs_parse_int("-9223372036854775809", INT64_MIN, INT64_MAX, &x));
    assert_false(hs_parse_int(" 1", INT64_MIN, INT64_MAX, &x));
    assert_int_equal(x, 77);
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } cases[] = {{"10", 10}, {"4GiB", (int64_t)4 << 30}, {"512mib", (int64_t)512 << 20}, {"16KiB", 16384},
        {"3tIb", (int64_t)3 << 40}, {"20KB", 20000}, {"7MB", 7000000}, {"2gb", 2000000000}, {"1TB", 1000000000000},
        {"11B", 11}, {"2G", (int64_t)2 << 30}, {"512m", (int64_t)512 << 20}, {"1k", 1024},
        {"8388607TiB", (int64_t)8388607 << 40}, {"9223372036854775807", INT64_MAX}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[64];
        (void)snprintf(line, sizeof line, "--room %s", cases[i].text);
        assert_int_equal(good(line).value[ROOM].number, cases[i].bytes);
    }
    assert_int_equal(good("").value[ROOM].number, 1024);
    static const char *const wrong[] = {"9", "9B", "0GiB", "-1GiB", "+1GiB", "1.5GiB", "GiB", "", "1P", "1Gi", "1GiBs",
        "1PiB", "1bi", "8388608TiB", "9223372036854775808", "99999999999999999999999", "1e9", "0x10", "1KiKiB"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char line[64], sentence[160];
        (void)snprintf(line, sizeof line, "--room=%s", wrong[i]);
        (void)snprintf(sentence, sizeof sentence,
            "option --room wants a size such as 4GiB, 512MiB or 1073741824, 10 to 9223372036854775807 bytes, found "
            "'%s'",
            wrong[i]);
        bad(line, sentence);
    }
}

static void test_repeated_texts(void **state)
{
    (void)state;
    hs_options o = good("--label a=1,2 --steps 3 --label=b=2 --label a=1,2");
    const hs_option_value *label = &o.value[LABEL];
    assert_true(label->given);
    assert_int_equal(label->n_list, 3);
    assert_string_equal(label->texts[0], "a=1,2");
    assert_string_equal(label->texts[1], "b=2");
    assert_string_equal(label->texts[2], "a=1,2");
    assert_int_equal(o.value[STEPS].number, 3);
    assert_false(good("").value[LABEL].given);
    assert_int_equal(good("").value[LABEL].n_list, 0);
    bad("--label a=1 --label", "option --label wants KEY=VALUE, found the end of the command line");
    bad("--label a=1 --label --quiet", "option --label wants KEY=VALUE, found the option '--quiet'");
    bad("--label a=1 --label=", "option --label wants KEY=VALUE, found nothing");
    char line[256] = "", *end = line;
    for (int i = 0; i < HS_MAX_OPTION_VALUES; i++)
        end += sprintf(end, "--label=%d ", i);
    o = good(line);
    assert_int_equal(o.value[LABEL].n_list, HS_MAX_OPTION_VALUES);
    assert_string_equal(o.value[LABEL].texts[HS_MAX_OPTION_VALUES - 1], "15");
    (void)sprintf(end, "--label=x");
    bad(line, "option --label may be given 16 times, found more");
}

static void test_refusals(void **state)
{
    (void)state;
    bad("--steps", "option --steps wants N, found the end of the command line");
    bad("--steps --quiet", "option --steps wants N, found the option '--quiet'");
    bad("--steps 1 --steps 1", "option --steps is given twice");
    bad("--batch_size 3 --batch-size 3", "option --batch_size is given twice");
    bad("--checkpoint=", "option --checkpoint wants FILE, found nothing");
    bad("--quiet=1", "option --quiet takes no value, found '1'");
    bad("--dtype fp8", "option --dtype wants one of fp32|bf16|leave-one-out, found 'fp8'");
    bad("--dtype fp3", "found 'fp3'");
    bad("--top_k 5,5", "names 5 twice");
    bad("--top_k 5,", "found ''");
    bad("--top_k ,5", "found ''");
    bad("--top_k 0", "from 1 to 2500, found '0'");
    bad("--top_k 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "takes at most 16 numbers");
    bad("--top_k 00000000000000000000000000000000000000000000000005,7", "found '000000");
    bad("file", "takes only options, found 'file'");
    bad("-q", "long options begin with '--'");
}

static void test_suggestions(void **state)
{
    (void)state;
    bad("--stesp 4", "did you mean '--steps'?");
    bad("--batchsize 4", "did you mean '--batch_size'?");
    bad("--check-point x", "did you mean '--checkpoint'?");
    bad("--halp", "did you mean '--help'?");
    bad("--something_else=3", "unknown option '--something_else' of 'hstu run': 'hstu run --help' lists");
    static const char *const names[] = {"preprocess", "run", "inspect"};
    assert_string_equal(hs_suggest("preproces", names, 3), "preprocess");
    assert_string_equal(hs_suggest("rnu", names, 3), "run");
    assert_string_equal(hs_suggest("INSPECT", (const char *const[]){"INSPEKT"}, 1), "INSPEKT");
    assert_null(hs_suggest("x", names, 3));
    assert_null(hs_suggest("", names, 3));
    assert_null(hs_suggest("convert", names, 3));
    char longest[200];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_null(hs_suggest(longest, names, 3));
}

static void test_operand(void **state)
{
    (void)state;
    hs_options o;
    hstu_error err = {0};
    assert_int_equal(parse_for(&file_verb, &o, "--steps 3 model.pt --quiet", &err), HSTU_OK);
    assert_string_equal(o.operand, "model.pt");
    assert_int_equal(parse_for(&file_verb, &o, "--steps 3", &err), HSTU_EINVAL);
    assert_string_equal(err.msg, "'hstu inspect' wants FILE, found nothing");
    assert_int_equal(parse_for(&file_verb, &o, "a b", &err), HSTU_EINVAL);
    assert_string_equal(err.msg, "'hstu inspect' takes one file, found 'b'");
    assert_int_equal(parse_for(&files_verb, &o, "a.pt --steps 3 b.pt", &err), HSTU_OK);
    assert_string_equal(o.operand, "a.pt");
    assert_string_equal(o.second_operand, "b.pt");
    assert_int_equal(parse_for(&files_verb, &o, "--quiet", &err), HSTU_EINVAL);
    assert_string_equal(err.msg, "'hstu convert' wants IN, found nothing");
    assert_int_equal(parse_for(&files_verb, &o, "a.pt --steps 3", &err), HSTU_EINVAL);
    assert_string_equal(err.msg, "'hstu convert' wants OUT behind 'a.pt', found nothing");
    assert_int_equal(parse_for(&files_verb, &o, "a b c", &err), HSTU_EINVAL);
    assert_string_equal(err.msg, "'hstu convert' takes two files, found 'c'");
    /* --help wins over every mistake beside it. */
    assert_int_equal(parse_for(&file_verb, &o, "--nonsense --help", &err), HSTU_OK);
    assert_true(o.help);
}

static void test_help_names_every_option(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    assert_non_null(out);
    hs_options_help(out, &file_verb);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(text, "usage: hstu inspect FILE [options]"));
    for (size_t i = 0; i < N_OPTIONS; i++) {
        assert_non_null(strstr(text, table[i].name));
        assert_non_null(strstr(text, table[i].help));
    }
    assert_non_null(strstr(text, "batches (default: all)"));
    assert_non_null(strstr(text, "requests (default: 2)"));
    assert_non_null(strstr(text, "--[no_]filter_seen [on|off]"));
    assert_non_null(strstr(text, "hstu inspect x\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_spellings),
        cmocka_unit_test(test_switch),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_repeated_texts),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_suggestions),
        cmocka_unit_test(test_operand),
        cmocka_unit_test(test_help_names_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
