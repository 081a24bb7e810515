/* The CSV reader, plain and gzip: slices stay within the row, and a packed file reads as its text does. */
#include "fuzz_file.h"

#include "data/csv.h"

#include <string.h>

enum { MAX_ROW_BYTES = 4096 };

static void check(int condition)
{
    if (!condition)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hs_csv csv;
    hstu_error err = {0};
    bool more = true;
    uint64_t line = 1;
    if (hs_csv_open(&csv, fuzz_file(data, size), MAX_ROW_BYTES, &err) != HSTU_OK) {
        check(err.code == HSTU_EFORMAT && err.msg[0]);
        return 0;
    }
    check(csv.n_columns >= 1 && csv.n_columns <= HS_CSV_MAX_COLUMNS);
    while (more) {
        if (hs_csv_next(&csv, &more, &err) != HSTU_OK) {
            check(err.code == HSTU_EFORMAT && err.msg[0]);
            break;
        }
        if (!more)
            break;
        check(csv.line > line && csv.row_bytes <= MAX_ROW_BYTES);
        line = csv.line;
        uint8_t sum = 0;
        for (size_t i = 0; i < csv.n_columns; i++) {
            int64_t value = 0;
            check(csv.field[i].len <= csv.row_bytes);
            for (size_t k = 0; k < csv.field[i].len; k++)
                sum = (uint8_t)(sum + (uint8_t)csv.field[i].text[k]); /* reads every byte under the sanitizer */
            if (hs_csv_int(&csv, i, -100, 100, &value, &err) == HSTU_OK)
                check(value >= -100 && value <= 100);
        }
        check(sum <= UINT8_MAX);
    }
    (void)hs_bytesource_hash(csv.source);
    hs_csv_close(&csv);
    return 0;
}
