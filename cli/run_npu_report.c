/* What a run tells of its NPU. */
#include "cli/run_npu.h"
#include "cli/run_report.h"

#include <math.h>

static double timed_compile_s(const hs_run_npu *npu)
{
    return npu->stats.compile_s - npu->compiled_before_s;
}

static double copies_per_request(const hs_run_npu *npu)
{
    return npu->n_requests > 0 ? (double)npu->stats.n_copies / (double)npu->n_requests : 0;
}

static const char *route_name(const hs_run_npu *npu)
{
    return npu->options.as_onnx ? "onnx" : "editor";
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static void put_number(hs_json_writer *w, const char *key, double x)
{
    hs_json_pair_double(w, key, x, HS_REPORT_DIGITS);
}

static void put_what(hs_json_writer *w, const hs_run_npu *npu)
{
    const hstu_npu_stats *s = &npu->stats;
    hs_json_pair_text(w, "provider", s->provider);
    hs_json_pair_text(w, "provider_version", s->provider_version);
    hs_json_pair_text(w, "ort_version", s->ort_version);
    hs_json_pair_text(w, "device", s->device);
    hs_json_pair_text(w, "vendor", s->vendor);
    hs_json_pair_text(w, "kind", s->kind);
    hs_json_pair_text(w, "library", s->library);
    hs_json_pair_text(w, "provider_library", s->provider_library);
    hs_json_pair_text(w, "route", route_name(npu));
    hs_json_pair_text(w, "compute_dtype", s->compute_dtype);
    hs_json_key(w, "options");
    hs_json_begin(w, '[');
    for (size_t i = 0; i < npu->options.n_options; i++)
        hs_json_put_text(w, npu->options.option[i]);
    hs_json_end(w, ']');
}

static void put_preparation(hs_json_writer *w, const hs_run_npu *npu)
{
    const hstu_npu_stats *s = &npu->stats;
    hs_json_key(w, "selftest");
    hs_json_begin(w, '{');
    hs_json_pair_text(w, "result", npu->selftest_result);
    put_number(w, "largest_error", npu->tested.largest_error);
    put_number(w, "allowed", npu->tested.allowed);
    hs_json_end(w, '}');
    put_number(w, "warmup_s", npu->warmup_s);
    hs_json_key(w, "graphs");
    hs_json_begin(w, '{');
    hs_json_pair_int(w, "kept", s->n_graphs);
    hs_json_pair_int(w, "compiled", s->n_compiled);
    hs_json_pair_int(w, "evicted", s->n_evicted);
    hs_json_pair_int(w, "nodes", s->n_nodes);
    hs_json_end(w, '}');
    hs_json_key(w, "compile_s");
    hs_json_begin(w, '{');
    put_number(w, "total", s->compile_s);
    put_number(w, "timed", timed_compile_s(npu));
    hs_json_end(w, '}');
}

void hs_report_put_npu(hs_json_writer *w, const hs_run *run)
{
    const hs_run_npu *npu = &run->npu;
    const hstu_npu_stats *s = &npu->stats;
    if (!npu->on)
        return;
    hs_json_key(w, "npu");
    hs_json_begin(w, '{');
    put_what(w, npu);
    put_preparation(w, npu);
    hs_json_pair_int(w, "runs", s->n_runs);
    put_number(w, "run_s", s->run_s);
    hs_json_pair_int(w, "copies", s->n_copies);
    put_number(w, "copies_per_request", copies_per_request(npu));
    hs_json_pair_int(w, "bytes_in", s->bytes_in);
    hs_json_pair_int(w, "bytes_out", s->bytes_out);
    hs_json_pair_int(w, "bytes_kept", s->bytes_kept);
    hs_json_key(w, "top_k");
    hs_json_begin(w, '{');
    hs_json_pair_int(w, "device", s->n_top_k_device);
    hs_json_pair_int(w, "cpu", s->n_top_k_cpu);
    hs_json_end(w, '}');
    hs_json_end(w, '}');
}

/* ---- table ------------------------------------------------------------------------------------------------------ */

static void print_what(FILE *out, const hs_run_npu *npu)
{
    const hstu_npu_stats *s = &npu->stats;
    char text[512];
    (void)snprintf(text, sizeof text, "%s %s (%s) through %s %s in ONNX Runtime %s, in %s", s->vendor, s->kind,
        *s->device ? s->device : "no name", s->provider, s->provider_version, s->ort_version, s->compute_dtype);
    hs_console_clean(text);
    (void)fprintf(out, "  NPU         %s\n", text);
}

static void print_test(FILE *out, const hs_run_npu *npu)
{
    (void)fprintf(out, "              self-test %s", npu->selftest_result);
    if (!isnan(npu->tested.largest_error))
        (void)fprintf(out, ", largest error %.3g of %.3g", npu->tested.largest_error, npu->tested.allowed);
    if (!isnan(npu->warmup_s))
        (void)fprintf(out, "; warm-up %.1f s", npu->warmup_s);
    (void)fputc('\n', out);
}

void hs_report_print_npu(FILE *out, const hs_run *run)
{
    const hs_run_npu *npu = &run->npu;
    const hstu_npu_stats *s = &npu->stats;
    const double mib = 1024.0 * 1024.0;
    if (!npu->on)
        return;
    print_what(out, npu);
    print_test(out, npu);
    (void)fprintf(out,
        "              %lld graphs compiled in %.2f s, %.2f s of them between the answers and not in their latency; "
        "%lld kept with %lld nodes\n",
        (long long)s->n_compiled, s->compile_s, timed_compile_s(npu), (long long)s->n_graphs, (long long)s->n_nodes);
    (void)fprintf(out,
        "              %lld runs, %.2f s; %.1f copies a request, %.1f MiB in, %.1f MiB out, %.1f MiB kept; top-k: %lld "
        "on the device, %lld on the processor\n\n",
        (long long)s->n_runs, s->run_s, copies_per_request(npu), (double)s->bytes_in / mib, (double)s->bytes_out / mib,
        (double)s->bytes_kept / mib, (long long)s->n_top_k_device, (long long)s->n_top_k_cpu);
}
