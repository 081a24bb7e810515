/* The environment: the runtime allows one in a process, so all that open it share it. */
#include "base/error.h"
#include "ort/ort_int.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static hs_ort_runtime running; /* in use while users > 0 */

/* ---- messages ---- */

/* Behind the last `mark`, or `text`. */
static const char *behind_last(const char *text, const char *mark)
{
    for (const char *next; (next = strstr(text, mark)) != NULL;)
        text = next + strlen(mark);
    return text;
}

/* Behind any number of "Exception from <file>:<line>: ". */
static const char *behind_exceptions(const char *text)
{
    static const char mark[] = "Exception from ";
    while (strncmp(text, mark, sizeof mark - 1) == 0) {
        text += sizeof mark - 1;
        text += strcspn(text, " \n");
        text += strspn(text, " \n");
    }
    return text;
}

void hs_ort_message(char *out, size_t out_bytes, const char *message)
{
    /* "<file>:<line> <C++ signature> [ONNXRuntimeError] : 1 : FAIL : <what people want>", perhaps several times; or with
     * "[ERROR]" in its place. */
    const char *text = behind_last(message, "[ONNXRuntimeError] : ");
    for (int colons = 0; text != message && colons < 2; colons++) {
        const char *colon = strstr(text, " : ");
        text = colon ? colon + 3 : text;
    }
    text = behind_last(text, "[ERROR] ");
    text = behind_last(text, "Status Message: ");
    size_t n = 0;
    bool blank = true;
    for (text = behind_exceptions(text); *text && n + 1 < out_bytes;) {
        const bool is_blank = (unsigned char)*text <= ' ';
        if (!is_blank || !blank)
            out[n++] = is_blank ? ' ' : *text;
        blank = is_blank;
        text = is_blank ? behind_exceptions(text + 1) : text + 1;
    }
    while (n > 0 && (out[n - 1] == ' ' || out[n - 1] == '.'))
        n--;
    out[n] = '\0';
}

hstu_status hs_ort_check(const hs_rt *rt, rt_status *status, hstu_status code, const char *what, hstu_error *err)
{
    if (!status)
        return HSTU_OK;
    char text[sizeof err->msg];
    hs_ort_message(text, sizeof text, rt->status_text(status));
    rt->release_status(status);
    return hs_fail(err, code, 0, "%s: %s", what, *text ? text : "ONNX Runtime gives no reason");
}

/* Standard error belongs to the program. The newest message is kept for calls whose status does not tell the reason. */
static _Thread_local char newest_message[256];

static void keep_message(
    void *param, int level, const char *category, const char *id, const char *where, const char *text)
{
    (void)param, (void)level, (void)category, (void)id, (void)where;
    hs_ort_message(newest_message, sizeof newest_message, text);
}

const char *hs_ort_logged(void)
{
    return newest_message;
}

void hs_ort_forget_logged(void)
{
    newest_message[0] = '\0';
}

/* ---- one runtime ---- */

static hstu_status create(hs_ort_runtime *out, const char *path, hstu_error *err)
{
    HS_TRY(hs_ort_load(&out->lib, path, err));
    const hs_rt *rt = &out->lib.rt;
    rt_pairs *config = NULL;
    rt->create_pairs(&config);
    if (!config)
        return hs_fail_nomem(err, 0, "ONNX Runtime's environment");
    if (hs_ort_allows_virtual()) /* some providers list nothing else then */
        rt->add_pair(config, "allow_virtual_devices", "1");
    const rt_env_creation how = {
        .version = (uint32_t)(out->lib.minor < HS_ORT_NEWEST ? out->lib.minor : HS_ORT_NEWEST),
        .log_level = RT_LOG_ERROR,
        .log_id = "hstu",
        .log = keep_message,
        .config = config,
    };
    hstu_status status = hs_ort_check(
        rt, rt->create_env(&how, &out->env), HSTU_EDEVICE, "cannot create ONNX Runtime's environment", err);
    rt->release_pairs(config);
    if (status == HSTU_OK)
        status = hs_ort_check(rt, rt->create_cpu_memory(RT_ALLOCATOR_DEVICE, RT_MEMORY_DEFAULT, &out->memory),
            HSTU_EDEVICE, "cannot describe memory to ONNX Runtime", err);
    if (status != HSTU_OK && out->env)
        rt->release_env(out->env);
    return status;
}

