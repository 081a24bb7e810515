/* The tests' own NPU: what its files share. The runtime's functions stand in tables at fixed places; no header of it is used.
 * Everything hangs on the factory, so that one process may load the provider into several runtimes. */
#ifndef TESTS_NPU_PROVIDER_H
#define TESTS_NPU_PROVIDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ort_status ort_status; /* NULL is success; otherwise owned by the caller */
typedef struct ort_graph ort_graph;
typedef struct ort_node ort_node;
typedef struct ort_value_info ort_value_info;
typedef struct ort_type_info ort_type_info;
typedef struct ort_tensor_info ort_tensor_info;
typedef struct ort_attribute ort_attribute;
typedef struct ort_value ort_value;
typedef struct ort_context ort_context;
typedef struct ort_pairs ort_pairs;
typedef struct ort_hardware ort_hardware;
typedef struct ort_device ort_device;
typedef struct ort_support ort_support;

typedef void (*ort_function)(void);
typedef struct ort_base {
    const ort_function *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} ort_base;

/* X(slot of OrtApi, result, name, parameters) */
#define VNPU_ORT_FUNCTIONS(X)                                                                                          \
    X(0, ort_status *, create_status, (int code, const char *message))                                                 \
    X(51, ort_status *, tensor_data, (ort_value * value, void **data))                                                 \
    X(55, ort_status *, type_as_tensor, (const ort_type_info *type, const ort_tensor_info **tensor))                   \
    X(60, ort_status *, element_type, (const ort_tensor_info *tensor, int *type))                                      \
    X(61, ort_status *, n_dimensions, (const ort_tensor_info *tensor, size_t *n))                                      \
    X(62, ort_status *, dimensions, (const ort_tensor_info *tensor, int64_t *size, size_t n))                          \
    X(65, ort_status *, value_shape, (const ort_value *value, ort_tensor_info **tensor))                               \
    X(90, ort_status *, context_input, (const ort_context *context, size_t i, const ort_value **value))                \
    X(91, ort_status *, context_output,                                                                                \
        (ort_context * context, size_t i, const int64_t *size, size_t rank, ort_value **value))                        \
    X(93, void, release_status, (ort_status * status))                                                                 \
    X(99, void, release_shape, (ort_tensor_info * tensor))                                                             \
    X(272, ort_status *, read_attribute,                                                                               \
        (const ort_attribute *attribute, int type, void *data, size_t bytes, size_t *needed))                          \
    X(289, ort_status *, value_name, (const ort_value_info *value, const char **name))                                 \
    X(290, ort_status *, value_type, (const ort_value_info *value, const ort_type_info **type))                        \
    X(295, void, create_pairs, (ort_pairs * *pairs))                                                                   \
    X(296, void, add_pair, (ort_pairs * pairs, const char *key, const char *value))                                    \
    X(300, void, release_pairs, (ort_pairs * pairs))                                                                   \
    X(317, const ort_function *, ep_api, (void))                                                                       \
    X(344, ort_status *, n_nodes, (const ort_graph *graph, size_t *n))                                                 \
    X(345, ort_status *, nodes, (const ort_graph *graph, const ort_node **node, size_t n))                             \
    X(350, ort_status *, node_type, (const ort_node *node, const char **type))                                         \
    X(351, ort_status *, node_domain, (const ort_node *node, const char **domain))                                     \
    X(353, ort_status *, n_node_inputs, (const ort_node *node, size_t *n))                                             \
    X(354, ort_status *, node_inputs, (const ort_node *node, const ort_value_info **value, size_t n))                  \
    X(355, ort_status *, n_node_outputs, (const ort_node *node, size_t *n))                                            \
    X(356, ort_status *, node_outputs, (const ort_node *node, const ort_value_info **value, size_t n))                 \
    X(359, ort_status *, n_node_attributes, (const ort_node *node, size_t *n))                                         \
    X(360, ort_status *, node_attributes, (const ort_node *node, const ort_attribute **attribute, size_t n))           \
    X(363, ort_status *, attribute_type, (const ort_attribute *attribute, int *type))                                  \
    X(364, ort_status *, attribute_name, (const ort_attribute *attribute, const char **name))

/* X(slot of OrtEpApi, result, name, parameters) */
#define VNPU_EP_FUNCTIONS(X)                                                                                           \
    X(0, ort_status *, create_device,                                                                                  \
        (void *factory, const ort_hardware *hardware, const ort_pairs *metadata, const ort_pairs *options,             \
            ort_device **device))                                                                                      \
    X(2, ort_status *, add_nodes, (ort_support * support, const ort_node *const *node, size_t n, const void *options)) \
    X(16, ort_status *, create_hardware,                                                                               \
        (int type, uint32_t vendor_id, uint32_t device_id, const char *vendor, const ort_pairs *metadata,              \
            ort_hardware **hardware))                                                                                  \
    X(17, void, release_hardware, (ort_hardware * hardware))

typedef struct vnpu_ort {
#define VNPU_MEMBER(slot, result, name, parameters) result(*name) parameters;
    VNPU_ORT_FUNCTIONS(VNPU_MEMBER)
    VNPU_EP_FUNCTIONS(VNPU_MEMBER)
#undef VNPU_MEMBER
} vnpu_ort;

