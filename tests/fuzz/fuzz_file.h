/* Fuzz input as a file, for parsers that map files. */
#ifndef FUZZ_FILE_H
#define FUZZ_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The path of an unlinked temporary file that holds the input; the same file every time. */
static inline const char *fuzz_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        char in_memory[] = "/dev/shm/hstu_fuzz_XXXXXX", on_disk[] = "/tmp/hstu_fuzz_XXXXXX";
        fd = mkstemp(in_memory);
        const char *name = fd < 0 ? on_disk : in_memory;
        if (fd < 0 && (fd = mkstemp(on_disk)) < 0)
            __builtin_trap();
        (void)unlink(name);
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        __builtin_trap();
    return path;
}

#endif
