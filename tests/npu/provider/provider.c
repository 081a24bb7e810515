/* A plug-in provider for ONNX Runtime that the tests use as an NPU: it offers one device of type NPU and computes graphs itself,
 * plainly, in fp32. It is written against the tables of the runtime's C interface, version 24 and later.
 *
 * The environment variable HSTU_VIRTUAL_NPU holds a list, separated by commas, of how it shall behave:
 *   decline=<operator>  does not take nodes of this type ("decline=Softmax"); may be given several times
 *   wrong=<number>      results of MatMul and Gemm are too large by this share: "wrong=0.01" is one percent
 *   nan                 every floating-point output of a graph is NaN throughout
 *   fail_run=<n>        the n-th run with this setting fails with "the device was lost"
 *   fail_compile        compiling fails with "the compiler found no place for the graph"
 *   no_device           offers no device
 *   virtual             the device says is_virtual=1: it is for compiling ahead of time
 *   version=<n>         the library was made for interface version n, and refuses to work with a runtime that is older, or for
 *                       n below 24 with every runtime: "version=9", "version=99"
 * Each is read when it matters: version when the library is registered, devices when they are listed, decline and fail_compile
 * when a session is made, the others at every run. */
#include "provider.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { API_VERSION = 24, DEVICE_TYPE_NPU = 2, CODE_FAIL = 1 };

typedef struct factory factory;
typedef struct provider provider;
typedef struct compute compute;

/* OrtEpFactory, then what is ours. Functions that are not offered are NULL. */
struct factory {
    uint32_t version;
    const char *(*get_name)(const factory *f);
    const char *(*get_vendor)(const factory *f);
    ort_status *(*get_devices)(factory *f, const ort_hardware *const *hardware, size_t n_hardware, ort_device **device,
        size_t max_devices, size_t *n_devices);
    ort_status *(*create_provider)(factory *f, const ort_hardware *const *hardware, const ort_pairs *const *metadata,
        size_t n_hardware, const void *session_options, const void *logger, provider **out);
    void (*release_provider)(factory *f, provider *p);
    uint32_t (*get_vendor_id)(const factory *f);
    const char *(*get_version)(const factory *f);
    ort_function validate_compiled, create_allocator;
    void (*release_allocator)(factory *f, void *allocator);
    ort_status *(*create_data_transfer)(factory *f, void **transfer);
    bool (*is_stream_aware)(const factory *f);
    ort_function later[12];
    vnpu_ort ort;
    ort_hardware *hardware;
};

/* OrtEp */
struct provider {
    uint32_t version;
    const char *(*get_name)(const provider *p);
    ort_status *(*get_capability)(provider *p, const ort_graph *graph, ort_support *support);
    ort_status *(*compile)(
        provider *p, const ort_graph **graph, const ort_node **fused, size_t n, compute **out, ort_node **context_node);
    void (*release_computes)(provider *p, compute **c, size_t n);
    ort_function later[20];
    const vnpu_ort *ort;
};

/* OrtNodeComputeInfo */
struct compute {
    uint32_t version;
    ort_status *(*create_state)(compute *c, void *context, void **state);
    ort_status *(*run)(compute *c, void *state, ort_context *context);
    void (*release_state)(compute *c, void *state);
    ort_function later[4];
    vnpu_plan *plan;
};

ort_status *vnpu_fail(const vnpu_ort *ort, const char *format, ...)
{
    char text[256];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return ort->create_status(CODE_FAIL, text);
}

/* The text behind `key` and '=' in the list; behind the whole item when it has no '='. NULL: not in the list. */
static const char *find_setting(const char *key, size_t key_length)
{
    const char *item = getenv("HSTU_VIRTUAL_NPU");
    while (item && *item) {
        size_t length = strcspn(item, ",");
        if (length >= key_length && memcmp(item, key, key_length) == 0 &&
            (length == key_length || item[key_length] == '='))
            return item + key_length + (length > key_length);
        item += length + (item[length] == ',');
    }
    return NULL;
}

bool vnpu_asked(const char *item)
{
    const char *rest = find_setting(item, strlen(item));
    return rest && (*rest == '\0' || *rest == ',');
}

