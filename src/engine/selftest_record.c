/* hstu_self_test_is_known, hstu_self_test_remember: a small file for all that has passed together: model, device, provider... */
#include "engine/engine.h"

#include "base/error.h"
#include "base/outfile.h"
#include "base/path.h"
#include "device/npu/npu_device.h"
#include "hstu/npu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

/* $XDG_CACHE_HOME, which only counts when it is absolute, or ~/.cache. */
static hstu_status cache_home(hs_path *out)
{
    const char *given = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (given && given[0] == '/' && strlen(given) < sizeof out->text) {
        memcpy(out->text, given, strlen(given) + 1);
        return HSTU_OK;
    }
    return home && home[0] == '/' ? hs_path_join(out, home, ".cache", NULL) : HSTU_ENOENT;
}

static void add_text(XXH3_state_t *state, const char *text)
{
    (void)XXH3_128bits_update(state, text ? text : "", text ? strlen(text) + 1 : 1);
}

/* "selftest-<32 hexadecimal digits>": the model's fingerprint, which counts options and route, the provider, its versions and
 * libraries. */
static hstu_status record_name(char *out, size_t size, const hstu_model *model)
{
    unsigned char fingerprint[HS_FINGERPRINT_BYTES];
    XXH128_canonical_t hash;
    hs_ort_info info;
    HS_TRY(hs_engine_fingerprint(model, fingerprint, NULL));
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return HSTU_ENOMEM;
    hs_npu_get_info(model->dev, &info);
    const char *const text[] = {info.ort_version, info.library, info.provider, info.provider_version,
        info.provider_library, info.vendor, info.device, info.kind};
    (void)XXH3_128bits_reset(state);
    (void)XXH3_128bits_update(state, fingerprint, sizeof fingerprint);
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        add_text(state, text[i]);
    XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(state));
    (void)XXH3_freeState(state);
    int n = snprintf(out, size, "selftest-");
    for (size_t i = 0; i < sizeof hash.digest; i++)
        n += snprintf(out + n, size - (size_t)n, "%02x", hash.digest[i]);
    return HSTU_OK;
}

/* With `make` the folders are there afterwards, where they can be. */
static hstu_status record_path(hs_path *out, const hstu_model *model, bool make)
{
    char name[64];
    if (!hs_npu_is(model->dev))
        return HSTU_EINVAL;
    HS_TRY(cache_home(out));
    if (make)
        (void)mkdir(out->text, 0700);
    HS_TRY(hs_path_join(out, out->text, "hstu", NULL));
    if (make)
        (void)mkdir(out->text, 0700);
    HS_TRY(record_name(name, sizeof name, model));
    return hs_path_join(out, out->text, name, NULL);
}

int hstu_self_test_is_known(const hstu_model *model)
{
    hs_path path;
    struct stat st;
    return record_path(&path, model, false) == HSTU_OK && stat(path.text, &st) == 0 && S_ISREG(st.st_mode) &&
           st.st_size > 0;
}

void hstu_self_test_remember(const hstu_model *model)
{
    hs_path path;
    hs_ort_info info;
    hs_outfile *file = NULL;
    if (record_path(&path, model, true) != HSTU_OK || hs_outfile_open(&file, path.text, NULL) != HSTU_OK)
        return;
    hs_npu_get_info(model->dev, &info);
    const hstu_status status = hs_outfile_printf(file, NULL, "passed: %s on %s, %s, ONNX Runtime %s\n",
        model->path ? model->path : model->config, model->device, model->dev->isa,
        info.ort_version ? info.ort_version : "");
    if (status == HSTU_OK)
        (void)hs_outfile_commit(file, NULL);
    else
        hs_outfile_discard(file);
}
