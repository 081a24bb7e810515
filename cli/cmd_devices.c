/* `hstu devices`: where a model can run on this machine, and why not elsewhere. */
#include "base/dynbuf.h"
#include "base/error.h"
#include "cli/json_writer.h"
#include "cli/npu_options.h"
#include "cli/program.h"
#include "cli/progress.h"
#include "cli/result_stream.h"

#include <stdio.h>
#include <string.h>

enum { ORT_LIBRARY, ORT_PROVIDER_LIBRARY, JSON, N_OPTIONS };

static const hs_option options_of_devices[N_OPTIONS] = {
    [ORT_LIBRARY] = HS_OPTION_ORT_LIBRARY,
    [ORT_PROVIDER_LIBRARY] = HS_OPTION_ORT_PROVIDER_LIBRARY,
    [JSON] = {"json", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "print one JSON document"},
};

enum { MAX_JSON_BYTES = 1 << 22, N_COLUMNS = 5, CELL_BYTES = 128 };

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static void put_device(hs_json_writer *w, const hstu_device_info *d)
{
    hs_json_begin(w, '{');
    hs_json_pair_text(w, "name", d->name);
    hs_json_pair_text(w, "kind", d->kind);
    hs_json_pair_text(w, "vendor", d->vendor);
    hs_json_pair_text(w, "provider", d->provider);
    hs_json_pair_text(w, "version", d->version);
    hs_json_pair_text(w, "device", d->device);
    hs_json_pair_text(w, "library", d->library);
    hs_json_pair_bool(w, "virtual", d->is_virtual != 0);
    hs_json_pair_bool(w, "usable", d->usable != 0);
    hs_json_pair_text(w, "why_not", d->usable ? NULL : d->why);
    hs_json_end(w, '}');
}

static hstu_status print_json(const hstu_devices *devices, hstu_error *err)
{
    hs_dynbuf out;
    hs_json_writer w;
    hstu_device_info d;
    hstu_status status = HSTU_OK;
    hs_dynbuf_init(&out, MAX_JSON_BYTES);
    hs_json_writer_init(&w, &out, 2);
    hs_json_begin(&w, '{');
    hs_json_key(&w, "devices");
    hs_json_begin(&w, '[');
    for (size_t i = 0; i < hstu_devices_count(devices) && status == HSTU_OK; i++) {
        status = hstu_devices_get(devices, i, &d, err);
        if (status == HSTU_OK)
            put_device(&w, &d);
    }
    hs_json_end(&w, ']');
    hs_json_end(&w, '}');
    if (status == HSTU_OK && (w.failed || !hs_dynbuf_append_text(&out, "\n")))
        status = hs_fail_nomem(err, MAX_JSON_BYTES, "the list of devices");
    if (status == HSTU_OK)
        (void)fwrite(out.data, 1, out.len, hs_result_stream()); /* checked when the program ends */
    hs_dynbuf_free(&out);
    return status;
}

/* ---- table ------------------------------------------------------------------------------------------------------ */

/* What stands in column `column`, or its title without a device. Names come out of libraries. */
static void cell(const hstu_device_info *d, int column, char text[CELL_BYTES])
{
    static const char *const title[N_COLUMNS] = {"device", "kind", "vendor", "provider", "version"};
    const char *const all[N_COLUMNS] = {
        d ? d->name : NULL, d ? d->kind : NULL, d ? d->vendor : NULL, d ? d->provider : NULL, d ? d->version : NULL};
    (void)snprintf(text, CELL_BYTES, "%s", !d ? title[column] : *all[column] ? all[column] : "-");
    hs_console_clean(text);
}

static void print_row(const hstu_device_info *d, const int width[N_COLUMNS])
{
    char text[CELL_BYTES], why[512];
    for (int column = 0; column < N_COLUMNS; column++) {
        cell(d, column, text);
        (void)fprintf(hs_result_stream(), "%-*s  ", width[column], text);
    }
    if (!d || !d->usable) {
        (void)fputs(d ? "no\n" : "usable\n", hs_result_stream());
    } else {
        (void)snprintf(text, sizeof text, "%s%s", *d->device ? ", " : "", d->device);
        hs_console_clean(text);
        (void)fprintf(hs_result_stream(), "yes%s\n", text);
    }
    if (!d || d->usable)
        return;
    (void)snprintf(why, sizeof why, "%s", d->why);
    hs_console_clean(why);
    (void)fprintf(hs_result_stream(), "    %s\n", why);
}

static hstu_status print_table(const hstu_devices *devices, hstu_error *err)
{
    const size_t n = hstu_devices_count(devices);
    int width[N_COLUMNS];
    char text[CELL_BYTES];
    hstu_device_info d;
    for (int column = 0; column < N_COLUMNS; column++) {
        cell(NULL, column, text);
        width[column] = (int)strlen(text);
    }
    for (size_t i = 0; i < n; i++) {
        HS_TRY(hstu_devices_get(devices, i, &d, err));
        for (int column = 0; column < N_COLUMNS; column++) {
            cell(&d, column, text);
            width[column] = (int)strlen(text) > width[column] ? (int)strlen(text) : width[column];
        }
    }
    print_row(NULL, width);
    for (size_t i = 0; i < n; i++) {
        HS_TRY(hstu_devices_get(devices, i, &d, err));
        print_row(&d, width);
    }
    return HSTU_OK;
}

static int run_verb(const hs_options *options)
{
    const hs_option_value *value = options->value;
    hstu_npu_options npu;
    hstu_devices *devices = NULL;
    hs_console console;
    hstu_error err;
    hs_console_open(&console, true);
    hstu_npu_options_init(&npu);
    npu.ort_library = value[ORT_LIBRARY].text;
    npu.provider_library = value[ORT_PROVIDER_LIBRARY].text;
    hstu_status status = hs_result_keep_apart(&err);
    if (status == HSTU_OK)
        status = hstu_devices_open(&devices, &npu, &err);
    if (status == HSTU_OK)
        status = value[JSON].given ? print_json(devices, &err) : print_table(devices, &err);
    hstu_devices_close(devices);
    return hs_console_end(&console, status, &err);
}

const hs_verb hs_verb_devices = {
    .name = "devices",
    .summary = "list where models can run here, and why not elsewhere",
    .text =
        "Lists the processor and every device that ONNX Runtime and its providers know here: the name that 'hstu run "
        "--device' takes, kind, vendor, provider and version, and, of a device that cannot be used, why, and what to "
        "install. scripts/get_onnxruntime fetches ONNX Runtime and the providers.",
    .option = options_of_devices,
    .n_options = N_OPTIONS,
    .example = "hstu devices",
    .run = run_verb,
};
