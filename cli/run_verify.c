/* Comparing answers with the cache and without. */
#include "cli/run_verify.h"

#include <stdio.h>
#include <string.h>

static int64_t begins(const hs_answer_part *part, size_t user)
{
    return (part->offset ? part->offset[user] : (int64_t)user) * part->per;
}

static bool same_bits(const hs_answer_part *part, int64_t i)
{
    if (part->real[0])
        return memcmp(part->real[0] + i, part->real[1] + i, sizeof *part->real[0]) == 0;
    return part->whole[0][i] == part->whole[1][i];
}

static bool user_differs(const hs_answer_part *part, size_t user, hs_difference *out)
{
    const int64_t from = begins(part, user), to = begins(part, user + 1);
    for (int64_t i = from; i < to; i++) {
        if (!same_bits(part, i)) {
            *out = (hs_difference){.part = part, .user = user, .place = i - from};
            return true;
        }
    }
    return false;
}

bool hs_answers_differ(const hs_answer_part *part, size_t n_parts, size_t n_users, hs_difference *out)
{
    for (size_t user = 0; user < n_users; user++) {
        for (size_t p = 0; p < n_parts; p++) {
            if (user_differs(&part[p], user, out))
                return true;
        }
    }
    return false;
}

static void describe_value(const hs_answer_part *part, int which, int64_t i, char *text, size_t size)
{
    if (!part->real[which]) {
        (void)snprintf(text, size, "%lld", (long long)part->whole[which][i]);
        return;
    }
    uint32_t bits = 0;
    memcpy(&bits, part->real[which] + i, sizeof bits);
    (void)snprintf(text, size, "%.9g (0x%08lx)", (double)part->real[which][i], (unsigned long)bits);
}

void hs_difference_describe(const hs_difference *difference, char *text, size_t size)
{
    const hs_answer_part *part = difference->part;
    const int64_t i = begins(part, difference->user) + difference->place;
    char with[48], without[48];
    describe_value(part, 0, i, with, sizeof with);
    describe_value(part, 1, i, without, sizeof without);
    (void)snprintf(text, size, "%s %lld is %s with the cache and %s without", part->name, (long long)difference->place,
        with, without);
}