/* Leaves the function with the runtime's status when there is one. */
#define VNPU_TRY(call)                                                                                                 \
    do {                                                                                                               \
        ort_status *try_status = (call);                                                                               \
        if (try_status)                                                                                                \
            return try_status;                                                                                         \
    } while (0)
ort_status *vnpu_fail(const vnpu_ort *ort, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- settings: the environment variable HSTU_VIRTUAL_NPU, read anew at each question -------------------------------- */

bool vnpu_asked(const char *item);                 /* whether the list holds exactly this item */
bool vnpu_number(const char *key, double *number); /* of an item "key=number" */

/* ---- tensors --------------------------------------------------------------------------------------------------------- */

/* Element types by ONNX's numbers. */
enum { VNPU_F32 = 1, VNPU_U8 = 2, VNPU_I32 = 6, VNPU_I64 = 7, VNPU_BOOL = 9, VNPU_F16 = 10 };
enum { VNPU_RANK = 8 };

typedef struct vnpu_tensor {
    int type, rank;
    int64_t size[VNPU_RANK];
    void *data; /* row-major */
} vnpu_tensor;

size_t vnpu_type_bytes(int type); /* 0 for a type that is not supported */
int64_t vnpu_elements(const vnpu_tensor *t);
size_t vnpu_bytes(const vnpu_tensor *t);
float vnpu_half_to_float(uint16_t half);
uint16_t vnpu_float_to_half(float number); /* to the nearest, ties to even */

/* ---- operators ------------------------------------------------------------------------------------------------------- */

typedef struct vnpu_attribute {
    char name[16];
    int n; /* integers; 0 for a float */
    int64_t integer[VNPU_RANK];
    float number;
} vnpu_attribute;

typedef struct vnpu_call {
    const vnpu_attribute *attribute;
    int n_attributes, n_inputs, n_outputs;
    const vnpu_tensor *const *input;  /* NULL for one that is left out */
    const vnpu_tensor *const *output; /* shapes and memory are there */
} vnpu_call;

/* How an operator takes its tensors. */
enum {
    VNPU_BYTES,   /* moves elements of any type */
    VNPU_NUMBERS, /* computes; what is fp16 comes and goes as fp32 */
    VNPU_FLOATS,  /* the same, and input 0 must be fp32 or fp16 */
};

typedef struct vnpu_op {
    const char *name;
    int kind;
    size_t min_inputs, max_inputs;
    int min_rank;                              /* of inputs 0 and 1 */
    const char *(*run)(const vnpu_call *call); /* NULL, or what is wrong */
} vnpu_op;

const vnpu_op *vnpu_find_op(const char *name);                                       /* NULL: unknown */
const vnpu_attribute *vnpu_attribute_named(const vnpu_call *call, const char *name); /* NULL: left out */
int64_t vnpu_integer(const vnpu_call *call, const char *name, int64_t otherwise);
float vnpu_float(const vnpu_call *call, const char *name, float otherwise);
int64_t vnpu_get_integer(const vnpu_tensor *t, int64_t i); /* t is of an integer type or bool */
/* axis with negative values counted from the end; -1 for one outside. */
int vnpu_axis(int64_t axis, int rank);
void vnpu_strides(const vnpu_tensor *t, int64_t *stride);

const char *vnpu_run_add(const vnpu_call *call);
const char *vnpu_run_sub(const vnpu_call *call);
const char *vnpu_run_mul(const vnpu_call *call);
const char *vnpu_run_div(const vnpu_call *call);
const char *vnpu_run_max(const vnpu_call *call);
const char *vnpu_run_min(const vnpu_call *call);
const char *vnpu_run_less_equal(const vnpu_call *call);
const char *vnpu_run_sqrt(const vnpu_call *call);
const char *vnpu_run_abs(const vnpu_call *call);
const char *vnpu_run_sigmoid(const vnpu_call *call);
const char *vnpu_run_relu(const vnpu_call *call);
const char *vnpu_run_erf(const vnpu_call *call);
const char *vnpu_run_cast(const vnpu_call *call);
const char *vnpu_run_softmax(const vnpu_call *call);
const char *vnpu_run_mean(const vnpu_call *call);
const char *vnpu_run_reduce_max(const vnpu_call *call);
const char *vnpu_run_matmul(const vnpu_call *call);
const char *vnpu_run_gemm(const vnpu_call *call);
const char *vnpu_run_top_k(const vnpu_call *call);
const char *vnpu_run_copy(const vnpu_call *call);
const char *vnpu_run_transpose(const vnpu_call *call);
const char *vnpu_run_concat(const vnpu_call *call);
const char *vnpu_run_split(const vnpu_call *call);
const char *vnpu_run_slice(const vnpu_call *call);
const char *vnpu_run_gather(const vnpu_call *call);

/* ---- graphs ---------------------------------------------------------------------------------------------------------- */

typedef struct vnpu_plan vnpu_plan; /* a compiled graph; several threads may run it */

/* Whether the provider can run the node. */
ort_status *vnpu_can_run(const vnpu_ort *ort, const ort_node *node, bool *yes);
/* fused tells the order of inputs and outputs. */
ort_status *vnpu_plan_new(const vnpu_ort *ort, const ort_graph *graph, const ort_node *fused, vnpu_plan **out);
void vnpu_plan_free(vnpu_plan *plan);
ort_status *vnpu_plan_run(const vnpu_plan *plan, ort_context *context);

#endif