static void destroy(hs_ort_runtime *runtime)
{
    const hs_rt *rt = &runtime->lib.rt;
    for (int i = runtime->n_plugins - 1; i >= 0; i--) {
        rt_status *status = rt->unregister_library(runtime->env, runtime->plugin[i].name);
        if (status)
            rt->release_status(status);
    }
    rt->release_memory(runtime->memory);
    rt->release_env(runtime->env);
    *runtime = (hs_ort_runtime){.users = 0};
}

/* Whether `path`, as it is asked for, leads to the library that is loaded. */
static bool is_same(const hs_ort_runtime *runtime, const char *path)
{
    if (strcmp(runtime->asked.text, path) == 0)
        return true;
    hs_path real;
    return hs_ort_real_path(&real, path) && strcmp(real.text, runtime->lib.path.text) == 0;
}

void hs_ort_lock(void)
{
    pthread_mutex_lock(&lock);
}

void hs_ort_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

hstu_status hs_ort_enter(hs_ort_runtime **out, const char *path, hstu_error *err)
{
    if (running.users > 0 && !is_same(&running, path))
        return hs_fail(err, HSTU_EDEVICE, 0,
            "ONNX Runtime is in use from '%s': one process cannot use '%s' at the same time", running.lib.path.text,
            path);
    if (running.users == 0) {
        hs_ort_runtime fresh = {.users = 0};
        HS_TRY(create(&fresh, path, err));
        snprintf(fresh.asked.text, sizeof fresh.asked.text, "%s", path);
        running = fresh;
    }
    running.users++;
    *out = &running;
    return HSTU_OK;
}

void hs_ort_leave(hs_ort_runtime *runtime)
{
    if (--runtime->users == 0)
        destroy(runtime);
}

/* ---- plug-ins ---- */

static void name_plugin(hs_ort_plugin *plugin)
{
    const char *base = hs_path_base(plugin->path.text);
    const hs_ort_provider *known = hs_ort_provider_of_file(base);
    if (known) {
        snprintf(plugin->name, sizeof plugin->name, "%s", known->name);
        snprintf(plugin->provider, sizeof plugin->provider, "%s", known->name);
        return;
    }
    base += strncmp(base, "lib", 3) == 0 ? 3 : 0;
    snprintf(plugin->name, sizeof plugin->name, "%.*s", (int)strcspn(base, "."), base);
}

/* An unknown plug-in's provider is the one that no device had before. */
static void name_provider(hs_ort_plugin *plugin, const hs_ort_runtime *runtime, size_t n_before)
{
    const rt_ep_device *const *device = NULL;
    size_t n = 0;
    if (*plugin->provider || hs_ort_devices(runtime, &device, &n, NULL) != HSTU_OK || n <= n_before)
        return;
    snprintf(plugin->provider, sizeof plugin->provider, "%s", runtime->lib.rt.ep_name(device[n - 1]));
}

/* Stays mapped whatever the runtime does: C++ libraries do not survive being unloaded. And its loader's reason is exact. */
static hstu_status keep_loaded(const hs_path *path, hstu_error *err)
{
    HS_TRY(hs_ort_check_file(path->text, err));
    void *handle = dlopen(path->text, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) {
        const char *why = dlerror();
        return hs_fail(err, HSTU_EDEVICE, 0, "cannot load the provider: %s", why ? why : path->text);
    }
    const bool is_plugin = dlsym(handle, "CreateEpFactories") != NULL;
    dlclose(handle);
    if (!is_plugin)
        return hs_fail(err, HSTU_EDEVICE, 0, "'%s' is no plug-in provider of ONNX Runtime: it has no CreateEpFactories",
            path->text);
    return HSTU_OK;
}

/* A plug-in keeps the interface of the runtime that used it first for as long as the process lives. Another that registers it is
 * refused by the plug-in, and 1.24 then waits for its own lock forever. */
