/* Every device that can be seen, and why one cannot be used. */
#include "base/alloc.h"
#include "base/error.h"
#include "ort/ort_int.h"

#include <stdio.h>
#include <string.h>

typedef struct listing {
    hs_ort_seen *seen;
    size_t n, capacity;
    const hs_ort_choice *choice;
    hs_ort_runtime *runtime;
    hs_path path; /* of the library that the runtime is */
} listing;

/* Whether a vendor's devices need another build of the library than the one that all others share. */
static bool needs_own_build(const listing *l, const hs_ort_provider *provider, hs_path *out)
{
    char device[64];
    snprintf(device, sizeof device, "npu:%s", provider->vendor);
    return hs_ort_find(out, l->choice, device, NULL) == HSTU_OK && strcmp(out->text, l->path.text) != 0;
}

static hstu_status add(listing *l, const hs_ort_seen *seen, hstu_error *err)
{
    if (l->n == l->capacity) {
        const size_t capacity = l->capacity ? 2 * l->capacity : 8;
        hs_ort_seen *more = hs_realloc(l->seen, capacity, sizeof *more);
        if (!more)
            return hs_fail_nomem(err, capacity * sizeof *more, "the list of devices");
        l->seen = more;
        l->capacity = capacity;
    }
    l->seen[l->n++] = *seen;
    return HSTU_OK;
}

static void fill_place(hs_ort_seen *out, const listing *l, const hs_ort_place *place)
{
    const hs_ort_plugin *plugin = hs_ort_plugin_of(l->runtime, place->provider);
    snprintf(out->kind, sizeof out->kind, "%s", place->kind);
    snprintf(out->vendor, sizeof out->vendor, "%s", place->vendor);
    snprintf(out->provider, sizeof out->provider, "%s", place->provider);
    snprintf(out->version, sizeof out->version, "%s", place->version);
    snprintf(out->device, sizeof out->device, "%s", place->device);
    if (plugin && place->route == HS_ORT_PLUGIN)
        snprintf(out->library, sizeof out->library, "%.255s", plugin->path.text);
    out->is_virtual = place->is_virtual;
}

static hstu_status add_device(listing *l, const rt_ep_device *ep, hstu_error *err)
{
    hs_ort_place place;
    hs_ort_seen seen = {.name = ""};
    hs_ort_describe(&place, l->runtime, ep);
    fill_place(&seen, l, &place);
    const bool own = place.route == HS_ORT_CPU, is_npu = strcmp(place.kind, "NPU") == 0;
    if (own)
        snprintf(seen.name, sizeof seen.name, "ort-cpu");
    else
        snprintf(
            seen.name, sizeof seen.name, "npu:%.59s", place.known && is_npu ? place.known->vendor : place.provider);
    seen.usable = own || (is_npu && (!place.is_virtual || hs_ort_allows_virtual()));
    if (!seen.usable)
        snprintf(
            seen.why, sizeof seen.why, "%s", is_npu ? "a virtual NPU only compiles ahead of time" : "it is no NPU");
    return add(l, &seen, err);
}

/* A provider that the library was built with lists no devices: what is there shows when it is used. */
static hstu_status add_built_in(listing *l, const hs_ort_provider *provider, hstu_error *err)
{
    hs_ort_place place;
    hs_ort_seen seen = {.usable = true};
    hs_ort_describe_built_in(&place, provider, "NPU");
    fill_place(&seen, l, &place);
    snprintf(seen.name, sizeof seen.name, "npu:%s", provider->vendor);
    snprintf(seen.library, sizeof seen.library, "%.255s", l->runtime->lib.path.text);
    hstu_error why;
    const hstu_status status = hs_ort_try(l->runtime, &place, l->choice, &why);
    if (status == HSTU_ENOMEM)
        return hs_fail_nomem(err, 0, "the list of devices");
    if (status != HSTU_OK) {
        seen.usable = false;
        snprintf(seen.why, sizeof seen.why, "%s", why.msg);
    }
    return add(l, &seen, err);
}

static hstu_status add_absent(listing *l, const hs_ort_provider *provider, const char *why, hstu_error *err)
{
    hs_ort_seen seen = {.kind = "NPU"};
    snprintf(seen.name, sizeof seen.name, "npu:%s", provider->vendor);
    snprintf(seen.vendor, sizeof seen.vendor, "%s", provider->vendor_name);
    snprintf(seen.provider, sizeof seen.provider, "%s", provider->name);
    snprintf(seen.why, sizeof seen.why, "%s", why);
    return add(l, &seen, err);
}

