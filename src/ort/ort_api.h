/* ONNX Runtime's C interface as far as it is used here: functions by their place in the runtime's tables. The tables only ever
 * grow, so a place means the same function in every version (docs/npu.md). Objects are opaque; a status is NULL for success. */
#ifndef HS_ORT_ORT_API_H
#define HS_ORT_ORT_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rt_status rt_status;
typedef struct rt_env rt_env;
typedef struct rt_session rt_session;
typedef struct rt_options rt_options;
typedef struct rt_memory rt_memory;
typedef struct rt_value rt_value;
typedef struct rt_binding rt_binding;
typedef struct rt_shape rt_shape;
typedef struct rt_type rt_type;
typedef struct rt_value_info rt_value_info;
typedef struct rt_attribute rt_attribute;
typedef struct rt_node rt_node;
typedef struct rt_graph rt_graph;
typedef struct rt_model rt_model;
typedef struct rt_pairs rt_pairs;
typedef struct rt_ep_device rt_ep_device;
typedef struct rt_hardware rt_hardware;
typedef struct rt_cann rt_cann;
typedef struct rt_part rt_part;           /* the nodes that one provider was given */
typedef struct rt_part_node rt_part_node; /* one of them */
typedef struct rt_editor_table rt_editor_table;

typedef void rt_log_fn(
    void *param, int level, const char *category, const char *id, const char *where, const char *text);

/* The runtime reads members only as far as `version` says there are any. */
typedef struct rt_env_creation {
    uint32_t version;
    int32_t log_level;
    const char *log_id;
    rt_log_fn *log;
    void *log_param;
    const void *threading;
    const rt_pairs *config;
} rt_env_creation;

enum { RT_LOG_WARNING = 2, RT_LOG_ERROR = 3 };
enum { RT_OPTIMISE_NONE = 0, RT_OPTIMISE_BASIC = 1, RT_OPTIMISE_ALL = 99 };
enum { RT_HARDWARE_CPU = 0, RT_HARDWARE_GPU = 1, RT_HARDWARE_NPU = 2 };
enum { RT_ATTRIBUTE_INT = 1, RT_ATTRIBUTE_INTS = 2 };
enum { RT_F32 = 1, RT_U8 = 2, RT_I32 = 6, RT_I64 = 7, RT_BOOL = 9, RT_F16 = 10 };
enum { RT_ALLOCATOR_DEVICE = 0, RT_MEMORY_DEFAULT = 0 };

