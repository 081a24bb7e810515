/* Custom logs as events: columns by name, ids of every kind, times, actions, and what is refused. */
#include "dataset/sink_text.h"

#include "data/custom.h"

typedef struct heard {
    char text[2048]; /* every warning, a line each */
} heard;

static void on_warning(void *ctx, const char *sentence)
{
    heard *h = ctx;
    const size_t n = strlen(h->text);
    (void)snprintf(h->text + n, sizeof h->text - n, "%s\n", sentence);
}

/* A run over files that a test wrote. */
typedef struct log_case {
    scratch *s;
    hstu_preprocess_options options;
    char path[3][512];
    const char *input[3];
    heard heard;
    hs_custom custom;
    sink_text events;
    int n_readings;
    hstu_error err;
} log_case;

static void case_open(log_case *c, scratch *s)
{
    *c = (log_case){.s = s};
    hstu_preprocess_options_init(&c->options);
    c->options.dataset_name = "custom";
    c->options.input = c->input;
    c->options.progress = (hstu_progress){.ctx = &c->heard, .warn = on_warning};
}

static void case_file(log_case *c, const char *text)
{
    const size_t i = c->options.n_inputs++;
    char name[32];
    (void)snprintf(name, sizeof name, "log%zu.csv", i);
    scratch_text(c->s, name, text);
    (void)snprintf(c->path[i], sizeof c->path[i], "%s", scratch_path(c->s, name));
    c->input[i] = c->path[i];
}

/* Reads as often as it must; c->custom stays open on success. */
static hstu_status case_read(log_case *c, size_t max_text_bytes)
{
    hs_warnings warnings = {.progress = &c->options.progress};
    bool again = true;
    c->n_readings = 0;
    c->heard.text[0] = '\0';
    hstu_status status = hs_custom_open(&c->custom, &c->options, max_text_bytes, &c->err);
    if (status != HSTU_OK)
        return status;
    while (status == HSTU_OK && again) {
        hs_eventsink *sink = sink_open(c->s);
        c->n_readings++;
        status = hs_custom_read(&c->custom, sink, &warnings, &again, &c->err);
        if (status == HSTU_OK && !again)
            sink_finish(sink, &c->events);
        hs_eventsink_close(sink);
    }
    hs_warnings_free(&warnings);
    if (status != HSTU_OK)
        hs_custom_close(&c->custom);
    return status;
}

static void expect_events(log_case *c, const char *expected)
{
    if (case_read(c, 1 << 20) != HSTU_OK)
        fail_msg("%s", c->err.msg);
    assert_string_equal(c->events.text, expected);
}

/* The sentence holds `text`, with the first file's path for "%s". */
static void expect_refusal(log_case *c, hstu_status status, const char *text)
{
    char expected[1024];
    const char *place = strstr(text, "%s");
    if (place)
        (void)snprintf(expected, sizeof expected, "%.*s%s%s", (int)(place - text), text, c->path[0], place + 2);
    else
        (void)snprintf(expected, sizeof expected, "%s", text);
    if (case_read(c, 1 << 20) != status || !strstr(c->err.msg, expected))
        fail_msg("status %d: %s\nexpected: %s", (int)c->err.code, c->err.msg, expected);
}

/* ---- What is read ----------------------------------------------------------------------------------------------- */

static void test_numbers_are_kept(void **state)
{
    log_case c;
    case_open(&c, *state);
    /* Any order of columns, others beside them, quotes, CRLF, no final line end; equal times stay in the order of the
     * rows, and a row that equals an earlier one in every column that is read is a duplicate. */
    case_file(&c, "\xef\xbb\xbf"
                  "timestamp,note,item_id,user_id\r\n20,\"a,\"\"b\"\"\r\n\",9223372036854775806,5\r\n10,,0,5\r\n"
                  "20,x,4,5\r\n20,y,4,5\r\n-1.5,,7,\"0\"");
    expect_events(&c, "0: 7@-1500\n5: 0@10000 9223372036854775806@20000 4@20000 4@20000d\n");
    assert_int_equal(c.n_readings, 1);
    assert_false(c.custom.users.are_texts || c.custom.items.are_texts);
    assert_int_equal(c.custom.min_time_ms, -1500);
    assert_int_equal(c.custom.max_time_ms, 20000);
    assert_true(c.custom.input[0].bytes == 113 && c.custom.input[0].hash != 0);
    assert_non_null(strstr(c.heard.text, "the events are from the years 1970 to 1970: is 's' in column timestamp the "
                                         "right time_unit?"));
    hs_custom_close(&c.custom);
}

