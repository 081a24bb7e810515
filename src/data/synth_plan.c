/* Who has how many events, which items are popular, and tables of text: no number here comes out of a mathematical library,
 * so that the plan is the same on every machine. */
#include "base/alloc.h"
#include "base/error.h"
#include "data/synth.h"
#include "data/synth_random.h"

#include <stdio.h>

/* Events of a user as multiples of the mean, from the percentiles that are published of KuaiRand-27K: more steps towards the end,
 * where few users have most of the events. */
static const struct {
    double share, activity;
} activity_knot[] = {{0, 0.0085}, {0.01, 0.113}, {0.05, 0.195}, {0.1, 0.261}, {0.25, 0.424}, {0.5, 0.728},
    {0.75, 1.289}, {0.9, 2.082}, {0.95, 2.759}, {0.99, 4.761}, {0.999, 8.9}, {1, 19.3}};

static double activity(double share)
{
    size_t i = 1;
    while (share > activity_knot[i].share)
        i++;
    const double from = activity_knot[i - 1].share, to = activity_knot[i].share;
    const double low = activity_knot[i - 1].activity, high = activity_knot[i].activity;
    return low + (high - low) * ((share - from) / (to - from));
}

static double user_activity(uint64_t seed, int64_t user, uint32_t *spare)
{
    uint32_t bits[4];
    hs_random_block(bits, seed, HS_SYNTH_STREAM_USER, (uint64_t)user);
    *spare = bits[1];
    return activity((double)bits[0] / 4294967296.0);
}

/* Every user has an event; the others are shared by activity. One user of 64 was away in the first period. */
static void share_events(hs_synth_plan *plan)
{
    double total = 0, sum = 0;
    uint32_t spare;
    for (int64_t u = 0; u < plan->users; u++)
        total += user_activity(plan->seed, u, &spare);
    const double rest = (double)(plan->events - plan->users);
    plan->offset[0] = 0;
    for (int64_t u = 0; u < plan->users; u++) {
        sum += user_activity(plan->seed, u, &spare);
        const bool last = u + 1 == plan->users;
        plan->offset[u + 1] = last ? plan->events : u + 1 + (int64_t)(rest * (sum / total));
        const uint64_t n = (uint64_t)(plan->offset[u + 1] - plan->offset[u]);
        /* A user's own share: the set's, times 0.7 to 1.3, so that it is no constant; never all. */
        const uint64_t share = (uint64_t)plan->shape->first_share * (45875 + (spare >> 8 & 65535) * 6 / 10) >> 16;
        const uint64_t events = n * (share < 64000 ? share : 64000) >> 16;
        plan->first[u] = (spare & 63) == 0 ? 0 : (int64_t)(n > 1 && events == 0 ? 1 : events);
    }
}

static double power_of(double x, int n)
{
    double out = 1;
    for (; n; n--)
        out *= x;
    return out;
}

static void rank_items(hs_synth_plan *plan)
{
    const hs_synth_shape *shape = plan->shape;
    for (int i = 0; i <= HS_SYNTH_ITEM_STEPS; i++) {
        const double u = (double)i / HS_SYNTH_ITEM_STEPS;
        double share = 0;
        for (int k = 0; k < 4; k++)
            share += shape->popularity[k] * power_of(u, shape->power[k]);
        plan->rank[i] = (uint64_t)(share * (double)plan->items * 256);
    }
    plan->rank[HS_SYNTH_ITEM_STEPS] = (uint64_t)plan->items << 8;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        const uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Ranks are scattered over the ids: the step is near the golden section, and has no divisor in common with the items. */
static void scatter_items(hs_synth_plan *plan)
{
    const uint64_t n = (uint64_t)plan->items;
    plan->item_step = n * 618034 / 1000000 | 1;
    while (common_divisor(plan->item_step, n) != 1)
        plan->item_step += 2;
    plan->item_shift = hs_synth_mix(plan->seed) % n;
}

static void write_texts(hs_synth_plan *plan)
{
    for (int h = 0; h < HS_SYNTH_HOURS; h++) {
        const int day = h / 24, april = day + 8; /* 8 April 2022 is day 0 */
        const int date = april <= 30 ? 20220400 + april : 20220500 + april - 30;
        plan->hour_bytes[h] = (uint8_t)snprintf(plan->hour[h], sizeof plan->hour[h], "%d,%d,", date, h % 24 * 100);
    }
    for (int mask = 0; mask < 256; mask++) {
        for (int bit = 0; bit < 7; bit++) {
            plan->flags[mask][2 * bit] = (char)('0' + (mask >> bit & 1));
            plan->flags[mask][2 * bit + 1] = ',';
        }
    }
    for (int h = 0; h < 24; h++)
        plan->day_units += hs_synth_hour[h];
}

/* 5,460 of 228,329 rows of KuaiRand-Pure repeat the row before. A row whose item must appear does not, so the others do
 * the more often. */
static uint32_t duplicate_share(const hs_synth_plan *plan)
{
    const double kept = plan->items < plan->events ? 1 - (double)plan->items / (double)plan->events : 1;
    const double share = 1567 / (kept > 0.05 ? kept : 0.05);
    return share > 32768 ? 32768 : (uint32_t)share;
}

hstu_status hs_synth_plan_init(hs_synth_plan *plan, const hs_synth_shape *shape, int64_t users, int64_t items,
    int64_t events, uint64_t seed, hstu_error *err)
{
    *plan = (hs_synth_plan){.shape = shape, .users = users, .items = items, .events = events, .seed = seed};
    plan->offset = hs_alloc((size_t)users + 1, sizeof *plan->offset);
    plan->first = hs_alloc((size_t)users, sizeof *plan->first);
    if (!plan->offset || !plan->first) {
        hs_synth_plan_free(plan);
        return hs_fail_nomem(err, (size_t)users * sizeof *plan->offset, "the users");
    }
    share_events(plan);
    rank_items(plan);
    scatter_items(plan);
    write_texts(plan);
    plan->duplicate = duplicate_share(plan);
    return HSTU_OK;
}

void hs_synth_plan_free(hs_synth_plan *plan)
{
    hs_free(plan->offset);
    hs_free(plan->first);
    plan->offset = plan->first = NULL;
}

int64_t hs_synth_period_events(const hs_synth_plan *plan, int period, int64_t user)
{
    return period == 0 ? plan->first[user] : plan->offset[user + 1] - plan->offset[user] - plan->first[user];
}
