/* Options of NPUs that several verbs have. */
#ifndef HS_CLI_NPU_OPTIONS_H
#define HS_CLI_NPU_OPTIONS_H

#include "cli/options.h"
#include "hstu/npu.h"

/* Rows of a verb's table. */
#define HS_OPTION_ORT_LIBRARY                                                                                          \
    {                                                                                                                  \
        "ort_library", HS_OPTION_TEXT, "FILE", NULL,                                                                   \
            "HSTU_ORT_LIBRARY, what scripts/get_onnxruntime fetched, the system's", 0, 0, "ONNX Runtime's library"     \
    }
#define HS_OPTION_ORT_PROVIDER_LIBRARY                                                                                 \
    {                                                                                                                  \
        "ort_provider_library", HS_OPTION_TEXT, "FILE", NULL,                                                          \
            "HSTU_ORT_PROVIDER_LIBRARY, what scripts/get_onnxruntime fetched", 0, 0,                                   \
            "library of a vendor's plug-in for ONNX Runtime"                                                           \
    }

#endif
