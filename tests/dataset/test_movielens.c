/* MovieLens as events, and the references' text files, byte for byte what their pandas writes with a stable sort and without a
 * shuffle. */
#include "dataset/sink_text.h"

#include "data/datfile.h"
#include "data/movielens.h"
#include "data/movielens_csv.h"

/* Users in no order; texts among the zip codes; the last line without an end. */
#define USERS                                                                                                          \
    "3::M::25::15::55117-1234\n1::F::1::10::48067\n5::F::1::15::02460\n2::M::56::16::70072\n9::M::18::7::48067"
/* Equal times, a rating given twice, lines that end in CRLF, a time before 1970. */
#define RATINGS                                                                                                        \
    "2::1357::5::978298709\r\n1::1193::5::978300760\r\n1::661::3::978302109\r\n2::3068::4::978299000\r\n"              \
    "1::914::3::978300760\r\n3::10::1::978301968\r\n1::3408::4::978300275\r\n1::914::3::978300760\r\n"                 \
    "5::2355::2::978824291\r\n5::1::1::-5"

/* A data set of a test. */
typedef struct set_case {
    scratch *s;
    const hs_movielens_set *set;
    hs_movielens_files files;
    hs_mlusers users;
    bool fractions;
    hs_input_file file;
    hs_eventsink *sink;
    sink_text events;
    hstu_error err;
} set_case;

static void case_open(set_case *c, scratch *s, const char *name)
{
    *c = (set_case){.s = s, .set = hs_movielens_find(name)};
    assert_non_null(c->set);
    if (!scratch_exists(s, name))
        scratch_mkdir(s, name);
}

static hstu_status case_read(set_case *c)
{
    hs_warnings warnings = {0};
    hstu_status status = hs_movielens_files_find(&c->files, c->set, c->s->folder, &warnings, &c->err);
    hs_warnings_free(&warnings);
    if (status == HSTU_OK && c->set->dat)
        status = hs_mlusers_read(&c->users, c->files.users.text, NULL, &c->err);
    if (status != HSTU_OK)
        return status;
    c->sink = sink_open(c->s);
    return hs_movielens_read(c->set, c->files.ratings.text, c->sink, &c->fractions, &c->file, NULL, &c->err);
}

static void case_close(set_case *c)
{
    hs_eventsink_close(c->sink);
    hs_mlusers_free(&c->users);
    c->sink = NULL;
}

static void assert_file(scratch *s, const char *name, const char *expected)
{
    size_t n = 0;
    char *text = read_whole(scratch_path(s, name), &n);
    assert_string_equal(text, expected);
    free(text);
}

typedef struct both_files {
    hs_movielens_csv *csv[2];
} both_files;

static hstu_status put_both(void *ctx, const hs_event_block *block, hstu_error *err)
{
    const both_files *files = ctx;
    const hstu_status status = hs_movielens_csv_put(files->csv[0], block, err);
    return status == HSTU_OK ? hs_movielens_csv_put(files->csv[1], block, err) : status;
}

