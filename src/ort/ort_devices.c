/* Which devices there are, and the one that a name means. */
#include "base/error.h"
#include "base/folder.h"
#include "ort/ort_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what a device is ---- */

static const char *kind_name(int kind)
{
    return kind == RT_HARDWARE_NPU ? "NPU" : kind == RT_HARDWARE_GPU ? "GPU" : "CPU";
}

static const char *fact(const hs_rt *rt, const rt_pairs *pairs, const char *key)
{
    const char *value = pairs ? rt->pair(pairs, key) : NULL;
    return value ? value : "";
}

/* Qualcomm's provider reaches its NPU through a driver that ONNX Runtime does not look for: it lists the processor alone, and its
 * library for the NPU, which is what backend_path names unless the user says otherwise, opens one of these. Elsewhere that library
 * is a simulator, or fails. */
static bool has_hexagon(void)
{
    return access("/dev/fastrpc-cdsp", F_OK) == 0 || access("/dev/fastrpc-cdsp-secure", F_OK) == 0;
}

static bool is_qualcomms(const hs_ort_place *place)
{
    return place->known && strcmp(place->known->vendor, "qualcomm") == 0;
}

void hs_ort_describe(hs_ort_place *out, const hs_ort_runtime *runtime, const rt_ep_device *ep)
{
    const hs_rt *rt = &runtime->lib.rt;
    const rt_hardware *hardware = rt->ep_hardware(ep);
    const rt_pairs *facts = rt->ep_facts(ep), *hardware_facts = rt->hardware_facts(hardware);
    const char *provider = rt->ep_name(ep), *vendor = rt->hardware_vendor(hardware);
    *out = (hs_ort_place){
        .provider = provider,
        .known = hs_ort_provider_named(provider),
        .ep = ep,
        .route = strcmp(provider, "CPUExecutionProvider") == 0 ? HS_ORT_CPU : HS_ORT_PLUGIN,
        .kind = kind_name(rt->hardware_kind(hardware)),
        .vendor_id = rt->hardware_vendor_id(hardware),
        .is_virtual =
            strcmp(fact(rt, facts, "is_virtual"), "1") == 0 || strcmp(fact(rt, hardware_facts, "is_virtual"), "1") == 0,
    };
    if (!vendor || !*vendor)
        vendor = rt->ep_vendor(ep);
    if (is_qualcomms(out) && strcmp(out->kind, "CPU") == 0 && has_hexagon()) {
        out->kind = "NPU";
        vendor = out->known->vendor_name;
    }
    const char *device = fact(rt, hardware_facts, "Description");
    if (!*device)
        device = fact(rt, facts, "ov_device");
    snprintf(out->vendor, sizeof out->vendor, "%s", vendor ? vendor : "");
    snprintf(out->device, sizeof out->device, "%s", device);
    snprintf(out->version, sizeof out->version, "%s", fact(rt, facts, "version"));
}

bool hs_ort_is_collective(const hs_ort_runtime *runtime, const rt_ep_device *ep)
{
    const hs_rt *rt = &runtime->lib.rt;
    return *fact(rt, rt->ep_facts(ep), "ov_meta_device") != '\0';
}

void hs_ort_describe_built_in(hs_ort_place *out, const hs_ort_provider *provider, const char *kind)
{
    *out = (hs_ort_place){
        .provider = provider->name,
        .known = provider,
        .route = provider->built_in,
        .kind = kind,
        .vendor_id = provider->vendor_id[0],
    };
    snprintf(out->vendor, sizeof out->vendor, "%s", provider->vendor_name);
}

bool hs_ort_allows_virtual(void)
{
    const char *allow = getenv("HSTU_ALLOW_VIRTUAL_NPU");
    return allow && strcmp(allow, "1") == 0;
}

/* ---- plug-ins ---- */

static bool is_plugin_file(const char *name)
{
    const size_t n = strlen(name);
    return strncmp(name, "libonnxruntime_", 15) == 0 && n > 3 && strcmp(name + n - 3, ".so") == 0 &&
           strcmp(name, "libonnxruntime_providers_shared.so") != 0;
}

/* A folder that cannot be read is an empty one. */
static hstu_status list_folder(hs_folder *out, const char *path, hstu_error *err)
{
    const hstu_status status = hs_folder_list(out, path, NULL);
    return status == HSTU_ENOMEM ? hs_fail_nomem(err, 0, "the names of a folder") : HSTU_OK;
}