bool vnpu_number(const char *key, double *number)
{
    const char *text = find_setting(key, strlen(key));
    char *end = NULL;
    if (!text)
        return false;
    double d = strtod(text, &end);
    if (end == text)
        return false;
    *number = d;
    return true;
}

/* ---- a compiled graph ------------------------------------------------------------------------------------------------ */

static ort_status *create_state(compute *c, void *context, void **state)
{
    (void)context;
    *state = c->plan;
    return NULL;
}

static ort_status *run_state(compute *c, void *state, ort_context *context)
{
    (void)c;
    return vnpu_plan_run(state, context);
}

static void release_state(compute *c, void *state)
{
    (void)c;
    (void)state; /* is the plan, which goes with its compute */
}

static void release_computes(provider *p, compute **c, size_t n)
{
    (void)p;
    for (size_t i = 0; i < n; i++) {
        if (c[i])
            vnpu_plan_free(c[i]->plan);
        free(c[i]);
        c[i] = NULL;
    }
}

static ort_status *compile(
    provider *p, const ort_graph **graph, const ort_node **fused, size_t n, compute **out, ort_node **context_node)
{
    (void)context_node;
    if (vnpu_asked("fail_compile"))
        return vnpu_fail(p->ort, "the compiler found no place for the graph");
    for (size_t i = 0; i < n; i++)
        out[i] = NULL;
    for (size_t i = 0; i < n; i++) {
        compute *c = calloc(1, sizeof *c);
        ort_status *status =
            c ? vnpu_plan_new(p->ort, graph[i], fused[i], &c->plan) : vnpu_fail(p->ort, "no memory to compile with");
        if (status) {
            free(c);
            release_computes(p, out, i);
            return status;
        }
        c->version = API_VERSION;
        c->create_state = create_state;
        c->run = run_state;
        c->release_state = release_state;
        out[i] = c;
    }
    return NULL;
}

/* Nodes come in an order in which inputs stand before their users, so every run of neighbours without a gap is convex. */
static ort_status *take_runs(provider *p, const ort_node **node, size_t n, ort_support *support)
{
    size_t first = 0;
    for (size_t i = 0; i <= n; i++) {
        bool yes = false;
        if (i < n)
            VNPU_TRY(vnpu_can_run(p->ort, node[i], &yes));
        if (yes)
            continue;
        if (i > first)
            VNPU_TRY(p->ort->add_nodes(support, node + first, i - first, NULL));
        first = i + 1;
    }
    return NULL;
}

static ort_status *get_capability(provider *p, const ort_graph *graph, ort_support *support)
{
    size_t n = 0;
    VNPU_TRY(p->ort->n_nodes(graph, &n));
    if (n == 0)
        return NULL;
    const ort_node **node = calloc(n, sizeof *node);
    if (!node)
        return vnpu_fail(p->ort, "no memory for the list of %zu nodes", n);
    ort_status *status = p->ort->nodes(graph, node, n);
    if (!status)
        status = take_runs(p, node, n, support);
    free(node);
    return status;
}

static const char *provider_name(const provider *p)
{
    (void)p;
    return "VirtualNpuExecutionProvider";
}

/* ---- the factory ----------------------------------------------------------------------------------------------------- */

static const char *factory_name(const factory *f)
{
    (void)f;
    return provider_name(NULL);
}

static const char *factory_vendor(const factory *f)
{
    (void)f;
    return "hstu tests";
}

static uint32_t factory_vendor_id(const factory *f)
{
    (void)f;
    return 0x4853;
}

static const char *factory_version(const factory *f)
{
    (void)f;
    return "1.2.3";
}

static ort_status *create_hardware(factory *f)
{
    ort_pairs *metadata = NULL;
    f->ort.create_pairs(&metadata);
    f->ort.add_pair(metadata, "Description", "virtual NPU");
    if (vnpu_asked("virtual"))
        f->ort.add_pair(metadata, "is_virtual", "1");
    ort_status *status =
        f->ort.create_hardware(DEVICE_TYPE_NPU, factory_vendor_id(f), 1, factory_vendor(f), metadata, &f->hardware);
    f->ort.release_pairs(metadata);
    return status;
}