/* Reads the set and writes both references' files. */
static void expect_files(set_case *c, const char *events, const char *sasrec, const char *ranking, uint64_t n_ranking)
{
    both_files files;
    const hs_block_consumer consumer = {.ctx = &files, .in_turn = put_both};
    hs_outfile *file = NULL;
    uint64_t n_rows = 0;
    if (case_read(c) != HSTU_OK)
        fail_msg("%s", c->err.msg);
    sink_finish(c->sink, &c->events);
    assert_string_equal(c->events.text, events);
    const hs_event_users all = hs_eventsink_users(c->sink);
    const hs_movielens_events from = {
        &all, c->set->dat ? &c->users : NULL, .halves = !c->set->dat, .fractions = c->fractions};
    assert_int_equal(hs_sasrec_csv_open(&files.csv[0], scratch_path(c->s, "sasrec.csv"), &from, &c->err), HSTU_OK);
    assert_int_equal(hs_movielens_csv_open(&files.csv[1], scratch_path(c->s, "ranking.csv"), &from, &c->err), HSTU_OK);
    assert_int_equal(hs_eventsink_visit(c->sink, &consumer, NULL, &c->err), HSTU_OK);
    assert_int_equal(hs_movielens_csv_finish(&file, files.csv[0], NULL, &c->err), HSTU_OK);
    assert_int_equal(hs_outfile_commit(file, &c->err), HSTU_OK);
    assert_file(c->s, "sasrec.csv", sasrec);
    assert_int_equal(hs_movielens_csv_finish(&file, files.csv[1], &n_rows, &c->err), HSTU_OK);
    assert_int_equal(hs_outfile_commit(file, &c->err), HSTU_OK);
    assert_file(c->s, "ranking.csv", ranking);
    assert_int_equal(n_rows, n_ranking);
    case_close(c);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(hs_movielens_find("ML_1M")->name, "ml-1m");
    assert_string_equal(hs_movielens_find("ml-20m")->name, "ml-20m");
    assert_null(hs_movielens_find("ml-25m"));
    assert_null(hs_movielens_find("ml-1"));
    assert_null(hs_movielens_find("ml-1mm"));
    assert_null(hs_movielens_find(""));
}

static void test_dat(void **state)
{
    set_case c;
    case_open(&c, *state, "ml-1m");
    scratch_text(c.s, "ml-1m/users.dat", USERS);
    scratch_text(c.s, "ml-1m/ratings.dat", RATINGS);
    expect_files(&c,
        "1: 3408@978300275000*3 1193@978300760000*4 914@978300760000*2 914@978300760000*2d 661@978302109000*2\n"
        "2: 1357@978298709000*4 3068@978299000000*3\n3: 10@978301968000\n5: 1@-5000 2355@978824291000*1\n",
        "index,user_id,sequence_item_ids,sequence_ratings,sequence_timestamps,sex,age_group,occupation,zip_code\n"
        "0,1,\"3408,1193,914,914,661\",\"4,5,3,3,3\",\"978300275,978300760,978300760,978300760,978302109\",0,0,1,1\n"
        "1,2,\"1357,3068\",\"5,4\",\"978298709,978299000\",1,3,3,3\n2,3,10,1,978301968,1,2,2,2\n"
        "3,5,\"1,2355\",\"1,2\",\"-5,978824291\",0,0,2,0\n",
        "user_id,movie_id,rating,unix_timestamp,sex,age_group,occupation,zip_code\n"
        "1,\"[3408, 1193, 914, 914, 661]\",\"[3, 4, 2, 2, 2]\",\"[978300275, 978300760, 978300760, 978300760, "
        "978302109]\",2,2,2,2\n2,\"[1357, 3068]\",\"[4, 3]\",\"[978298709, 978299000]\",1,3,3,4\n"
        "3,[10],[0],[978301968],1,1,1,1\n5,\"[1, 2355]\",\"[0, 1]\",\"[-5, 978824291]\",2,2,1,3\n",
        4);
    assert_true(c.file.bytes == sizeof RATINGS - 1 && c.file.hash != 0);
}

/* Zip codes that are all numbers count as numbers; a user without a line in users.dat makes floats of Meta's columns, and is
 * left out of NVIDIA's file. */