static hstu_status register_folder(
    hs_ort_runtime *runtime, const char *path, const hs_ort_provider *wanted, hstu_error *err)
{
    hs_folder folder = {.n = 0};
    hstu_status status = list_folder(&folder, path, err);
    for (size_t i = 0; i < folder.n && status == HSTU_OK; i++) {
        hs_path file;
        if (!is_plugin_file(folder.name[i]) || hs_path_join(&file, path, folder.name[i], NULL) != HSTU_OK)
            continue;
        if (!wanted)
            (void)hs_ort_register(runtime, file.text, NULL); /* others may do */
        else if (hs_ort_provider_of_file(folder.name[i]) == wanted)
            status = hs_ort_register(runtime, file.text, err);
    }
    hs_folder_free(&folder);
    return status;
}

hstu_status hs_ort_register_for(
    hs_ort_runtime *runtime, const hs_ort_choice *choice, const hs_ort_provider *wanted, hstu_error *err)
{
    const char *named = choice->provider_library;
    if (!named || !*named)
        named = getenv("HSTU_ORT_PROVIDER_LIBRARY");
    if (named && *named)
        return hs_ort_register(runtime, named, err);
    if (wanted && hs_ort_is_built_in(runtime, wanted->name)) /* a build of its own: its provider fits it better */
        return HSTU_OK;
    hs_path home, providers;
    hs_folder folder = {.n = 0};
    if (!hs_ort_home(&home) || hs_path_join(&providers, home.text, "providers", NULL) != HSTU_OK)
        return HSTU_OK;
    hstu_status status = list_folder(&folder, providers.text, err);
    for (size_t i = 0; i < folder.n && status == HSTU_OK; i++) {
        hs_path path;
        if (hs_path_join(&path, providers.text, folder.name[i], NULL) == HSTU_OK)
            status = register_folder(runtime, path.text, wanted, err);
    }
    hs_folder_free(&folder);
    return status;
}

/* ---- choosing ---- */

/* What a device's name asks for. */
typedef struct wish {
    const char *device;
    const hs_ort_provider *known; /* a vendor's or a provider's name that we know, else NULL */
    const char *provider;         /* behind "npu:", a name that we do not know; NULL for "npu" */
    const char *kind;
    bool own_cpu;   /* "ort-cpu" */
    bool simulator; /* Qualcomm's will do, on the CPU: its library was named */
} wish;

static bool has_vendor_id(const hs_ort_provider *provider, uint32_t id)
{
    for (int i = 0; provider->vendor_id[i]; i++) {
        if (provider->vendor_id[i] == id)
            return true;
    }
    return false;
}

static bool fits(const wish *w, const hs_ort_place *place)
{
    if ((place->route == HS_ORT_CPU) != w->own_cpu || strcmp(place->kind, w->kind) != 0)
        return false;
    if (w->own_cpu)
        return true;
    if (w->known)
        return place->known == w->known || (!place->known && has_vendor_id(w->known, place->vendor_id));
    return !w->provider || strcmp(w->provider, place->provider) == 0;
}

static hstu_status read_wish(wish *out, const char *device, const hs_ort_options *options, hstu_error *err)
{
    *out = (wish){.device = device, .known = hs_ort_provider_wanted(device), .kind = "NPU"};
    if (strcmp(device, "ort-cpu") == 0) {
        out->own_cpu = true;
        out->kind = "CPU";
        return HSTU_OK;
    }
    out->simulator = strcmp(device, "npu:QNNExecutionProvider") == 0 && hs_ort_options_get(options, "backend_path");
    if (!out->known && strncmp(device, "npu:", 4) == 0)
        out->provider = device + 4;
    const char *type = hs_ort_options_get(options, "device_type");
    if (!type || !out->known || strcmp(out->known->vendor, "intel") != 0)
        return HSTU_OK;
    const char *const kind[] = {"NPU", "CPU", "GPU"};
    for (size_t i = 0; i < sizeof kind / sizeof kind[0]; i++) {
        if (strncmp(type, kind[i], 3) == 0 && (type[3] == '\0' || type[3] == '.')) {
            out->kind = kind[i];
            return HSTU_OK;
        }
    }
    return hs_fail(err, HSTU_EINVAL, 0, "the option device_type is NPU, CPU or GPU, found '%.100s'", type);
}