static ort_status *get_devices(factory *f, const ort_hardware *const *hardware, size_t n_hardware, ort_device **device,
    size_t max_devices, size_t *n_devices)
{
    (void)hardware; /* what the runtime found in this machine: none of it is ours */
    (void)n_hardware;
    *n_devices = 0;
    if (max_devices == 0 || vnpu_asked("no_device"))
        return NULL;
    if (!f->hardware)
        VNPU_TRY(create_hardware(f));
    VNPU_TRY(f->ort.create_device(f, f->hardware, NULL, NULL, &device[0]));
    *n_devices = 1;
    return NULL;
}

static ort_status *create_provider(factory *f, const ort_hardware *const *hardware, const ort_pairs *const *metadata,
    size_t n_hardware, const void *session_options, const void *logger, provider **out)
{
    (void)hardware;
    (void)metadata;
    (void)n_hardware;
    (void)session_options;
    (void)logger;
    provider *p = calloc(1, sizeof *p);
    if (!p)
        return vnpu_fail(&f->ort, "no memory for the provider");
    p->version = API_VERSION;
    p->get_name = provider_name;
    p->get_capability = get_capability;
    p->compile = compile;
    p->release_computes = release_computes;
    p->ort = &f->ort;
    *out = p;
    return NULL;
}

static void release_provider(factory *f, provider *p)
{
    (void)f;
    free(p);
}

static void release_allocator(factory *f, void *allocator)
{
    (void)f;
    (void)allocator; /* we make none */
}

static ort_status *create_data_transfer(factory *f, void **transfer)
{
    (void)f;
    *transfer = NULL; /* tensors lie in the host's memory */
    return NULL;
}

static bool is_stream_aware(const factory *f)
{
    (void)f;
    return false;
}

static void fill_tables(vnpu_ort *ort, const ort_function *api)
{
#define VNPU_FILL(slot, result, name, parameters) ort->name = (result(*) parameters)table[slot];
    const ort_function *table = api;
    VNPU_ORT_FUNCTIONS(VNPU_FILL)
    table = ort->ep_api();
    VNPU_EP_FUNCTIONS(VNPU_FILL)
#undef VNPU_FILL
}

static void fill_factory(factory *f)
{
    f->version = API_VERSION;
    f->get_name = factory_name;
    f->get_vendor = factory_vendor;
    f->get_devices = get_devices;
    f->create_provider = create_provider;
    f->release_provider = release_provider;
    f->get_vendor_id = factory_vendor_id;
    f->get_version = factory_version;
    f->release_allocator = release_allocator;
    f->create_data_transfer = create_data_transfer;
    f->is_stream_aware = is_stream_aware;
}

/* The interface version is the second number of a runtime's own: 28 in "1.28.0". */
static double runtime_version(const ort_base *base)
{
    const char *dot = strchr(base->get_version(), '.');
    return dot ? (double)strtol(dot + 1, NULL, 10) : 0;
}

__attribute__((visibility("default"))) ort_status *CreateEpFactories(const char *name, const ort_base *base,
    const void *logger, factory **out, size_t max_factories, size_t *n_factories);
__attribute__((visibility("default"))) ort_status *ReleaseEpFactory(factory *f);

ort_status *CreateEpFactories(const char *name, const ort_base *base, const void *logger, factory **out,
    size_t max_factories, size_t *n_factories)
{
    (void)name;
    (void)logger;
    const ort_function *api = base->get_api(API_VERSION);
    double version = API_VERSION;
    *n_factories = 0;
    if (!api || max_factories == 0) /* an older runtime: without its table there is not even a status to make */
        return NULL;
    factory *f = calloc(1, sizeof *f);
    if (!f)
        return ((ort_status * (*)(int, const char *)) api[0])(CODE_FAIL, "no memory for the provider's factory");
    fill_tables(&f->ort, api);
    fill_factory(f);
    if (vnpu_number("version", &version) && (version < API_VERSION || version > runtime_version(base))) {
        ort_status *status = vnpu_fail(&f->ort, "the provider was made for interface version %g", version);
        free(f);
        return status;
    }
    out[0] = f;
    *n_factories = 1;
    return NULL;
}

ort_status *ReleaseEpFactory(factory *f)
{
    if (f && f->hardware)
        f->ort.release_hardware(f->hardware);
    free(f);
    return NULL;
}