static void test_dat_numbers_and_absent_user(void **state)
{
    set_case c;
    case_open(&c, *state, "ml-1m");
    scratch_text(c.s, "ml-1m/users.dat", "1::F::1::10::048067\n2::M::56::16::2460\n3::M::56::9::48067\n");
    scratch_text(c.s, "ml-1m/ratings.dat", "1::7::5::10\n4::8::3::11\n4::9::2::12\n2::7::1::9\n3::2::2::2\n");
    expect_files(&c, "1: 7@10000*4\n2: 7@9000\n3: 2@2000*1\n4: 8@11000*2 9@12000*1\n",
        "index,user_id,sequence_item_ids,sequence_ratings,sequence_timestamps,sex,age_group,occupation,zip_code\n"
        "0,1,7,5,10,0.0,0.0,1.0,1.0\n1,2,7,1,9,1.0,1.0,2.0,0.0\n2,3,2,2,2,1.0,1.0,0.0,1.0\n"
        "3,4,\"8,9\",\"3,2\",\"11,12\",,,,\n",
        "user_id,movie_id,rating,unix_timestamp,sex,age_group,occupation,zip_code\n"
        "1,[7],[4],[10],1,1,1,1\n2,[7],[0],[9],2,2,2,2\n3,[2],[1],[2],2,2,3,1\n",
        3);
}

static void test_csv(void **state)
{
    set_case c;
    case_open(&c, *state, "ml-20m");
    scratch_text(c.s, "ml-20m/ratings.csv",
        "userId,movieId,rating,timestamp\n7,2,3.5,1112486027\n7,29,0.5,1112484676\n7,32,5.0,1112484676\n1,3,4.0,1\n"
        "7,2,3.5,1112486027\n");
    expect_files(&c, "1: 3@1000*7\n7: 29@1112484676000 32@1112484676000*9 2@1112486027000*6 2@1112486027000*6d\n",
        "index,user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n0,1,3,4.0,1\n"
        "1,7,\"29,32,2,2\",\"0.5,5.0,3.5,3.5\",\"1112484676,1112484676,1112486027,1112486027\"\n",
        "user_id,movie_id,rating,unix_timestamp\n1,[3],[7],[1]\n"
        "7,\"[29, 32, 2, 2]\",\"[0, 9, 6, 6]\",\"[1112484676, 1112484676, 1112486027, 1112486027]\"\n",
        2);
    /* Columns in another order, packed; ratings that are all whole are integers to pandas. */
    static const char whole[] = "movieId,timestamp,userId,rating,note\r\n3,5,1,4,\"a,b\"\r\n4,4,1,5,";
    assert_int_equal(unlink(scratch_path(c.s, "ml-20m/ratings.csv")), 0);
    scratch_gzip(c.s, "ml-20m/ratings.csv.gz", "wb", whole, sizeof whole - 1);
    expect_files(&c, "1: 4@4000*9 3@5000*7\n",
        "index,user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n0,1,\"4,3\",\"5,4\",\"4,5\"\n",
        "user_id,movie_id,rating,unix_timestamp\n1,\"[4, 3]\",\"[9, 7]\",\"[4, 5]\"\n", 1);
}

/* Titles in ISO-8859-1, with quotes and commas; the order of the file. */
static void test_movies(void **state)
{
    static const int64_t expected[] = {7, 2, 3952};
    set_case c;
    hs_intlist movies = {0};
    hs_outfile *file = NULL;
    case_open(&c, *state, "ml-1m");
    scratch_text(
        c.s, "ml-1m/movies.dat", "7::Caf\xe9, \"Le\" (1995)::Drama|War\r\n2::a:b: c (1995)::Comedy\n3952::,\"::Drama");
    assert_int_equal(
        hs_movielens_read_movies(&movies, c.set, scratch_path(c.s, "ml-1m/movies.dat"), &c.file, NULL, &c.err),
        HSTU_OK);
    assert_int_equal(movies.n, 3);
    assert_memory_equal(movies.value, expected, sizeof expected);
    assert_int_equal(hs_candidates_write(&file, scratch_path(c.s, "candidates.txt"), &movies, &c.err), HSTU_OK);
    assert_int_equal(hs_outfile_commit(file, &c.err), HSTU_OK);
    assert_file(c.s, "candidates.txt", "7\n2\n3952\n");
    hs_intlist_free(&movies);
    case_open(&c, c.s, "ml-20m");
    scratch_text(c.s, "ml-20m/movies.csv",
        "movieId,title,genres\n7,\"Caf\xc3\xa9, \"\"Le\"\" (1995)\",Drama|War\n2,Jumanji (1995),(no genres listed)\n");
    assert_int_equal(
        hs_movielens_read_movies(&movies, c.set, scratch_path(c.s, "ml-20m/movies.csv"), &c.file, NULL, &c.err),
        HSTU_OK);
    assert_int_equal(movies.n, 2);
    assert_memory_equal(movies.value, expected, 2 * sizeof *expected);
    hs_intlist_free(&movies);
    scratch_text(c.s, "ml-20m/movies.csv", "movieId,title,genres\n7,a,b\n-2,a,b\n");
    assert_int_equal(
        hs_movielens_read_movies(&movies, c.set, scratch_path(c.s, "ml-20m/movies.csv"), &c.file, NULL, &c.err),
        HSTU_EFORMAT);
    assert_non_null(strstr(c.err.msg, "movies.csv', line 3, column 1 (movieId): expected an integer from 1 to"));
    assert_true(movies.n == 0 && !movies.value);
}

