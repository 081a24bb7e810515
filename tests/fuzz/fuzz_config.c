/* Configuration files are hostile input: whatever is accepted must survive being written and read again, unchanged. */
#include "base/alloc.h"
#include "model/config.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hs_config config, again;
    hstu_error err;
    if (hs_config_parse(&config, (const char *)data, size, HS_CONFIG_ANY, "fuzz.json", &err) != HSTU_OK)
        return 0;
    char *text = hs_config_to_json(&config);
    if (!text || hs_config_parse(&again, text, strlen(text), HS_CONFIG_ANY, "again.json", &err) != HSTU_OK)
        __builtin_trap();
    char *text_again = hs_config_to_json(&again);
    if (!text_again || strcmp(text, text_again) != 0)
        __builtin_trap();
    (void)hs_config_require_complete(&again, &err);
    hs_config_free(&again);
    hs_config_free(&config);
    hs_free(text_again);
    hs_free(text);
    return 0;
}
