/* The NPU of a run. */
#include "cli/run_npu.h"

#include "base/clock.h"
#include "base/error.h"
#include "cli/run_assemble.h"
#include "cli/run_options.h"

#include <math.h>
#include <string.h>

/* ---- options ---------------------------------------------------------------------------------------------------- */

static bool is_npu(const hs_option_value *value)
{
    const char *device = value[HS_RUN_DEVICE].text;
    return strcmp(device, "npu") == 0 || strncmp(device, "npu:", 4) == 0 || strcmp(device, "ort-cpu") == 0;
}

static size_t key_length(const char *option)
{
    return strcspn(option, "=");
}

static hstu_status check_provider_options(const hs_option_value *value, hstu_error *err)
{
    for (size_t i = 0; i < value->n_list; i++) {
        const char *text = value->texts[i];
        const size_t n = key_length(text);
        if (n == 0 || text[n] == '\0')
            return hs_fail(err, HSTU_EINVAL, 0, "option --npu_option wants KEY=VALUE, found '%.80s'", text);
        for (size_t j = 0; j < i; j++) {
            if (key_length(value->texts[j]) == n && strncmp(value->texts[j], text, n) == 0)
                return hs_fail(err, HSTU_EINVAL, 0, "option --npu_option names '%.*s' twice: give it once",
                    n < 80 ? (int)n : 80, text);
        }
    }
    return HSTU_OK;
}

hstu_status hs_run_npu_check_usage(const hs_option_value *value, hstu_error *err)
{
    static const int of_npu[] = {HS_RUN_ORT_LIBRARY, HS_RUN_ORT_PROVIDER_LIBRARY, HS_RUN_NPU_OPTION, HS_RUN_NPU_GRAPHS,
        HS_RUN_NPU_ROUTE, HS_RUN_NPU_WARMUP, HS_RUN_NPU_SELFTEST};
    for (size_t i = 0; i < sizeof of_npu / sizeof *of_npu && !is_npu(value); i++) {
        if (value[of_npu[i]].given)
            return hs_fail(err, HSTU_EINVAL, 0,
                "option --%s means nothing with --device %.60s: name an NPU with --device npu, or leave it out",
                hs_run_options[of_npu[i]].name, value[HS_RUN_DEVICE].text);
    }
    if (is_npu(value) && value[HS_RUN_VERIFY_CACHE].given)
        return hs_fail(err, HSTU_EINVAL, 0,
            "options --verify_cache and --device %.60s exclude each other: answers are compared bit by bit, and only "
            "the device cpu has the same bits with a cache and without",
            value[HS_RUN_DEVICE].text);
    return check_provider_options(&value[HS_RUN_NPU_OPTION], err);
}

void hs_run_npu_ask(hs_run *run, const hs_option_value *value)
{
    hs_run_npu *npu = &run->npu;
    const hs_option_value *option = &value[HS_RUN_NPU_OPTION];
    npu->on = is_npu(value);
    hstu_npu_options_init(&npu->options);
    npu->options.ort_library = value[HS_RUN_ORT_LIBRARY].text;
    npu->options.provider_library = value[HS_RUN_ORT_PROVIDER_LIBRARY].text;
    npu->options.option = option->texts;
    npu->options.n_options = option->n_list;
    npu->options.max_graphs = value[HS_RUN_NPU_GRAPHS].number;
    npu->options.as_onnx = value[HS_RUN_NPU_ROUTE].number == HS_RUN_ROUTE_ONNX;
    npu->warm_up = value[HS_RUN_NPU_WARMUP].given;
    npu->selftest = (int)value[HS_RUN_NPU_SELFTEST].number;
    npu->selftest_result = "off";
    npu->tested.largest_error = npu->tested.allowed = npu->warmup_s = (double)NAN;
}

/* ---- before the work -------------------------------------------------------------------------------------------- */

/* A device that was right once with this model, provider and versions is believed, unless a test is asked for. */
static hstu_status self_test(hs_run *run, hstu_error *err)
{
    hs_run_npu *npu = &run->npu;
    if (npu->selftest == HS_RUN_SELFTEST_OFF)
        return HSTU_OK;
    if (npu->selftest == HS_RUN_SELFTEST_AUTO && hstu_self_test_is_known(run->model)) {
        npu->selftest_result = "known";
        return HSTU_OK;
    }
    hs_console_step(&run->console, "testing the device", 0, 1);
    HS_TRY(hstu_self_test_run(run->model, run->checkpoint, &run->model_options, &npu->tested, err));
    npu->selftest_result = "passed";
    hstu_self_test_remember(run->model);
    return HSTU_OK;
}

/* Candidates of a user that are scored at once, as far as a run can tell before it has seen any. */
static int64_t most_candidates(const hs_run *run)
{
    const int64_t group = run->micro_batch ? run->micro_batch : 256; /* the library's default */
    if (!run->ranking)
        return 0;
    return run->replay || run->requests_path ? group : hs_min_int(run->rules.max_candidates, group);
}

static hstu_status warm_up(hs_run *run, hstu_error *err)
{
    const double start = hs_clock_s();
    hs_console_step(&run->console, "compiling graphs", 0, 1);
    HS_TRY(hstu_session_warm_up(run->session, run->window, most_candidates(run), run->cache.on, err));
    run->npu.warmup_s = hs_clock_s() - start;
    return HSTU_OK;
}

hstu_status hs_run_npu_prepare(hs_run *run, hstu_error *err)
{
    if (!run->npu.on)
        return HSTU_OK;
    HS_TRY(self_test(run, err));
    return run->npu.warm_up ? warm_up(run, err) : HSTU_OK;
}

/* ---- around the answers ----------------------------------------------------------------------------------------- */

hstu_status hs_run_npu_compiled(const hs_run *run, double *compile_s, hstu_error *err)
{
    hstu_npu_stats stats = {0};
    if (run->npu.on)
        HS_TRY(hstu_session_get_npu_stats(run->session, &stats, err));
    *compile_s = stats.compile_s;
    return HSTU_OK;
}

hstu_status hs_run_npu_begin(hs_run *run, hstu_error *err)
{
    if (!run->npu.on)
        return HSTU_OK;
    run->npu.n_requests = 0;
    hstu_session_reset_npu_stats(run->session);
    return hs_run_npu_compiled(run, &run->npu.compiled_before_s, err);
}

void hs_run_npu_note(hs_run *run, size_t n_users)
{
    run->npu.n_requests += (int64_t)n_users;
}

hstu_status hs_run_npu_end(hs_run *run, hstu_error *err)
{
    return run->npu.on ? hstu_session_get_npu_stats(run->session, &run->npu.stats, err) : HSTU_OK;
}
