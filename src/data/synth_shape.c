/* What the published sets look like. Counts of rows, users and items, and sizes of files: the data set's page (kuairand.com).
 * Actions, times and durations: measured over the rows of KuaiRand-Pure from 25 April to 8 May 2022; tabs, clicks and popularity
 * of KuaiRand-1K and 27K are rounded from figures that users of the whole set have published. */
#include "data/synth.h"

#include <string.h>

static const int32_t pure_duration[HS_SYNTH_KNOTS] = {0, 10266, 14100, 19040, 25933, 34200, 44660, 57366, 70600, 88300,
    104400, 125416, 156433, 187699, 235766, 298200, 1177720};
static const int32_t whole_duration[HS_SYNTH_KNOTS] = {
    0, 0, 5000, 8000, 10500, 13000, 17000, 22000, 28900, 38000, 50000, 63000, 82000, 112000, 160000, 220000, 600000};

static const hs_synth_share pure_tab[HS_SYNTH_TABS] = {{1, 49657}, {0, 5813}, {4, 3917}, {6, 3217}, {2, 1983}, {8, 311},
    {5, 189}, {12, 153}, {3, 100}, {11, 69}, {9, 42}, {7, 40}, {13, 22}, {10, 17}, {14, 6}};
static const uint16_t pure_click[HS_SYNTH_TABS] = {
    5616, 32368, 31491, 1311, 39059, 16633, 9739, 24695, 2726, 65091, 65535, 0, 8238, 44838, 0};

static const hs_synth_share whole_tab[HS_SYNTH_TABS] = {{1, 43910}, {0, 12999}, {4, 4984}, {2, 2023}, {6, 1072},
    {3, 195}, {8, 97}, {5, 87}, {12, 60}, {11, 40}, {9, 25}, {7, 20}, {13, 11}, {10, 8}, {14, 5}};
static const uint16_t whole_click[HS_SYNTH_TABS] = {
    7601, 29074, 27801, 1385, 35683, 15500, 11647, 24695, 2653, 65091, 65535, 0, 8238, 44838, 0};

static const hs_synth_shape pure = {.users = 27285,
    .items = 7551,
    .events = 1436609,
    .first_share = 51970,
    .session_events = 1,
    .popularity = {0.02, 0.23, 0.05, 0.70},
    .power = {1, 2, 6, 32},
    .duration = pure_duration,
    .tab = pure_tab,
    .click = pure_click};
static const hs_synth_shape medium = {.users = 1000,
    .items = 4369953,
    .events = 11713045,
    .first_share = 28406,
    .session_events = 30,
    .popularity = {0.00065, 0.1, 0, 0.89935},
    .power = {1, 2, 2, 96},
    .duration = whole_duration,
    .tab = whole_tab,
    .click = whole_click};
static const hs_synth_shape whole = {.users = 27285,
    .items = 32038725,
    .events = 322278385,
    .first_share = 27716,
    .session_events = 30,
    .popularity = {0.00065, 0.1, 0, 0.89935},
    .power = {1, 2, 2, 96},
    .duration = whole_duration,
    .tab = whole_tab,
    .click = whole_click};

const hs_synth_shape *hs_synth_shape_of(const hs_kuairand_set *set)
{
    if (strcmp(set->suffix, "pure") == 0)
        return &pure;
    return strcmp(set->suffix, "1k") == 0 ? &medium : &whole;
}

/* Not clicked; clicked but not watched for long; what a long view lasts beyond 18 seconds or the video's length. */
const int32_t hs_synth_skipped_ms[HS_SYNTH_KNOTS] = {
    0, 0, 0, 652, 1015, 1198, 1370, 1554, 1770, 2024, 2346, 2740, 3231, 3867, 4675, 5661, 18000};
const int32_t hs_synth_watched_ms[HS_SYNTH_KNOTS] = {
    0, 1231, 7041, 7433, 7863, 8322, 8819, 9388, 9997, 10684, 11471, 12305, 13203, 14194, 15284, 16589, 17999};
const int32_t hs_synth_long_ms[HS_SYNTH_KNOTS] = {
    0, 1063, 2223, 4468, 7040, 10091, 13637, 18062, 23128, 29124, 36416, 46040, 57317, 74185, 97227, 144201, 880147};
const int32_t hs_synth_comment_ms[HS_SYNTH_KNOTS] = {
    8, 1629, 2227, 2775, 3321, 3910, 4561, 5304, 6210, 7244, 8475, 10019, 11922, 14655, 19332, 28551, 300000};

const hs_synth_share hs_synth_masks[2][HS_SYNTH_MASKS] = {
    {{0, 64842}, {2, 338}, {128, 140}, {64, 111}, {32, 54}, {6, 11}, {4, 8}, {66, 7}, {16, 7}, {72, 5}, {192, 3},
        {8, 2}, {130, 2}, {132, 2}, {70, 1}, {74, 1}, {134, 1}, {48, 1}},
    {{65, 42036}, {1, 18539}, {193, 1834}, {67, 1377}, {129, 487}, {3, 419}, {73, 257}, {195, 114}, {81, 70}, {69, 45},
        {71, 42}, {131, 33}, {75, 33}, {9, 30}, {97, 27}, {197, 27}, {201, 23}, {33, 23}, {17, 19}, {5, 16}}};

const uint16_t hs_synth_hour[24] = {365, 228, 148, 94, 78, 98, 177, 266, 338, 402, 460, 515, 586, 559, 508, 524, 557,
    599, 562, 547, 565, 606, 641, 578};
