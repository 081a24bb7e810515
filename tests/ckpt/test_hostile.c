/* Hand-made hostile checkpoints: each is loaded or refused as cases.json says, quickly, with an error that names the
 * file, and nothing in them runs. */
#include "ckpt/pth.h"

#include "base/json.h"
#include "ckpt_support.h"

#include <time.h>

#define HOSTILE TEST_DATA "/pickle/hostile"

/* What the sentences must say, beyond the file's name. */
static const struct {
    const char *file, *says;
    hstu_status code;
} SAYS[] = {
    {"exec_os_system.pt", "'posix.system'", HSTU_EUNSUP},
    {"exec_builtins_eval.pt", "'__builtin__.eval'", HSTU_EUNSUP},
    {"exec_getattr.pt", "'os.path'", HSTU_EUNSUP},
    {"exec_inst.pt", "INST", HSTU_EUNSUP},
    {"exec_ext1.pt", "EXT1", HSTU_EUNSUP},
    {"exec_bare_pickle.pt", "magic number", HSTU_EFORMAT},
    {"global_unknown.pt", "'evil_module.Evil'", HSTU_EUNSUP},
    {"global_newline_injection.pt", "'os?.system'", HSTU_EUNSUP},
    {"global_dotted_torch.pt", "'torch.utils.data._utils.os.system'", HSTU_EUNSUP},
    {"storage_short.pt", "40 bytes, expected 48", HSTU_EFORMAT},
    {"storage_long.pt", "56 bytes, expected 48", HSTU_EFORMAT},
    {"storage_key_traversal.pt", "no entry", HSTU_EFORMAT},
    {"storage_numel_huge.pt", "element count", HSTU_EFORMAT},
    {"tensor_oob_size.pt", "[4, 4]", HSTU_EFORMAT},
    {"tensor_oob_stride.pt", "strides [", HSTU_EFORMAT},
    {"tensor_offset_negative.pt", "offset", HSTU_EFORMAT},
    {"tensor_offset_wrap.pt", "9223372036854775804", HSTU_EFORMAT},
    {"tensor_size_negative.pt", "size 0", HSTU_EFORMAT},
    {"tensor_shape_overflow.pt", "[8589934592, 8589934592]", HSTU_EFORMAT},
    {"tensor_expand_bomb.pt", "more than 64 times", HSTU_EUNSUP},
    {"tensor_rank_mismatch.pt", "same length", HSTU_EFORMAT},
    {"tensor_size_float.pt", "whole number", HSTU_EFORMAT},
    {"tensor_args_few.pt", "6 or 7 arguments and has 1", HSTU_EFORMAT},
    {"persid_not_tuple.pt", "persistent id", HSTU_EFORMAT},
    {"persid_kind.pt", "'storage'", HSTU_EFORMAT},
    {"zip_truncated_half.pt", "cut short", HSTU_EFORMAT},
    {"zip_deflated.pt", "compressed entry not supported", HSTU_EUNSUP},
    {"zip_wrong_crc_data.pt", "'archive/data/0' is damaged", HSTU_EFORMAT},
    {"zip_wrong_crc_pickle.pt", "CRC", HSTU_EFORMAT},
    {"zip_duplicate_pkl.pt", "twice", HSTU_EFORMAT},
    {"zip_two_roots.pt", "'archive' and in 'other'", HSTU_EFORMAT},
    {"zip_name_nul.pt", "NUL", HSTU_EFORMAT},
    {"zip_no_data_pkl.pt", "data.pkl", HSTU_EFORMAT},
    {"zip_big_endian.pt", "'big'", HSTU_EUNSUP},
    {"zip_version_999.pt", "999", HSTU_EUNSUP},
    {"zip_cd_count_huge.pt", "60000 entries", HSTU_EFORMAT},
    {"zip_local_offset_oob.pt", "no local header", HSTU_EFORMAT},
    {"zip_local_name_mismatch.pt", "names another entry", HSTU_EFORMAT},
    {"zip_encrypted_flag.pt", "encrypted", HSTU_EUNSUP},
    {"zip64_bogus_locator.pt", "4611686018427387904", HSTU_EFORMAT},
    {"pickle_memo_missing.pt", "slot 5", HSTU_EFORMAT},
    {"pickle_no_stop.pt", "STOP", HSTU_EFORMAT},
    {"pickle_bad_opcode.pt", "0xfe", HSTU_EFORMAT},
    {"pickle_mark_missing.pt", "MARK", HSTU_EFORMAT},
    {"pickle_setitems_odd.pt", "without a value", HSTU_EFORMAT},
    {"pickle_protocol_9.pt", "protocol 9", HSTU_EUNSUP},
    {"pickle_utf8_invalid.pt", "UTF-8", HSTU_EFORMAT},
    {"pickle_binunicode8_len.pt", "9223372036854775808", HSTU_EFORMAT},
    {"pickle_long4_negative.pt", "negative", HSTU_EFORMAT},
    {"not_empty_file.pt", "empty", HSTU_EFORMAT},
    {"not_git_lfs.pt", "git lfs pull", HSTU_EFORMAT},
    {"not_random.pt", "unknown kind of file", HSTU_EFORMAT},
    {"legacy_truncated.pt", "STOP", HSTU_EFORMAT},
    {"legacy_storage_short.pt", "needs 48 bytes", HSTU_EFORMAT},
    {"legacy_numel_negative.pt", "-12", HSTU_EFORMAT},
};