/* X(place, result, name, arguments) of the main table */
#define HS_RT_MAP(X)                                                                                                   \
    X(2, const char *, status_text, (const rt_status *status))                                                         \
    X(8, rt_status *, create_session_from_bytes,                                                                       \
        (const rt_env *env, const void *bytes, size_t n, const rt_options *options, rt_session **out))                 \
    X(10, rt_status *, create_options, (rt_options * *out))                                                            \
    X(23, rt_status *, set_optimisation, (rt_options * options, int level))                                            \
    X(24, rt_status *, set_threads, (rt_options * options, int threads))                                               \
    X(49, rt_status *, create_value,                                                                                   \
        (const rt_memory *memory, void *data, size_t bytes, const int64_t *size, size_t rank, int type,                \
            rt_value **out))                                                                                           \
    X(57, rt_status *, create_shape, (rt_shape * *out))                                                                \
    X(58, rt_status *, set_shape_type, (rt_shape * shape, int type))                                                   \
    X(59, rt_status *, set_shape_size, (rt_shape * shape, const int64_t *size, size_t rank))                           \
    X(69, rt_status *, create_cpu_memory, (int allocator, int kind, rt_memory **out))                                  \
    X(92, void, release_env, (rt_env * env))                                                                           \
    X(93, void, release_status, (rt_status * status))                                                                  \
    X(94, void, release_memory, (rt_memory * memory))                                                                  \
    X(95, void, release_session, (rt_session * session))                                                               \
    X(96, void, release_value, (rt_value * value))                                                                     \
    X(98, void, release_type, (rt_type * type))                                                                        \
    X(99, void, release_shape, (rt_shape * shape))                                                                     \
    X(100, void, release_options, (rt_options * options))                                                              \
    X(125, rt_status *, built_in_providers, (char ***out, int *n))                                                     \
    X(126, rt_status *, release_built_in_providers, (char **names, int n))                                             \
    X(130, rt_status *, set_config, (rt_options * options, const char *key, const char *value))                        \
    X(133, rt_status *, run_binding, (rt_session * session, const void *run_options, const rt_binding *binding))       \
    X(134, rt_status *, create_binding, (rt_session * session, rt_binding * *out))                                     \
    X(135, void, release_binding, (rt_binding * binding))                                                              \
    X(136, rt_status *, bind_input, (rt_binding * binding, const char *name, const rt_value *value))                   \
    X(137, rt_status *, bind_output, (rt_binding * binding, const char *name, const rt_value *value))                  \
    X(211, rt_status *, create_attribute, (const char *name, const void *data, int n, int type, rt_attribute **out))   \
    X(212, void, release_attribute, (rt_attribute * attribute))                                                        \
    X(216, rt_status *, append_by_name,                                                                                \
        (rt_options * options, const char *name, const char *const *key, const char *const *value, size_t n))          \
    X(220, rt_status *, append_cann, (rt_options * options, const rt_cann *cann))                                      \
    X(221, rt_status *, create_cann, (rt_cann * *out))                                                                 \
    X(222, rt_status *, update_cann, (rt_cann * cann, const char *const *key, const char *const *value, size_t n))     \
    X(224, void, release_cann, (rt_cann * cann))                                                                       \
    X(285, void, release_value_info, (rt_value_info * info))                                                           \
    X(286, void, release_node, (rt_node * node))                                                                       \
    X(287, void, release_graph, (rt_graph * graph))                                                                    \
    X(288, void, release_model, (rt_model * model))                                                                    \
    X(291, const rt_editor_table *, editor, (void))                                                                    \
    X(295, void, create_pairs, (rt_pairs * *out))                                                                      \
    X(296, void, add_pair, (rt_pairs * pairs, const char *key, const char *value))                                     \
    X(297, const char *, pair, (const rt_pairs *pairs, const char *key))                                               \
    X(300, void, release_pairs, (rt_pairs * pairs))                                                                    \
    X(301, rt_status *, register_library, (rt_env * env, const char *name, const char *path))                          \
    X(302, rt_status *, unregister_library, (rt_env * env, const char *name))                                          \
    X(303, rt_status *, ep_devices, (const rt_env *env, const rt_ep_device *const **out, size_t *n))                   \
    X(304, rt_status *, append_devices,                                                                                \
        (rt_options * options, rt_env * env, const rt_ep_device *const *device, size_t n_devices,                      \
            const char *const *key, const char *const *value, size_t n))                                               \
    X(307, int, hardware_kind, (const rt_hardware *hardware))                                                          \
    X(308, uint32_t, hardware_vendor_id, (const rt_hardware *hardware))                                                \
    X(309, const char *, hardware_vendor, (const rt_hardware *hardware))                                               \
    X(311, const rt_pairs *, hardware_facts, (const rt_hardware *hardware))                                            \
    X(312, const char *, ep_name, (const rt_ep_device *device))                                                        \
    X(313, const char *, ep_vendor, (const rt_ep_device *device))                                                      \
    X(314, const rt_pairs *, ep_facts, (const rt_ep_device *device))                                                   \
    X(316, const rt_hardware *, ep_hardware, (const rt_ep_device *device))                                             \
    X(406, rt_status *, create_env, (const rt_env_creation *how, rt_env **out))                                        \
    X(407, rt_status *, session_parts, (const rt_session *session, const rt_part *const **out, size_t *n))             \
    X(408, rt_status *, part_provider, (const rt_part *part, const char **out))                                        \
    X(409, rt_status *, part_nodes, (const rt_part *part, const rt_part_node *const **out, size_t *n))                 \
    X(412, rt_status *, part_node_op, (const rt_part_node *node, const char **out))

/* The same of the table that builds models. What is given to a parent is the parent's when the call succeeds. */
#define HS_RT_EDITOR_MAP(X)                                                                                            \
    X(0, rt_status *, create_type, (const rt_shape *shape, rt_type **out))                                             \
    X(5, rt_status *, create_value_info, (const char *name, const rt_type *type, rt_value_info **out))                 \
    X(6, rt_status *, create_node,                                                                                     \
        (const char *op, const char *domain, const char *name, const char *const *input, size_t n_inputs,              \
            const char *const *output, size_t n_outputs, rt_attribute **attribute, size_t n_attributes,                \
            rt_node **out))                                                                                            \
    X(7, rt_status *, create_graph, (rt_graph * *out))                                                                 \
    X(8, rt_status *, set_inputs, (rt_graph * graph, rt_value_info * *input, size_t n))                                \
    X(9, rt_status *, set_outputs, (rt_graph * graph, rt_value_info * *output, size_t n))                              \
    X(10, rt_status *, add_initialiser, (rt_graph * graph, const char *name, rt_value *value, bool in_place))          \
    X(11, rt_status *, add_node, (rt_graph * graph, rt_node * node))                                                   \
    X(12, rt_status *, create_model,                                                                                   \
        (const char *const *domain, const int *version, size_t n_domains, rt_model **out))                             \
    X(13, rt_status *, add_graph, (rt_model * model, rt_graph * graph))                                                \
    X(14, rt_status *, create_session,                                                                                 \
        (const rt_env *env, const rt_model *model, const rt_options *options, rt_session **out))

#define HS_RT_MEMBER(place, result, name, arguments) result(*name) arguments;
typedef struct hs_rt_editor {
    HS_RT_EDITOR_MAP(HS_RT_MEMBER)
} hs_rt_editor;
typedef struct hs_rt {
    HS_RT_MAP(HS_RT_MEMBER)
    hs_rt_editor edit;
} hs_rt;
#undef HS_RT_MEMBER

#endif
