/* Whether a library's file is whole: the loader maps what the headers promise, and a file that was cut short ends the program. */
#include "base/error.h"
#include "base/mapfile.h"
#include "ort/ort_int.h"

#include <elf.h>
#include <inttypes.h>
#include <link.h>
#include <string.h>

/* Bytes of the file that its segments want; 0 for what is no library of this machine's, of which the loader tells. */
static uint64_t wanted_bytes(const hs_mapfile *file)
{
    ElfW(Ehdr) header;
    uint64_t most = 0;
    if (file->size < sizeof header || memcmp(file->data, ELFMAG, SELFMAG) != 0)
        return 0;
    memcpy(&header, file->data, sizeof header);
    if (header.e_phentsize != sizeof(ElfW(Phdr)))
        return 0;
    for (uint64_t i = 0; i < header.e_phnum; i++) {
        ElfW(Phdr) segment;
        const uint64_t at = header.e_phoff + i * sizeof segment;
        if (at < header.e_phoff || at > file->size || file->size - at < sizeof segment)
            return UINT64_MAX;
        memcpy(&segment, file->data + at, sizeof segment);
        const uint64_t end = (uint64_t)segment.p_offset + segment.p_filesz;
        if (segment.p_type == PT_LOAD && end > most)
            most = end;
        if (end < segment.p_offset)
            return UINT64_MAX;
    }
    return most;
}

hstu_status hs_ort_check_file(const char *path, hstu_error *err)
{
    hs_mapfile file;
    if (hs_mapfile_open(&file, path, NULL) != HSTU_OK)
        return HSTU_OK; /* the loader knows why */
    const uint64_t size = file.size, wanted = wanted_bytes(&file);
    hs_mapfile_close(&file);
    if (wanted <= size)
        return HSTU_OK;
    return hs_fail(err, HSTU_EDEVICE, 0,
        "the library '%.300s' is cut short: it has %" PRIu64
        " bytes, and its own headers name more; please fetch it again",
        path, size);
}
