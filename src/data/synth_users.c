/* Rows of user_features_<set>.csv: the real columns, with values and shares as KuaiRand-Pure has them. */
#include "data/synth.h"
#include "data/synth_random.h"

#include <stdio.h>

const char hs_synth_users_header[] =
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
    "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,"
    "register_days_range,onehot_feat0,onehot_feat1,onehot_feat2,onehot_feat3,onehot_feat4,onehot_feat5,onehot_feat6,"
    "onehot_feat7,onehot_feat8,onehot_feat9,onehot_feat10,onehot_feat11,onehot_feat12,onehot_feat13,onehot_feat14,"
    "onehot_feat15,onehot_feat16,onehot_feat17\n";

/* A range of numbers, its text as it stands in the file, and how many of 27,285 users it has. */
typedef struct number_range {
    const char *text;
    uint32_t low, high, users;
} number_range;

enum { N_USERS = 27285 };

static const number_range degree[] = {{"full_active", 0, 0, 17959}, {"high_active", 0, 0, 6158},
    {"middle_active", 0, 0, 2133}, {"2_14_day_new", 0, 0, 635}, {"low_active", 0, 0, 300},
    {"single_low_active", 0, 0, 68}, {"30day_retention", 0, 0, 15}, {"day_new", 0, 0, 11}, {"UNKNOWN", 0, 0, 6}};
static const number_range follow[] = {{"500+", 501, 3000, 5950}, {"\"(10,50]\"", 11, 50, 4904},
    {"\"(250,500]\"", 251, 500, 4377}, {"\"(50,100]\"", 51, 100, 4004}, {"\"(150,250]\"", 151, 250, 3490},
    {"\"(100,150]\"", 101, 150, 2633}, {"\"(0,10]\"", 1, 10, 1739}, {"0", 0, 0, 188}};
static const number_range fans[] = {{"\"[10,100)\"", 10, 99, 10467}, {"\"[100,1k)\"", 100, 999, 8664},
    {"\"[1,10)\"", 1, 9, 5326}, {"\"[1k,5k)\"", 1000, 4999, 1460}, {"0", 0, 0, 1157}, {"\"[5k,1w)\"", 5000, 9999, 112},
    {"\"[1w,10w)\"", 10000, 99999, 85}, {"\"[10w,100w)\"", 100000, 999999, 12},
    {"\"[100w,1000w)\"", 1000000, 9999999, 2}};
static const number_range friends[] = {{"\"[5,30)\"", 5, 29, 7595}, {"\"[1,5)\"", 1, 4, 5270}, {"0", 0, 0, 3375},
    {"250+", 250, 1500, 3172}, {"\"[30,60)\"", 30, 59, 2852}, {"\"[60,120)\"", 60, 119, 2749},
    {"\"[120,250)\"", 120, 249, 2272}};
static const number_range registered[] = {{"730+", 731, 4000, 20063}, {"366-730", 366, 730, 3475},
    {"181-365", 181, 365, 1778}, {"91-180", 91, 180, 1048}, {"61-90", 61, 90, 394}, {"31-60", 31, 60, 381},
    {"15-30", 15, 30, 145}, {"8-14", 8, 14, 1}};

/* Values of onehot_feat0 to 11 but 4, which is written with a decimal and may be absent. */
static const uint16_t onehot_values[12] = {2, 7, 50, 1471, 15, 34, 3, 118, 454, 7, 5, 5};
/* Users with 1.0 in onehot_feat12 to 17, of 27,285. */
static const uint16_t onehot_users[6] = {19234, 1812, 3165, 603, 1073, 385};
enum { FEAT4_ABSENT = 874, LAST_ABSENT = 714 };

static const number_range *draw_range(hs_synth_random *random, const number_range *range)
{
    uint64_t user = hs_synth_below(random, N_USERS);
    for (; user >= range->users; range++)
        user -= range->users;
    return range;
}

static size_t put_number(char *out, size_t n, hs_synth_random *random, const number_range *ranges)
{
    const number_range *range = draw_range(random, ranges);
    const uint64_t number = range->low + hs_synth_below(random, range->high - range->low + 1);
    return n + (size_t)snprintf(out + n, HS_SYNTH_USER_BYTES - n, ",%u,%s", (unsigned)number, range->text);
}

static size_t put_onehots(char *out, size_t n, hs_synth_random *random)
{
    for (int i = 0; i < 12; i++) {
        const unsigned value = (unsigned)hs_synth_below(random, onehot_values[i]);
        const bool absent = i == 4 && hs_synth_below(random, N_USERS) < FEAT4_ABSENT;
        n += (size_t)snprintf(out + n, HS_SYNTH_USER_BYTES - n, absent ? "," : i == 4 ? ",%u.0" : ",%u", value);
    }
    const bool absent = hs_synth_below(random, N_USERS) < LAST_ABSENT;
    for (int i = 0; i < 6; i++) {
        const bool set = hs_synth_below(random, N_USERS) < onehot_users[i];
        n += (size_t)snprintf(out + n, HS_SYNTH_USER_BYTES - n, "%s", absent ? "," : set ? ",1.0" : ",0.0");
    }
    return n;
}

size_t hs_synth_user_row(char *out, uint64_t seed, int64_t user)
{
    hs_synth_random random = hs_synth_random_of(seed, HS_SYNTH_STREAM_FEATURES, (uint64_t)user);
    const char *active = draw_range(&random, degree)->text;
    const bool streamer = hs_synth_below(&random, N_USERS) < 6158, author = hs_synth_below(&random, N_USERS) < 22276;
    size_t n = (size_t)snprintf(
        out, HS_SYNTH_USER_BYTES, "%lld,%s,0,%s,%d", (long long)user, active, streamer ? "1" : "-124", author);
    n = put_number(out, n, &random, follow);
    n = put_number(out, n, &random, fans);
    n = put_number(out, n, &random, friends);
    n = put_number(out, n, &random, registered);
    n = put_onehots(out, n, &random);
    out[n++] = '\n';
    return n;
}