static void test_features(void **state)
{
    static const int64_t ids[] = {1, 2, 4, 9};
    static const int64_t sex[] = {2, 1, 0, 1}, zip[] = {2, 4, 0, 2};
    set_case c;
    hs_features features = {0};
    case_open(&c, *state, "ml-1m");
    scratch_text(c.s, "ml-1m/users.dat", USERS);
    assert_int_equal(hs_mlusers_read(&c.users, scratch_path(c.s, "ml-1m/users.dat"), NULL, &c.err), HSTU_OK);
    assert_int_equal(hs_mlusers_features(&features, &c.users, ids, 4, &c.err), HSTU_OK);
    hs_mlusers_free(&c.users); /* the features do not lean on them */
    assert_int_equal(features.n_users_without, 1);
    for (size_t f = 0; f < HS_FEATURES_KUAIRAND; f++)
        assert_null(features.code[f]);
    assert_string_equal(hs_feature_name[HS_FEATURES_KUAIRAND], "sex");
    assert_memory_equal(features.code[HS_FEATURES_KUAIRAND], sex, sizeof sex);
    assert_string_equal(hs_feature_name[HS_FEATURES_KUAIRAND + 3], "zip_code");
    assert_memory_equal(features.code[HS_FEATURES_KUAIRAND + 3], zip, sizeof zip);
    assert_int_equal(features.n_values[HS_FEATURES_KUAIRAND + 3], 4);
    assert_string_equal(features.value[HS_FEATURES_KUAIRAND + 3][2], "02460");
    hs_features_free(&features);
}

/* ---- What is refused -------------------------------------------------------------------------------------------- */

static void test_absent_files(void **state)
{
    set_case c;
    hs_warnings warnings = {0};
    case_open(&c, *state, "ml-1m");
    assert_int_equal(case_read(&c), HSTU_ENOENT);
    assert_non_null(strstr(c.err.msg, "/ml-1m/ratings.dat' does not exist: extract ml-1m there"));
    scratch_text(c.s, "ml-1m/ratings.dat", RATINGS);
    assert_int_equal(case_read(&c), HSTU_ENOENT);
    assert_non_null(strstr(c.err.msg, "/ml-1m/users.dat' does not exist"));
    scratch_text(c.s, "ml-1m/users.dat", USERS);
    assert_int_equal(hs_movielens_files_find(&c.files, c.set, c.s->folder, &warnings, &c.err), HSTU_OK);
    assert_int_equal(cJSON_GetArraySize(warnings.list), 1);
    assert_string_equal(cJSON_GetArrayItem(warnings.list, 0)->valuestring,
        "movies.dat of ml-1m is missing, so candidates.txt is not written");
    assert_string_equal(c.files.movies.text, "");
    hs_warnings_free(&warnings);
}