hstu_status hs_ort_fail_unknown(const char *device, hstu_error *err)
{
    return hs_fail(err, HSTU_EINVAL, 0,
        "the device '%.64s' is unknown: expected npu, npu:intel, npu:qualcomm, npu:ascend, npu:amd, npu:PROVIDER with "
        "a provider's name in ONNX Runtime, or ort-cpu",
        device);
}

/* Why nothing fits. */
static hstu_status fail_none(const hs_ort_runtime *runtime, const wish *w, bool is_virtual, hstu_error *err)
{
    const char *name = w->known ? w->known->name : w->provider ? w->provider : "";
    const hs_ort_plugin *plugin = hs_ort_plugin_of(runtime, name);
    const bool is_npu = strcmp(w->kind, "NPU") == 0;
    if (is_virtual)
        return hs_fail(err, HSTU_EDEVICE, 0,
            "no %s for '%s' on this machine: %s has a virtual one, which only compiles ahead of time", w->kind,
            w->device, *name ? name : "a provider");
    if (w->known && plugin)
        return hs_fail(err, HSTU_EDEVICE, 0, "%s finds no %s of %s on this machine%s%s", name, w->kind,
            w->known->vendor_name, is_npu ? ", which needs " : "", is_npu ? w->known->install : "");
    if (w->known)
        return hs_fail(err, HSTU_EDEVICE, 0, "no provider for '%s': ONNX Runtime %s in '%.120s' has none of %s; %s",
            w->device, runtime->lib.version, runtime->lib.path.text, w->known->vendor_name, w->known->fetch);
    if (plugin)
        return hs_fail(err, HSTU_EDEVICE, 0, "%s finds no %s on this machine", name, w->kind);
    if (w->provider)
        return hs_ort_fail_unknown(w->device, err);
    return hs_fail(err, HSTU_EDEVICE, 0,
        "no NPU: none of the providers beside ONNX Runtime %s (%d) lists one; 'hstu devices' tells of each vendor why",
        runtime->lib.version, runtime->n_plugins);
}

static bool select_built_in(hs_ort_place *out, const hs_ort_runtime *runtime, const wish *w)
{
    const hs_ort_provider *p;
    for (size_t i = 0; (p = hs_ort_provider_at(i)) != NULL; i++) {
        const bool asked = w->known ? p == w->known : !w->provider && !w->own_cpu;
        if (!asked || p->built_in == HS_ORT_CPU || !hs_ort_is_built_in(runtime, p->name))
            continue;
        hs_ort_describe_built_in(out, p, w->kind);
        return true;
    }
    return false;
}

/* The device among the runtime's that fits; *saw_virtual when only one did that may not be chosen. */
static hstu_status select_listed(
    hs_ort_place *out, bool *found, bool *saw_virtual, const hs_ort_runtime *runtime, const wish *w, hstu_error *err)
{
    const rt_ep_device *const *list = NULL;
    size_t n = 0;
    HS_TRY(hs_ort_devices(runtime, &list, &n, err));
    for (size_t i = 0; i < n && !*found; i++) {
        hs_ort_place place;
        hs_ort_describe(&place, runtime, list[i]);
        if (hs_ort_is_collective(runtime, list[i]) || !fits(w, &place))
            continue;
        *found = !place.is_virtual || hs_ort_allows_virtual();
        *saw_virtual = !*found;
        if (*found)
            *out = place;
    }
    return HSTU_OK;
}

hstu_status hs_ort_select(hs_ort_place *out, const hs_ort_runtime *runtime, const char *device,
    const hs_ort_options *options, hstu_error *err)
{
    wish w;
    bool found = false, saw_virtual = false;
    HS_TRY(read_wish(&w, device, options, err));
    HS_TRY(select_listed(out, &found, &saw_virtual, runtime, &w, err));
    if (!found && w.simulator) {
        w.kind = "CPU";
        HS_TRY(select_listed(out, &found, &saw_virtual, runtime, &w, err));
        if (found)
            snprintf(out->device, sizeof out->device, "simulator");
    }
    if (found || select_built_in(out, runtime, &w))
        return HSTU_OK;
    return fail_none(runtime, &w, saw_virtual, err);
}
