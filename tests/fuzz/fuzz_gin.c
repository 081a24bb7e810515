/* Gin files are hostile input: every binding has a line, and what is accepted as a configuration survives being
 * written and read again, unchanged. */
#include "base/alloc.h"
#include "model/config.h"
#include "model/gin.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cJSON *root = NULL;
    hstu_error err;
    hs_config config, again;
    if (hs_gin_parse(&root, (const char *)data, size, "fuzz.gin", &err) != HSTU_OK)
        return 0;
    const cJSON *entry = NULL;
    cJSON_ArrayForEach(entry, root)
    {
        if (!cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(entry, "line")) ||
            !cJSON_GetObjectItemCaseSensitive(entry, "value"))
            __builtin_trap();
    }
    cJSON_Delete(root);
    if (hs_config_parse(&config, (const char *)data, size, HS_CONFIG_RANKING, "fuzz.gin", &err) != HSTU_OK)
        return 0;
    char *text = hs_config_to_json(&config);
    if (!text || hs_config_parse(&again, text, strlen(text), HS_CONFIG_ANY, "again.json", &err) != HSTU_OK)
        __builtin_trap();
    char *text_again = hs_config_to_json(&again);
    if (!text_again || strcmp(text, text_again) != 0)
        __builtin_trap();
    hs_free(text_again);
    hs_free(text);
    hs_config_free(&again);
    hs_config_free(&config);
    return 0;
}