static bool has_npu_of(const listing *l, const hs_ort_provider *provider)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->seen[i].provider, provider->name) == 0 && strcmp(l->seen[i].kind, "NPU") == 0)
            return true;
    }
    return false;
}

/* A row for a provider without one: built in, or the reason why selecting it fails. */
static hstu_status add_other(listing *l, const hs_ort_provider *provider, const char *registering, hstu_error *err)
{
    const hs_ort_options none = {.n = 0};
    hs_ort_place place;
    hstu_error why = {.msg = ""};
    char device[64];
    if (provider->built_in != HS_ORT_CPU && hs_ort_is_built_in(l->runtime, provider->name))
        return add_built_in(l, provider, err);
    snprintf(device, sizeof device, "npu:%s", provider->vendor);
    if (!*registering)
        (void)hs_ort_select(&place, l->runtime, device, &none, &why);
    return add_absent(l, provider, *registering ? registering : why.msg, err);
}

static hstu_status list_all(listing *l, hstu_error *err)
{
    const hs_ort_provider *p;
    const rt_ep_device *const *device = NULL;
    size_t n = 0;
    hstu_error why[8] = {{.msg = ""}};
    for (size_t i = 0; (p = hs_ort_provider_at(i)) != NULL; i++) {
        if (hs_ort_register_for(l->runtime, l->choice, p, &why[i]) == HSTU_ENOMEM)
            return hs_fail_nomem(err, 0, "the list of devices");
    }
    if (hs_ort_register_for(l->runtime, l->choice, NULL, NULL) == HSTU_ENOMEM) /* those of unknown vendors */
        return hs_fail_nomem(err, 0, "the list of devices");
    HS_TRY(hs_ort_devices(l->runtime, &device, &n, err));
    for (size_t i = 0; i < n; i++) {
        if (!hs_ort_is_collective(l->runtime, device[i]))
            HS_TRY(add_device(l, device[i], err));
    }
    hs_path own;
    for (size_t i = 0; (p = hs_ort_provider_at(i)) != NULL; i++) {
        if (!has_npu_of(l, p) && !needs_own_build(l, p, &own))
            HS_TRY(add_other(l, p, why[i].msg, err));
    }
    return HSTU_OK;
}

/* Nothing but the reason, for each vendor. */
static hstu_status list_none(listing *l, const char *why, hstu_error *err)
{
    const hs_ort_provider *p;
    for (size_t i = 0; (p = hs_ort_provider_at(i)) != NULL; i++)
        HS_TRY(add_absent(l, p, why, err));
    return HSTU_OK;
}

/* The devices of vendors that have a build of their own, which is loaded when no other is in use. */
static hstu_status list_own_builds(listing *l, hstu_error *err)
{
    const hs_ort_provider *p;
    hs_path own;
    hstu_error why;
    for (size_t i = 0; (p = hs_ort_provider_at(i)) != NULL; i++) {
        if (has_npu_of(l, p) || !needs_own_build(l, p, &own))
            continue;
        if (hs_ort_enter(&l->runtime, own.text, &why) != HSTU_OK) {
            HS_TRY(add_absent(l, p, why.msg, err));
            continue;
        }
        const hstu_status status = add_other(l, p, "", err);
        hs_ort_leave(l->runtime);
        HS_TRY(status);
    }
    return HSTU_OK;
}

static hstu_status list_everything(listing *l, hstu_error *err)
{
    hstu_error why;
    hstu_status status = hs_ort_find(&l->path, l->choice, NULL, &why);
    if (status == HSTU_OK)
        status = hs_ort_enter(&l->runtime, l->path.text, &why);
    if (status != HSTU_OK)
        return list_none(l, why.msg, err);
    status = list_all(l, err);
    hs_ort_leave(l->runtime);
    return status == HSTU_OK ? list_own_builds(l, err) : status;
}

hstu_status hs_ort_list(hs_ort_seen **out, size_t *n, const hs_ort_choice *choice, hstu_error *err)
{
    listing l = {.choice = choice};
    hs_ort_lock();
    const hstu_status status = list_everything(&l, err);
    hs_ort_unlock();
    if (status != HSTU_OK) {
        hs_free(l.seen);
        return status;
    }
    *out = l.seen;
    *n = l.n;
    return HSTU_OK;
}
