/* Where ONNX Runtime's library lies, and loading it. */
#define _GNU_SOURCE /* dladdr, realpath */
#include "base/error.h"
#include "ort/ort_int.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char system_library[] = "libonnxruntime.so.1";

bool hs_ort_real_path(hs_path *out, const char *path)
{
    char real[PATH_MAX];
    if (!realpath(path, real) || strlen(real) >= sizeof out->text)
        return false;
    memcpy(out->text, real, strlen(real) + 1);
    return true;
}

bool hs_ort_home(hs_path *out)
{
    const char *home = getenv("HSTU_ORT_HOME");
    if (home && *home)
        return hs_path_join(out, home, "", NULL) == HSTU_OK;
    home = getenv("HOME");
    return home && *home && hs_path_join(out, home, ".local/share/hstu/onnxruntime/", NULL) == HSTU_OK;
}

hstu_status hs_ort_find(hs_path *out, const hs_ort_choice *choice, const char *device, hstu_error *err)
{
    const char *named = choice->library;
    if (!named || !*named)
        named = getenv("HSTU_ORT_LIBRARY");
    if (named && *named) {
        if (strlen(named) >= sizeof out->text)
            return hs_fail(err, HSTU_EINVAL, 0, "the path of ONNX Runtime's library is longer than %zu bytes",
                sizeof out->text - 1);
        memcpy(out->text, named, strlen(named) + 1);
        return HSTU_OK;
    }
    const hs_ort_provider *provider = device ? hs_ort_provider_wanted(device) : NULL;
    hs_path home, path;
    if (hs_ort_home(&home)) {
        const bool whole = provider && provider->own_build;
        if (whole && hs_path_join(&path, home.text, provider->own_build, NULL) == HSTU_OK &&
            access(path.text, R_OK) == 0) {
            *out = path;
            return HSTU_OK;
        }
        if (hs_path_join(&path, home.text, "libonnxruntime.so", NULL) == HSTU_OK && access(path.text, R_OK) == 0) {
            *out = path;
            return HSTU_OK;
        }
    }
    memcpy(out->text, system_library, sizeof system_library);
    return HSTU_OK;
}

static hstu_status fail_not_found(hstu_error *err)
{
    hs_path home;
    return hs_fail(err, HSTU_ENOENT, 0,
        "ONNX Runtime was not found: no library is named (--ort_library, HSTU_ORT_LIBRARY), there is none in '%s' and "
        "the system has no %s; scripts/get_onnxruntime fetches it",
        hs_ort_home(&home) ? home.text : "$HOME/.local/share/hstu/onnxruntime", system_library);
}

static hstu_status open_library(void **out, const char *path, hstu_error *err)
{
    const bool by_system = strcmp(path, system_library) == 0;
    if (!by_system && access(path, F_OK) != 0)
        return hs_fail(err, HSTU_ENOENT, 0, "ONNX Runtime's library '%s' does not exist", path);
    if (!by_system)
        HS_TRY(hs_ort_check_file(path, err));
    /* Must be there before the library is; and once only, since other threads may be reading the environment. */
    const char *telemetry = getenv("ORT_DISABLE_TELEMETRY");
    if (!telemetry || strcmp(telemetry, "1") != 0)
        setenv("ORT_DISABLE_TELEMETRY", "1", 1);
    /* Through a link the library would look for its providers beside the link. */
    hs_path real;
    const bool is_real = !by_system && hs_ort_real_path(&real, path);
    *out = dlopen(is_real ? real.text : path, RTLD_NOW | RTLD_LOCAL);
    if (*out)
        return HSTU_OK;
    const char *why = dlerror();
    return by_system ? fail_not_found(err)
                     : hs_fail(err, HSTU_EDEVICE, 0, "cannot load ONNX Runtime: %s", why ? why : path);
}

static void name_file(hs_ort_library *lib, const char *path, const void *symbol)
{
    Dl_info info;
    const char *found = dladdr(symbol, &info) && info.dli_fname ? info.dli_fname : path;
    if (!hs_ort_real_path(&lib->path, found))
        snprintf(lib->path.text, sizeof lib->path.text, "%s", found);
}

typedef struct api_base {
    const void *(*table)(uint32_t version);
    const char *(*version)(void);
} api_base;

/* "1.28.0" -> 28; -1 for what is no version of ours. Build suffixes are allowed. */
static int minor_version(const char *version)
{
    char *end;
    if (strncmp(version, "1.", 2) != 0 || version[2] < '0' || version[2] > '9')
        return -1;
    const long minor = strtol(version + 2, &end, 10);
    return *end == '.' && minor < 10000 ? (int)minor : -1;
}

static bool fill_tables(hs_rt *rt, const void *table)
{
    const char *place = table;
#define HS_RT_FILL(n, result, name, arguments)                                                                         \
    memcpy(&rt->name, place + (size_t)(n) * sizeof rt->name, sizeof rt->name);
    HS_RT_MAP(HS_RT_FILL)
#undef HS_RT_FILL
    place = (const char *)rt->editor();
    if (!place)
        return false;
#define HS_RT_FILL(n, result, name, arguments)                                                                         \
    memcpy(&rt->edit.name, place + (size_t)(n) * sizeof rt->edit.name, sizeof rt->edit.name);
    HS_RT_EDITOR_MAP(HS_RT_FILL)
#undef HS_RT_FILL
    return true;
}

hstu_status hs_ort_load(hs_ort_library *out, const char *path, hstu_error *err)
{
    hs_ort_library lib = {.handle = NULL};
    const api_base *(*get_base)(void);
    HS_TRY(open_library(&lib.handle, path, err));
    void *symbol = dlsym(lib.handle, "OrtGetApiBase");
    memcpy(&get_base, &symbol, sizeof get_base);
    const api_base *base = symbol ? get_base() : NULL;
    if (!base)
        return hs_fail(err, HSTU_EDEVICE, 0, "'%s' is not ONNX Runtime's library: it has no OrtGetApiBase", path);
    const char *version = base->version();
    lib.minor = version ? minor_version(version) : -1;
    /* No higher version is tried: asked for one that it lacks, the library prints on stderr. */
    const int newest = lib.minor < HS_ORT_NEWEST ? lib.minor : HS_ORT_NEWEST;
    if (lib.minor < HS_ORT_OLDEST)
        return hs_fail(err, HSTU_EUNSUP, 0,
            "ONNX Runtime %.31s in '%s' cannot be used: 1.%d or a later 1.x is needed, scripts/get_onnxruntime "
            "fetches one",
            version ? version : "without a version", path, HS_ORT_OLDEST);
    const void *table = base->table((uint32_t)newest);
    if (!table || !fill_tables(&lib.rt, table))
        return hs_fail(err, HSTU_EUNSUP, 0,
            "ONNX Runtime %.31s in '%s' was built without its interface 1.%d or the one that builds models", version,
            path, newest);
    snprintf(lib.version, sizeof lib.version, "%s", version);
    name_file(&lib, path, symbol);
    *out = lib;
    return HSTU_OK;
}
