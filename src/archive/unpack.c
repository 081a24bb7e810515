/* Unpacking: options, a look at the whole archive where that is cheap, the files, their names. */
#include "archive/unpack_int.h"
#include "base/error.h"

#include <locale.h>
#include <string.h>

void hstu_unpack_options_init(hstu_unpack_options *options)
{
    *options = (hstu_unpack_options){.size = sizeof *options,
        .max_entries = 1000000,
        .max_files = 1000,
        .max_file_bytes = UINT64_C(64) << 30,
        .max_total_bytes = UINT64_C(256) << 30,
        .max_ratio = 200};
}

static hstu_status check_options(const hstu_unpack_options *o, hstu_error *err)
{
    if (o->size != sizeof *o)
        return hs_fail(
            err, HSTU_EINVAL, 0, "unpack options of %zu bytes: please call hstu_unpack_options_init first", o->size);
    if (!o->archive || !*o->archive || !o->folder || !*o->folder)
        return hs_fail(err, HSTU_EINVAL, 0, "unpacking needs an archive and a folder");
    if (!o->max_entries || !o->max_files || !o->max_ratio)
        return hs_fail(err, HSTU_EINVAL, 0, "max_entries, max_files and max_ratio of unpacking must be at least 1");
    if (o->n_patterns && !o->pattern)
        return hs_fail(err, HSTU_EINVAL, 0, "unpacking is told of %zu patterns, and none is there", o->n_patterns);
    for (size_t i = 0; i < o->n_patterns; i++) {
        if (!o->pattern[i])
            return hs_fail(err, HSTU_EINVAL, 0, "pattern %zu of unpacking is NULL", i);
    }
    return HSTU_OK;
}

static hstu_status fail_nothing(const hstu_unpack_options *o, hstu_error *err)
{
    return o->n_patterns ? hs_fail(err, HSTU_EFORMAT, 0, "'%s' holds none of the wanted files, such as '%s'",
                               o->archive, o->pattern[o->n_patterns - 1])
                         : hs_fail(err, HSTU_EFORMAT, 0, "'%s' holds no file", o->archive);
}

/* Where nothing has to be undone to find the next entry: then what is refused is so before anything is written. */
static hstu_status look(const hs_la *la, hs_unpack_source *source, hs_unpack_files *files, hstu_error *err)
{
    hstu_unpack_report report = {0};
    HS_TRY(hs_unpack_walk(la, source, files, true, &report, err));
    if (!report.n_files)
        return fail_nothing(files->options, err);
    HS_TRY(hs_unpack_files_check_space(files, report.n_bytes, err));
    hs_unpack_files_discard(files);
    return hs_unpack_source_rewind(source, err);
}

static hstu_status unpack(
    const hs_la *la, hs_unpack_source *source, hs_unpack_files *files, hstu_unpack_report *report, hstu_error *err)
{
    HS_TRY(hs_unpack_files_check_space(files, files->options->needed_bytes, err));
    if (hs_unpack_source_form(source) != HS_UNPACK_TAR_GZ)
        HS_TRY(look(la, source, files, err));
    HS_TRY(hs_unpack_walk(la, source, files, false, report, err));
    if (!report->n_files)
        return fail_nothing(files->options, err);
    return hs_unpack_files_commit(files, err);
}

/* libarchive turns names that are known to be UTF-8 into the thread's own encoding, of which a program that never calls
 * setlocale has none. */
static hstu_status unpack_in_utf8(
    const hs_la *la, hs_unpack_source *source, hs_unpack_files *files, hstu_unpack_report *report, hstu_error *err)
{
    const locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    const locale_t before = utf8 ? uselocale(utf8) : (locale_t)0;
    const hstu_status status = unpack(la, source, files, report, err);
    if (utf8) {
        (void)uselocale(before);
        freelocale(utf8);
    }
    return status;
}

hstu_status hstu_unpack(const hstu_unpack_options *options, hstu_unpack_report *report, hstu_error *err)
{
    hs_la la = {0};
    hs_unpack_source *source = NULL;
    hs_unpack_files files = {.options = options};
    hstu_unpack_report done = {0};
    hstu_status status = HSTU_OK;
    HS_TRY(check_options(options, err));
    HS_TRY(hs_unpack_source_open(&source, options, err));
    HS_TRY_GOTO(hs_la_load(&la, NULL, err));
    HS_TRY_GOTO(unpack_in_utf8(&la, source, &files, &done, err));
    if (report)
        *report = done;
fail:
    hs_unpack_files_discard(&files);
    hs_unpack_source_close(source);
    hs_la_close(&la);
    return status;
}
