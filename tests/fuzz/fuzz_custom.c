/* Custom logs. The first byte holds the options: the time's unit (0 .. 4 in three bits), the kind of actions, whether ids are
 * texts, whether the header is given. The rest is the file, or what follows the header. */
#include "fuzz_file.h"

#include "data/custom.h"

#include <string.h>

static const char header[] = "u,i,t,a,b\n";

static void check(int condition)
{
    if (!condition)
        __builtin_trap();
}

static hstu_status check_events(void *ctx, const hs_event_block *block, hstu_error *err)
{
    const hs_custom *custom = ctx;
    (void)err;
    for (int64_t i = 0; i < block->view.n_events; i++) {
        const int64_t item = block->view.item[i];
        check(item >= 0 && (!custom->items.are_texts || (item >= 1 && (size_t)item <= custom->items.texts.n)));
        check(block->view.time_ms[i] >= custom->min_time_ms && block->view.time_ms[i] <= custom->max_time_ms);
    }
    return HSTU_OK;
}

static void write_texts(const hs_custom_ids *ids)
{
    hs_outfile *file = NULL;
    hstu_error err;
    check(hs_idtexts_write(&file, "/dev/null", &ids->texts, "item_id", &err) == HSTU_OK);
    hs_outfile_discard(file);
}

/* One reading into a sink of its own; whether another one must follow. */
static bool read_once(hs_custom *custom)
{
    const hs_eventsink_options options = {.memory_limit = 64 << 20, .threads = 1, .folder = "/tmp"};
    hs_eventsink *sink = NULL;
    hs_warnings warnings = {0};
    hstu_error err = {0};
    bool again = false;
    check(hs_eventsink_open(&sink, &options, &err) == HSTU_OK);
    const hstu_status status = hs_custom_read(custom, sink, &warnings, &again, &err);
    if (status != HSTU_OK) {
        check(status == HSTU_EFORMAT && err.code == status && err.msg[0]);
        again = false;
    } else if (!again) {
        const hs_block_consumer consumer = {.ctx = custom, .in_turn = check_events};
        check(hs_eventsink_finish(sink, &err) == HSTU_OK);
        check(hs_eventsink_visit(sink, &consumer, NULL, &err) == HSTU_OK);
        write_texts(&custom->items);
    }
    hs_warnings_free(&warnings);
    hs_eventsink_close(sink);
    return again;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const units[] = {"s", "ms", "us", "ns", "iso", "s", "ms", "iso"};
    static const char *const actions[] = {"", "a", "a=4,b=128", "b=value"};
    static uint8_t file[sizeof header + (1 << 16)];
    if (size == 0 || size > 1 << 16)
        return 0;
    const size_t n_header = data[0] & 64 ? sizeof header - 1 : 0;
    memcpy(file, header, n_header);
    memcpy(file + n_header, data + 1, size - 1);
    const char *path = fuzz_file(file, n_header + size - 1);
    hstu_preprocess_options options;
    hs_custom custom;
    hstu_error err;
    hstu_preprocess_options_init(&options);
    options.input = &path;
    options.n_inputs = 1;
    options.user_column = "u";
    options.item_column = "i";
    options.time_column = "t";
    options.time_unit = units[data[0] & 7];
    options.action_columns = actions[data[0] >> 3 & 3];
    options.text_ids = data[0] >> 5 & 1;
    check(hs_custom_open(&custom, &options, 1 << 20, &err) == HSTU_OK);
    int n = 1;
    while (read_once(&custom))
        check(++n <= 3);
    hs_custom_close(&custom);
    return 0;
}