static void expect_refusal(set_case *c, const char *file, const char *text, const char *sentence)
{
    char expected[1024];
    scratch_text(c->s, file, text);
    (void)snprintf(expected, sizeof expected, "'%s%s", scratch_path(c->s, ""), file);
    if (case_read(c) != HSTU_EFORMAT || !strstr(c->err.msg, expected) || !strstr(c->err.msg, sentence))
        fail_msg("status %d: %s\nexpected: %s", (int)c->err.code, c->err.msg, sentence);
    case_close(c);
}

static void test_bad_dat(void **state)
{
    static const char *const cases[][2] = {{"1,2,3,4\n", "line 1: expected 4 fields with '::' between them, found 1"},
        {"1::2::3\n", "line 1: expected 4 fields with '::' between them, found 3"},
        {"1::2::3::4\n1::2::3::4::5\n", "line 2: expected 4 fields with '::' between them, found 5"},
        {"1::2::3::4\n\n", "line 2: the line is empty"},
        {"1::2::3::4\n1::-2::3::4\n", "line 2, field 2 (movie_id): expected an integer from 1 to 922"},
        {"0::2::3::4\n", "line 1, field 1 (user_id): expected an integer from 1 to 922"},
        {"1::2::6::4\n", "line 1, field 3 (rating): expected an integer from 1 to 5, found '6'"},
        {"1::2::0::4\n", "found '0'"}, {"1::2::3.5::4\n", "found '3.5'"}, {"1::2::nan::4\n", "found 'nan'"},
        {"1::2::::4\n", "field 3 (rating): expected an integer from 1 to 5, found ''"},
        {"1::2::3:::4\n", "field 4 (unix_timestamp): expected an integer from -9223372036854775 to 9223372036854775, "
                          "found ':4'"},
        {"1::2::3::9223372036854776\n", "found '9223372036854776'"},
        {"1::99999999999999999999999999999999999999999::3::4\n", "found '9999999999999999999999999999999999999999'..."},
        {"1::9223372036854775807::3::4\n", "field 2 (movie_id)"}, {"1::2::3::4 \n", "found '4 '"},
        {"user_id::movie_id::rating::timestamp\n", "field 1 (user_id): expected an integer"}};
    set_case c;
    case_open(&c, *state, "ml-1m");
    scratch_text(c.s, "ml-1m/users.dat", USERS);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(&c, "ml-1m/ratings.dat", cases[i][0], cases[i][1]);
    char *text = malloc(HS_DATFILE_ROW_BYTES + 1);
    assert_non_null(text);
    memset(text, '1', HS_DATFILE_ROW_BYTES);
    text[HS_DATFILE_ROW_BYTES] = '\0';
    expect_refusal(&c, "ml-1m/ratings.dat", text, "line 1: the line is longer than 65536 bytes");
    free(text);
}

static void test_bad_users(void **state)
{
    static const char *const cases[][2] = {
        {"1::F::1::10\n", "line 1: expected 5 fields with '::' between them, found 4"},
        {"1::F::1::10::48067\n-1::F::1::10::48067\n", "line 2, field 1 (user_id): expected an integer from 0"},
        {"1::F::::10::48067\n", "line 1, field 3 (age_group): the field is empty"},
        {"1::F::1::10::1\n2::F::1::10::1\n1::M::1::10::1\n",
            "line 3: the user 1 stands there a second time, after line 1"}};
    set_case c;
    case_open(&c, *state, "ml-1m");
    scratch_text(c.s, "ml-1m/ratings.dat", RATINGS);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(&c, "ml-1m/users.dat", cases[i][0], cases[i][1]);
}

