/* Opening: the library, its environment, the providers, one device. */
#include "base/alloc.h"
#include "base/error.h"
#include "ort/ort_int.h"

#include <string.h>

enum { ARENA_BYTES = 1 << 20 };

static hstu_status check_choice(const hs_ort_choice *choice, hstu_error *err)
{
    const char *device = choice->device;
    if (!device || (strcmp(device, "npu") != 0 && strncmp(device, "npu:", 4) != 0 && strcmp(device, "ort-cpu") != 0) ||
        strcmp(device, "npu:") == 0)
        return hs_ort_fail_unknown(device ? device : "", err);
    if (choice->threads < 1)
        return hs_fail(err, HSTU_EINVAL, 0, "ONNX Runtime needs 1 thread or more, found %d", choice->threads);
    if (strcmp(device, "ort-cpu") == 0 && choice->n_options > 0)
        return hs_fail(err, HSTU_EINVAL, 0, "ort-cpu has no options, found '%.200s'", choice->option[0]);
    return HSTU_OK;
}

/* An append that fails tells at once what would fail for every graph. */
static hstu_status try_provider(const hs_ort *ort, hstu_error *err)
{
    const hs_rt *rt = &ort->runtime->lib.rt;
    rt_options *options = NULL;
    HS_TRY(hs_ort_check(rt, rt->create_options(&options), HSTU_EDEVICE, "cannot prepare a session", err));
    const hstu_status status = hs_ort_append(ort, options, err);
    rt->release_options(options);
    return status;
}

/* Everything that follows from the place. */
static hstu_status settle(hs_ort *ort, hstu_error *err)
{
    HS_TRY(hs_ort_options_check(&ort->options, ort->place.known, err));
    const hs_ort_plugin *plugin = hs_ort_plugin_of(ort->runtime, ort->place.provider);
    if (plugin && ort->place.route == HS_ORT_PLUGIN)
        ort->plugin_path = plugin->path.text;
    HS_TRY(hs_ort_defaults(ort, err));
    return try_provider(ort, err);
}

hstu_status hs_ort_try(hs_ort_runtime *runtime, const hs_ort_place *place, const hs_ort_choice *choice, hstu_error *err)
{
    hs_ort ort = {.runtime = runtime, .place = *place, .threads = 1};
    hs_arena_init(&ort.arena, ARENA_BYTES);
    hstu_status status = hs_ort_options_parse(&ort.options, &ort.arena, choice, err);
    if (status == HSTU_OK)
        status = settle(&ort, err);
    hs_arena_free(&ort.arena);
    return status;
}

static hstu_status choose(hs_ort *ort, const hs_ort_choice *choice, hstu_error *err)
{
    if (strcmp(choice->device, "ort-cpu") != 0)
        HS_TRY(hs_ort_register_for(ort->runtime, choice, hs_ort_provider_wanted(choice->device), err));
    HS_TRY(hs_ort_select(&ort->place, ort->runtime, choice->device, &ort->options, err));
    return settle(ort, err);
}

static hstu_status open_all(hs_ort *ort, const hs_ort_choice *choice, hstu_error *err)
{
    hs_path path;
    HS_TRY(hs_ort_options_parse(&ort->options, &ort->arena, choice, err));
    HS_TRY(hs_ort_options_check(&ort->options, hs_ort_provider_wanted(choice->device), err));
    hs_ort_lock(); /* loading changes the environment, and finding reads it */
    hstu_status status = hs_ort_find(&path, choice, choice->device, err);
    if (status == HSTU_OK)
        status = hs_ort_enter(&ort->runtime, path.text, err);
    if (status == HSTU_OK) {
        status = choose(ort, choice, err);
        if (status != HSTU_OK)
            hs_ort_leave(ort->runtime);
    }
    hs_ort_unlock();
    return status;
}

hstu_status hs_ort_open(hs_ort **out, const hs_ort_choice *choice, hstu_error *err)
{
    HS_TRY(check_choice(choice, err));
    hs_ort *ort = hs_calloc(1, sizeof *ort);
    if (!ort)
        return hs_fail_nomem(err, sizeof *ort, "ONNX Runtime's device");
    hs_arena_init(&ort->arena, ARENA_BYTES);
    ort->threads = choice->threads;
    ort->as_onnx = choice->as_onnx;
    const hstu_status status = open_all(ort, choice, err);
    if (status != HSTU_OK) {
        hs_arena_free(&ort->arena);
        hs_free(ort);
        return status;
    }
    *out = ort;
    return HSTU_OK;
}

void hs_ort_close(hs_ort *ort)
{
    if (!ort)
        return;
    hs_ort_lock();
    hs_ort_leave(ort->runtime);
    hs_ort_unlock();
    hs_arena_free(&ort->arena);
    hs_free(ort);
}

void hs_ort_get_info(const hs_ort *ort, hs_ort_info *info)
{
    *info = (hs_ort_info){
        .ort_version = ort->runtime->lib.version,
        .library = ort->runtime->lib.path.text,
        .provider = ort->place.provider,
        .provider_version = ort->place.version,
        .provider_library = ort->plugin_path,
        .vendor = ort->place.vendor,
        .device = ort->place.device,
        .kind = ort->place.kind,
        .is_virtual = ort->place.is_virtual,
        .as_onnx = ort->as_onnx,
        .key = ort->options.key,
        .option = ort->options.value,
        .n_options = ort->options.n,
    };
}
