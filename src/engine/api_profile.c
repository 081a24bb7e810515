/* hstu_session_start_profile, hstu_session_get_stage: where the time of a session's calls goes. */
#include "engine/engine.h"

#include "base/error.h"

static const char *const stage_names[HS_N_STAGES] = {
#define X(slot) #slot,
    HS_STAGE_MAP(X)
#undef X
};

void hstu_session_start_profile(hstu_session *session)
{
    session->profile = (hs_profile){0};
    session->whole.dev->profile = &session->profile;
    for (size_t i = 0; i < session->n_parts; i++)
        session->part[i].dev->profile = &session->profile;
    session->profiles = true;
}

hstu_status hstu_session_get_stage(const hstu_session *session, size_t i, hstu_stage_time *stage, hstu_error *err)
{
    if (!session->profiles)
        return hs_fail(err, HSTU_EINVAL, 0, "the session has no profile: call hstu_session_start_profile first");
    if (i >= HS_N_STAGES)
        return hs_fail(err, HSTU_EINVAL, 0, "stage %zu does not exist: there are %d", i, (int)HS_N_STAGES);
    const hs_stage_time *t = &session->profile.stage[i];
    *stage = (hstu_stage_time){.stage = i == HS_STAGE_end ? "graph" : stage_names[i],
        .calls = t->calls,
        .seconds = t->seconds,
        .flop = t->flop};
    return HSTU_OK;
}

void hs_engine_part_profile(hstu_session *session)
{
    for (size_t i = 0; session->profiles && i < session->n_parts; i++) {
        hs_lane *lane = &session->part[i];
        lane->profile = (hs_profile){0};
        lane->dev->profile = &lane->profile;
    }
}

void hs_engine_join_profile(hstu_session *session)
{
    for (size_t i = 0; session->profiles && i < session->n_parts; i++) {
        hs_lane *lane = &session->part[i];
        lane->dev->profile = &session->profile;
        for (int s = 0; s < HS_N_STAGES; s++) {
            session->profile.stage[s].calls += lane->profile.stage[s].calls;
            session->profile.stage[s].seconds += lane->profile.stage[s].seconds / (double)session->n_parts;
            session->profile.stage[s].flop += lane->profile.stage[s].flop;
        }
    }
}