static void test_texts_are_numbered(void **state)
{
    log_case c;
    size_t n = 0;
    hs_outfile *file = NULL;
    case_open(&c, *state);
    case_file(&c, "user_id,item_id,timestamp\nbob,\"a,\"\"b\",1650882384\nann,7,1650882385\nbob,07,1650882386\n");
    case_file(&c, "item_id,user_id,timestamp\n7,bob,1650882384\n\"a,\"\"b\",-3,1650882380\n");
    expect_events(&c, "1: 1@1650882384000 2@1650882384000 3@1650882386000\n2: 2@1650882385000\n3: 1@1650882380000\n");
    assert_int_equal(c.n_readings, 1); /* the first row told it */
    assert_string_equal(c.heard.text, "");
    assert_int_equal(
        hs_idtexts_write(&file, scratch_path(c.s, "items.csv"), &c.custom.items.texts, "item_id", &c.err), HSTU_OK);
    assert_int_equal(hs_outfile_commit(file, &c.err), HSTU_OK);
    char *text = read_whole(scratch_path(c.s, "items.csv"), &n);
    assert_string_equal(text, "item_id,text\n1,\"a,\"\"b\"\n2,7\n3,07\n");
    free(text);
    hs_custom_close(&c.custom);
}

/* A text in a later row makes texts of the numbers before it, in both columns with at most two more readings. */
static void test_late_text(void **state)
{
    static const struct {
        const char *id;
        bool is_text;
    } ids[] = {{"x", true}, {"-1", true}, {"07", true}, {"00", true}, {"1.0", true}, {"-0", true},
        {"9223372036854775807", true}, {"18446744073709551615", true}, {" 5", true}, {"0", false}, {"10", false}};
    log_case c;
    char text[256];
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        case_open(&c, *state);
        (void)snprintf(text, sizeof text, "user_id,item_id,timestamp\n9,8,1650882384\n9,%s,1650882385\n", ids[i].id);
        case_file(&c, text);
        if (case_read(&c, 1 << 20) != HSTU_OK)
            fail_msg("%s", c.err.msg);
        assert_int_equal(c.custom.items.are_texts, ids[i].is_text);
        assert_false(c.custom.users.are_texts);
        assert_int_equal(c.n_readings, 1 + ids[i].is_text);
        if (ids[i].is_text) {
            assert_string_equal(c.events.text, "9: 1@1650882384000 2@1650882385000\n");
            (void)snprintf(text, sizeof text,
                "'%s' in log0.csv, line 3, is no whole number from 0, so all items are numbered from 1 as texts\n",
                ids[i].id);
            assert_string_equal(c.heard.text, text);
        }
        hs_custom_close(&c.custom);
    }
    case_open(&c, *state);
    case_file(&c, "user_id,item_id,timestamp\n9,8,1650882384\n9,x,1650882385\n");
    case_file(&c, "user_id,item_id,timestamp\ny,8,1650882386\n");
    expect_events(&c, "1: 1@1650882384000 2@1650882385000\n2: 1@1650882386000\n");
    assert_int_equal(c.n_readings, 3);
    hs_custom_close(&c.custom);
    case_open(&c, *state);
    c.options.text_ids = 1;
    case_file(&c, "user_id,item_id,timestamp\n9,8,1650882384\n3,8,1650882385\n");
    expect_events(&c, "1: 1@1650882384000\n2: 1@1650882385000\n");
    hs_custom_close(&c.custom);
}

static void test_many_texts(void **state)
{
    enum { N = 5000 };
    hs_idtexts texts = {0};
    hstu_error err;
    int64_t number = 0;
    (void)state;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N; i++) {
            char text[16];
            const int len = snprintf(text, sizeof text, "%d", i * 7);
            assert_int_equal(hs_idtexts_add(&texts, text, (size_t)len, 1 << 20, "items", &number, &err), HSTU_OK);
            assert_int_equal(number, i + 1);
        }
    }
    assert_int_equal(texts.n, N);
    assert_int_equal(hs_idtexts_add(&texts, "", 0, 1 << 20, "items", &number, &err), HSTU_OK);
    assert_int_equal(number, N + 1);
    assert_int_equal(
        hs_idtexts_add(&texts, "new", 3, hs_idtexts_bytes(&texts) + 2, "items", &number, &err), HSTU_EUNSUP);
    assert_non_null(strstr(err.msg, "the texts of 5001 different items take more than"));
    assert_int_equal(hs_idtexts_add(&texts, "7", 1, 1, "items", &number, &err), HSTU_OK); /* held already */
    assert_int_equal(number, 2);
    hs_idtexts_free(&texts);
}