static hstu_status belong(const hs_path *plugin, const hs_path *library, hstu_error *err)
{
    static struct {
        hs_path plugin, library;
    } pair[HS_ORT_PLUGINS];
    static int n;
    int i = 0;
    while (i < n && strcmp(pair[i].plugin.text, plugin->text) != 0)
        i++;
    if (i == HS_ORT_PLUGINS)
        return hs_fail(err, HSTU_EDEVICE, 0, "more than %d providers were in use", HS_ORT_PLUGINS);
    if (i == n) {
        pair[n].plugin = *plugin;
        pair[n++].library = *library;
    }
    if (strcmp(pair[i].library.text, library->text) == 0)
        return HSTU_OK;
    return hs_fail(err, HSTU_EDEVICE, 0,
        "this process has used the provider in '%.160s' with ONNX Runtime in '%.120s', and cannot use it with '%.120s'",
        plugin->text, pair[i].library.text, library->text);
}

hstu_status hs_ort_register(hs_ort_runtime *runtime, const char *path, hstu_error *err)
{
    hs_ort_plugin plugin = {.name = ""};
    if (!hs_ort_real_path(&plugin.path, path))
        return hs_fail(err, HSTU_ENOENT, 0, "the provider's library '%s' does not exist", path);
    name_plugin(&plugin);
    for (int i = 0; i < runtime->n_plugins; i++) {
        if (strcmp(runtime->plugin[i].path.text, plugin.path.text) == 0)
            return HSTU_OK;
        if (strcmp(runtime->plugin[i].name, plugin.name) == 0)
            return hs_fail(err, HSTU_EDEVICE, 0, "the provider %s is in use from '%s', and not from '%s'", plugin.name,
                runtime->plugin[i].path.text, plugin.path.text);
    }
    if (runtime->n_plugins == HS_ORT_PLUGINS)
        return hs_fail(err, HSTU_EDEVICE, 0, "more than %d providers are in use", HS_ORT_PLUGINS);
    HS_TRY(keep_loaded(&plugin.path, err));
    HS_TRY(belong(&plugin.path, &runtime->lib.path, err));
    const rt_ep_device *const *device = NULL;
    size_t n_before = 0;
    HS_TRY(hs_ort_devices(runtime, &device, &n_before, err));
    const hs_rt *rt = &runtime->lib.rt;
    char what[640];
    snprintf(what, sizeof what, "cannot use the provider in '%.512s'", plugin.path.text);
    HS_TRY(
        hs_ort_check(rt, rt->register_library(runtime->env, plugin.name, plugin.path.text), HSTU_EDEVICE, what, err));
    name_provider(&plugin, runtime, n_before);
    runtime->plugin[runtime->n_plugins++] = plugin;
    return HSTU_OK;
}

const hs_ort_plugin *hs_ort_plugin_of(const hs_ort_runtime *runtime, const char *provider)
{
    for (int i = 0; *provider && i < runtime->n_plugins; i++) { /* a plug-in without devices has no name */
        if (strcmp(runtime->plugin[i].provider, provider) == 0)
            return &runtime->plugin[i];
    }
    return NULL;
}

hstu_status hs_ort_devices(const hs_ort_runtime *runtime, const rt_ep_device *const **out, size_t *n, hstu_error *err)
{
    const hs_rt *rt = &runtime->lib.rt;
    return hs_ort_check(
        rt, rt->ep_devices(runtime->env, out, n), HSTU_EDEVICE, "ONNX Runtime cannot list its devices", err);
}

bool hs_ort_is_built_in(const hs_ort_runtime *runtime, const char *provider)
{
    const hs_rt *rt = &runtime->lib.rt;
    char **name = NULL;
    int n = 0;
    bool found = false;
    rt_status *status = rt->built_in_providers(&name, &n);
    for (int i = 0; !status && i < n; i++)
        found = found || strcmp(name[i], provider) == 0;
    if (!status)
        status = rt->release_built_in_providers(name, n);
    if (status)
        rt->release_status(status);
    return found;
}