/* Both files are held in memory, so they have limits. */
static void test_too_many(void **state)
{
    enum { MAX_LINE = 32 };
    const size_t room = (size_t)(HS_ML_MAX_ROWS + 1) * MAX_LINE;
    set_case c;
    hs_intlist movies = {0};
    size_t n = 0;
    char *text = malloc(room);
    assert_non_null(text);
    case_open(&c, *state, "ml-1m");
    for (int i = 1; i <= HS_ML_MAX_ROWS + 1; i++)
        n += (size_t)snprintf(text + n, MAX_LINE, "%d::a::b\n", i);
    scratch_write(c.s, "ml-1m/movies.dat", text, n);
    assert_int_equal(
        hs_movielens_read_movies(&movies, c.set, scratch_path(c.s, "ml-1m/movies.dat"), &c.file, NULL, &c.err),
        HSTU_EFORMAT);
    assert_non_null(strstr(c.err.msg, "line 1048577, field 1 (movie_id): there are more than 1048576 movies"));
    n = 0;
    for (int i = 1; i <= HS_ML_MAX_ROWS + 1; i++)
        n += (size_t)snprintf(text + n, MAX_LINE, "%d::F::1::1::%d\n", i, i % (HS_ML_MAX_VALUES + (i > 70000)));
    scratch_write(c.s, "ml-1m/users.dat", text, n);
    assert_int_equal(hs_mlusers_read(&c.users, scratch_path(c.s, "ml-1m/users.dat"), NULL, &c.err), HSTU_EFORMAT);
    assert_non_null(strstr(c.err.msg, "field 5 (zip_code): there are more than 65536 different values"));
    n = 0;
    for (int i = 1; i <= HS_ML_MAX_ROWS + 1; i++)
        n += (size_t)snprintf(text + n, MAX_LINE, "%d::F::1::1::5\n", i);
    scratch_write(c.s, "ml-1m/users.dat", text, n);
    assert_int_equal(hs_mlusers_read(&c.users, scratch_path(c.s, "ml-1m/users.dat"), NULL, &c.err), HSTU_EFORMAT);
    assert_non_null(strstr(c.err.msg, "line 1048577, field 1 (user_id): there are more than 1048576 users"));
    free(text);
}

static void test_bad_csv(void **state)
{
#define HEADER "userId,movieId,rating,timestamp\n"
    static const char *const cases[][2] = {{"userId,movieId,timestamp\n1,2,3\n", "the column 'rating' is missing"},
        {HEADER "1::2::3::4\n", "line 2: expected 4 fields, found 1"},
        {HEADER "1,2,0,4\n", "line 2, column 3 (rating): expected a rating of 0.5, 1.0, ... or 5.0, found '0'"},
        {HEADER "1,2,5.5,4\n", "found '5.5'"}, {HEADER "1,2,3.7,4\n", "found '3.7'"},
        {HEADER "1,2,3.,4\n", "found '3.'"}, {HEADER "1,2,NaN,4\n", "found 'NaN'"}, {HEADER "1,2,,4\n", "found ''"},
        {HEADER "1,2,3.55,4\n", "found '3.55'"}, {HEADER "1,2,-0.5,4\n", "found '-0.5'"},
        {HEADER "1,2,.5,4\n", "found '.5'"}, {HEADER "1,2,0.50x,4\n", "found '0.50x'"},
        {HEADER "1,2,1e0,4\n", "found '1e0'"}, {HEADER "1,2.0,3,4\n", "column 2 (movieId): expected an integer, found"},
        {HEADER "-1,2,3,4\n", "column 1 (userId): expected an integer from 1 to"},
        {HEADER "1,2,3,2022-04-25\n", "column 4 (timestamp): expected an integer, found '2022-04-25'"}};
    set_case c;
    case_open(&c, *state, "ml-20m");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(&c, "ml-20m/ratings.csv", cases[i][0], cases[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test_setup_teardown(test_dat, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_dat_numbers_and_absent_user, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_csv, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_movies, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_features, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_absent_files, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bad_dat, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bad_users, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_too_many, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bad_csv, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