static void test_actions(void **state)
{
    static const char log[] = "user_id,item_id,timestamp,click,like,share\n1,1,1,1,0,0\n1,2,2,0,true,0.0\n"
                              "1,3,3,FALSE,,-2e-3\n1,4,4,+1,0.50,.5\n1,5,5,0e9,0,00\n";
    log_case c;
    case_open(&c, *state);
    case_file(&c, log);
    expect_events(&c, "1: 1@1000 2@2000 3@3000 4@4000 5@5000\n");
    hs_custom_close(&c.custom);
    c.options.action_columns = "click,like,share";
    expect_events(&c, "1: 1@1000*1 2@2000*2 3@3000*4 4@4000*7 5@5000\n");
    hs_custom_close(&c.custom);
    c.options.action_columns = "share=200,click=5,like=50";
    expect_events(&c, "1: 1@1000*5 2@2000*50 3@3000*200 4@4000*255 5@5000\n");
    hs_custom_close(&c.custom);
    case_open(&c, *state);
    case_file(&c, "user_id,item_id,timestamp,a=b\n1,1,1,0\n1,2,2,255\n1,3,3,7.00\n");
    c.options.action_columns = "a=b=value";
    expect_events(&c, "1: 1@1000 2@2000*255 3@3000*7\n");
    hs_custom_close(&c.custom);
}

static void test_names_and_units(void **state)
{
    log_case c;
    case_open(&c, *state);
    c.options.user_column = "who";
    c.options.item_column = "what";
    c.options.time_column = "when";
    c.options.time_unit = "iso";
    c.options.delimiter = "tab";
    case_file(&c, "what\twhen\twho\n3,5\t2022-04-25T10:26:24Z\tx y\n\"4\t\"\t2022-04-25 18:26:24+08:00\tx y\n");
    expect_events(&c, "1: 1@1650882384000 2@1650882384000\n");
    assert_string_equal(c.heard.text, "");
    hs_custom_close(&c.custom);
    case_open(&c, *state);
    c.options.time_unit = "ms";
    c.options.delimiter = ";";
    case_file(&c, "user_id;item_id;timestamp\n1;2;1650882384123\n");
    expect_events(&c, "1: 2@1650882384123\n");
    hs_custom_close(&c.custom);
    c.options.time_unit = "s";
    expect_events(&c, "1: 2@1650882384123000\n");
    assert_non_null(strstr(c.heard.text, "the years 54284 to 54284: is 's' in column timestamp the right time_unit?"));
    hs_custom_close(&c.custom);
}

static void test_gzip(void **state)
{
    static const char text[] = "user_id,item_id,timestamp\n1,2,1650882384\n";
    log_case c;
    case_open(&c, *state);
    scratch_gzip(c.s, "log.csv.gz", "wb", text, sizeof text - 1);
    (void)snprintf(c.path[0], sizeof c.path[0], "%s", scratch_path(c.s, "log.csv.gz"));
    c.input[0] = c.path[0];
    c.options.n_inputs = 1;
    expect_events(&c, "1: 2@1650882384000\n");
    hs_custom_close(&c.custom);
}

/* ---- What is refused -------------------------------------------------------------------------------------------- */

static void test_bad_options(void **state)
{
    static const struct {
        const char *actions, *unit, *delimiter, *sentence;
    } cases[] = {{"a=0", "s", ",", "the weight of 'a' must be a number from 1 to 255, or 'value', not '0'"},
        {"a=256", "s", ",", "not '256'"}, {"a=", "s", ",", "not ''"}, {"a=b", "s", ",", "not 'b'"},
        {"a,,b", "s", ",", "action_columns: the name of column 2 is empty"},
        {",", "s", ",", "action_columns: the name of column 1 is empty"},
        {"a=200,b=56", "s", ",", "the weights must be at most 255 together, not 256"},
        {"a=value,b=1", "s", ",", "'a=value' is the action itself, so no other column can be one"},
        {"1,2,3,4,5,6,7,8,9", "s", ",", "'9' is number 9 and needs a weight: 9=WEIGHT"},
        {NULL, "min", ",", "time_unit must be s, ms, us, ns or iso, not 'min'"}, {NULL, NULL, ",", "time_unit must be"},
        {NULL, "s", "", "delimiter must be one character or \"tab\", not ''"}, {NULL, "s", "::", "not '::'"},
        {NULL, "s", "\"", "delimiter must be"}, {NULL, "s", "\n", "delimiter must be"}};
    log_case c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        case_open(&c, *state);
        case_file(&c, "user_id,item_id,timestamp\n1,2,3\n");
        c.options.action_columns = cases[i].actions;
        c.options.time_unit = cases[i].unit;
        c.options.delimiter = cases[i].delimiter;
        expect_refusal(&c, HSTU_EINVAL, cases[i].sentence);
    }
    case_open(&c, *state);
    expect_refusal(&c, HSTU_EINVAL, "custom data want files");
    case_file(&c, "user_id,item_id,timestamp\n1,2,3\n");
    c.options.item_column = "";
    expect_refusal(&c, HSTU_EINVAL, "item_column must name a column");
}