static size_t n_said;

static void check_sentence(const char *file, const hstu_error *err)
{
    for (size_t i = 0; i < sizeof SAYS / sizeof *SAYS; i++) {
        if (strcmp(SAYS[i].file, file) != 0)
            continue;
        if (!strstr(err->msg, SAYS[i].says) || err->code != SAYS[i].code)
            fail_msg("%s: expected '%s' in the sentence: %s (%d)", file, SAYS[i].says, err->msg, (int)err->code);
        n_said++;
    }
}

/* Every element can be read: what was accepted stays inside the file. */
static void read_everything(const hs_statedict *dict)
{
    for (size_t i = 0; i < dict->n_entries; i++) {
        const int64_t n = hs_tensor_elements(&dict->entry[i].tensor);
        float *values = malloc((size_t)n * sizeof *values + 1);
        hs_tensor_to_f32(&dict->entry[i].tensor, values);
        free(values);
    }
}

static void check_case(const char *file, const char *expect)
{
    char path[512];
    hs_statedict dict = {0};
    const hs_statedict untouched = {0};
    hstu_error err = {0};
    snprintf(path, sizeof path, HOSTILE "/%s", file);
    const hstu_status status = hs_ckpt_open(&dict, path, &err);
    if (status == HSTU_OK) {
        /* A safetensors file under another name may be refused or detected. */
        if (strcmp(expect, "refuse") == 0 && strcmp(file, "not_safetensors.pt") != 0)
            fail_msg("%s was loaded", file);
        read_everything(&dict);
        hs_statedict_close(&dict);
        return;
    }
    if (strcmp(expect, "load") == 0)
        fail_msg("%s was refused: %s", file, err.msg);
    assert_memory_equal(&dict, &untouched, sizeof dict);
    assert_int_equal(status, err.code);
    assert_true(status == HSTU_EFORMAT || status == HSTU_EUNSUP);
    if (!strstr(err.msg, file))
        fail_msg("the error does not name %s: %s", file, err.msg);
    check_sentence(file, &err);
}

static void hostile_files_behave(void **state)
{
    (void)state;
    bytes b = read_whole(HOSTILE "/cases.json");
    cJSON *root = NULL;
    const cJSON *item = NULL;
    hstu_error err;
    const clock_t begin = clock();
    int n = 0;
    if (hs_json_parse(&root, (const char *)b.data, b.size, "cases.json", &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    cJSON_ArrayForEach(item, root)
    {
        check_case(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "file")),
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "expect")));
        n++;
    }
    assert_int_equal(n, 71);
    assert_int_equal(n_said, sizeof SAYS / sizeof *SAYS);
    assert_true(clock() - begin < 5 * CLOCKS_PER_SEC);
    assert_int_not_equal(access("/tmp/GOLDEN_PWNED", F_OK), 0);
    assert_int_not_equal(access("/tmp/golden_pwned", F_OK), 0);
    assert_int_not_equal(access("GOLDEN_PWNED", F_OK), 0);
    cJSON_Delete(root);
    free(b.data);
}

static void control_has_its_contents(void **state)
{
    (void)state;
    hs_statedict dict = {0};
    hstu_error err;
    float values[12];
    if (hs_ckpt_open(&dict, HOSTILE "/00_control_good.pt", &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    const hs_entry *entry = hs_statedict_find(&dict, "", "w");
    const int64_t shape[2] = {3, 4};
    assert_non_null(entry);
    assert_true(hs_tensor_shape_is(&entry->tensor, 2, shape));
    hs_tensor_to_f32(&entry->tensor, values);
    for (int i = 0; i < 12; i++)
        assert_true(values[i] == (float)i);
    hs_statedict_close(&dict);
}

/* A file cut anywhere is refused: never a crash, never a load. */
static void every_cut_is_refused(void **state)
{
    (void)state;
    static const char *const files[] = {HOSTILE "/00_control_good.pt", TEST_DATA "/pickle/valid_torch2.11/legacy.pt",
        TEST_DATA "/pickle/valid_torch2.11/fp32.pt"};
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        bytes b = read_whole(files[f]);
        for (size_t n = 0; n < b.size; n++) {
            /* A block of exactly n bytes, so that a sanitizer sees a read behind it. */
            unsigned char *cut = malloc(n ? n : 1);
            hs_mapfile map = {.data = n ? cut : NULL, .size = n};
            hs_statedict dict = {0};
            memcpy(cut, b.data, n);
            assert_int_not_equal(hs_pth_read(&dict, &map, "cut", NULL), HSTU_OK);
            free(cut);
        }
        free(b.data);
    }
}

static void missing_file_is_named(void **state)
{
    (void)state;
    hs_statedict dict = {0};
    hstu_error err;
    assert_int_equal(hs_ckpt_open(&dict, "/tmp/no/such/file.pt", &err), HSTU_ENOENT);
    assert_non_null(strstr(err.msg, "/tmp/no/such/file.pt"));
}

static void web_pages_are_recognised(void **state)
{
    (void)state;
    static const char page[] = "<!DOCTYPE html><html><body>404</body></html>";
    char path[64];
    hs_statedict dict = {0};
    hstu_error err;
    write_temporary(path, page, sizeof page - 1);
    assert_int_equal(hs_ckpt_open(&dict, path, &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "HTML"));
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_files_behave),
        cmocka_unit_test(control_has_its_contents),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(missing_file_is_named),
        cmocka_unit_test(web_pages_are_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