static void test_bad_logs(void **state)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {{"", "'%s' is empty: expected a line with column names"},
        {"user_id,item_id,timestamp\n", "'%s' holds no rows"},
        {"user_id,item_id\n1,2\n", "'%s', line 1: the column 'timestamp' is missing among 2 columns: user_id, item_id; "
                                   "please check time_column"},
        {"user_id;item_id;timestamp\n1;2;3\n", "'%s', line 1: the column 'user_id' is missing among 1 column: "
                                               "user_id;item_id;timestamp; please check user_column and delimiter"},
        {"user_id,user_id,item_id,timestamp\n1,1,2,3\n", "the column 'user_id' stands there twice"},
        {"user_id,item_id,timestamp\n1,2,3\n1,2\n", "'%s', line 3: expected 3 fields, found 2"},
        {"user_id,item_id,timestamp\n1,2,3\n,2,3\n", "'%s', line 3, column 1 (user_id): expected an id, found nothing"},
        {"user_id,item_id,timestamp\n1,\"\",3\n", "'%s', line 2, column 2 (item_id): expected an id, found nothing"},
        {"user_id,item_id,timestamp\n1,2,nan\n",
            "'%s', line 2, column 3 (timestamp): expected seconds (time_unit s), found 'nan'"},
        {"user_id,item_id,timestamp\n1,2,99999999999999999999999999999999999999999999\n",
            "found '9999999999999999999999999999999999999999'..."},
        {"user_id,item_id,timestamp\n1,2,2022-04-25\n", "expected seconds (time_unit s), found '2022-04-25'"},
        {"user_id,item_id,timestamp\n1,2,\n", "expected seconds (time_unit s), found ''"},
        {"user_id,item_id,timestamp\n1,2,3\n\n1,2,3\n", "'%s', line 3: the line is empty"}};
    log_case c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        case_open(&c, *state);
        case_file(&c, cases[i].text);
        expect_refusal(&c, HSTU_EFORMAT, cases[i].sentence);
    }
    case_open(&c, *state);
    case_file(&c, "user_id,item_id,timestamp\n1,2,3\n");
    c.input[c.options.n_inputs++] = "/no/such/file.csv";
    expect_refusal(&c, HSTU_ENOENT, "cannot examine '/no/such/file.csv'");
    case_open(&c, *state);
    case_file(&c, "user_id,item_id,timestamp\nx,2,3\ny,2,3\n");
    assert_int_equal(case_read(&c, 10), HSTU_EUNSUP);
    assert_non_null(
        strstr(c.err.msg, "the texts of 1 different users take more than 10 bytes: raise the memory limit"));
}

static void test_bad_actions(void **state)
{
    static const struct {
        const char *columns, *value, *sentence;
    } cases[] = {{"a", "nan", "column 4 (a): expected a number, true, false or nothing, found 'nan'"},
        {"a", "yes", "found 'yes'"}, {"a", "-", "found '-'"}, {"a", "1e", "found '1e'"}, {"a", "1.2.3", "found"},
        {"a", ".", "found '.'"}, {"a", "e5", "found 'e5'"}, {"a", " 1", "found ' 1'"},
        {"a=value", "256", "column 4 (a): expected a whole number from 0 to 255, found '256'"},
        {"a=value", "", "found ''"}, {"a=value", "-1", "found '-1'"}, {"a=value", "1.5", "found '1.5'"},
        {"a=value", "1.", "found '1.'"},
        {"b", "1",
            "'%s', line 1: the column 'b' is missing among 4 columns: user_id, item_id, timestamp, a; please check "
            "action_columns"}};
    log_case c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[128];
        case_open(&c, *state);
        (void)snprintf(text, sizeof text, "user_id,item_id,timestamp,a\n1,2,3,%s\n", cases[i].value);
        case_file(&c, text);
        c.options.action_columns = cases[i].columns;
        expect_refusal(&c, HSTU_EFORMAT, cases[i].sentence);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_numbers_are_kept, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_texts_are_numbered, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_late_text, scratch_setup, scratch_teardown),
        cmocka_unit_test(test_many_texts),
        cmocka_unit_test_setup_teardown(test_actions, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_names_and_units, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_gzip, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bad_options, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bad_logs, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bad_actions, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
