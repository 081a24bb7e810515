/* The pickle machine on small pickles written out byte by byte: values of every kind, and limits that files of
 * torch.save do not reach. */
#include "ckpt/pickle.h"

#include "ckpt_support.h"

/* A tensor of a 4-element float storage "0", without what stands before the sizes and behind the strides. */
#define TENSOR_BEGIN                                                                                                   \
    "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"                           \
    "0X\3\0\0\0cpuK\4tQK\0"
#define TENSOR_END                                                                                                     \
    "\x89"                                                                                                             \
    "ccollections\nOrderedDict\n)RtR"

static hs_pickle pickle;
static hstu_error error;

static hstu_status read_pickle(const char *text, size_t size)
{
    /* A block of exactly this size, so that a sanitizer sees a read behind it. */
    static unsigned char *copy;
    free(copy);
    hs_pickle_close(&pickle);
    error = (hstu_error){0};
    copy = malloc(size ? size : 1);
    memcpy(copy, text, size);
    const hstu_status status = hs_pickle_read(&pickle, copy, size, "file.pt", &error);
    if (status != HSTU_OK) {
        free(copy);
        copy = NULL;
        assert_null(pickle.root);
    }
    return status;
}

#define READ(text) read_pickle(text, sizeof(text) - 1)

static const hs_pkl_object *root_of_kind(hs_pkl_kind kind)
{
    if (error.code != HSTU_OK)
        fail_msg("%s", error.msg);
    assert_non_null(pickle.root);
    assert_int_equal(pickle.root->kind, kind);
    return pickle.root;
}

static void assert_string(const hs_pkl_object *object, const char *text, size_t size)
{
    assert_int_equal(object->as.string.bytes, size);
    assert_memory_equal(object->as.string.text, text, size);
}

static void integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t size;
        int64_t value;
    } cases[] = {
        {"K\xff.", 3, 255},
        {"M\xff\xff.", 4, 65535},
        {"J\xff\xff\xff\xff.", 6, -1},
        {"I-42\n.", 6, -42},
        {"L-9223372036854775808L\n.", 24, INT64_MIN},
        {"\x8a\0.", 3, 0},
        {"\x8a\1\xf9.", 4, -7},
        {"\x8a\2\0\x80.", 5, -32768},
        {"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.", 11, INT64_MAX},
        {"\x8b\1\0\0\0\5.", 7, 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(read_pickle(cases[i].text, cases[i].size), HSTU_OK);
        assert_int_equal(root_of_kind(HS_PKL_INT)->as.integer, cases[i].value);
    }
    assert_int_equal(READ("I01\n."), HSTU_OK);
    assert_int_equal(root_of_kind(HS_PKL_BOOL)->as.integer, 1);
    assert_int_equal(READ("I9223372036854775808\n."), HSTU_OK);
    assert_string(root_of_kind(HS_PKL_LONG), "9223372036854775808", 19);
    assert_int_equal(READ("\x8a\x09\1\2\3\4\5\6\7\x08\x09."), HSTU_OK);
    assert_int_equal(root_of_kind(HS_PKL_LONG)->as.string.bytes, 9);
    assert_int_equal(READ("I12x\n."), HSTU_EFORMAT);
    assert_int_equal(READ("I-\n."), HSTU_EFORMAT);
    assert_int_equal(READ("I\n."), HSTU_EFORMAT);
}

static void floats(void **state)
{
    (void)state;
    assert_int_equal(READ("G\x3f\xf8\0\0\0\0\0\0."), HSTU_OK);
    root_of_kind(HS_PKL_FLOAT);
    assert_int_equal(READ("G\x3f\xf8\0\0\0\0\0."), HSTU_EFORMAT);
    static const char *const good[] = {"-2.25", "1e-06", "inf", "-inf", "nan", "1e+16"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char text[16];
        assert_int_equal(read_pickle(text, (size_t)snprintf(text, sizeof text, "F%s\n.", good[i])), HSTU_OK);
        root_of_kind(HS_PKL_FLOAT);
    }
    assert_int_equal(READ("F1.5x\n."), HSTU_EFORMAT);
    assert_int_equal(READ("F\n."), HSTU_EFORMAT);
}

static void strings(void **state)
{
    (void)state;
    assert_int_equal(READ("S'a\\x41\\n\\'b'\n."), HSTU_OK);
    assert_string(root_of_kind(HS_PKL_STR), "aA\n'b", 5);
    assert_int_equal(READ("S\"it's \\\\ \\\"\"\n."), HSTU_OK);
    assert_string(root_of_kind(HS_PKL_STR), "it's \\ \"", 8);
    assert_int_equal(READ("S'\\xff'\n."), HSTU_OK);
    assert_string(root_of_kind(HS_PKL_BYTES), "\xff", 1);
    assert_int_equal(READ("S'a\"\n."), HSTU_EFORMAT);
    assert_int_equal(READ("S'\n."), HSTU_EFORMAT);
    assert_int_equal(READ("V\\u4e16\xe9\\U0001F600\n."), HSTU_OK);
    assert_string(root_of_kind(HS_PKL_STR), "\xe4\xb8\x96\xc3\xa9\xf0\x9f\x98\x80", 9);
    assert_int_equal(READ("\x8c\2\xc3\xa9."), HSTU_OK);
    assert_string(root_of_kind(HS_PKL_STR), "\xc3\xa9", 2);
    assert_int_equal(READ("U\2\xff\xfe."), HSTU_OK);
    assert_string(root_of_kind(HS_PKL_BYTES), "\xff\xfe", 2);
    assert_int_equal(READ("\x96\1\0\0\0\0\0\0\0z."), HSTU_OK);
    assert_string(root_of_kind(HS_PKL_BYTES), "z", 1);
    assert_int_equal(READ("S'a\n."), HSTU_EFORMAT);
    assert_int_equal(READ("S'\\q'\n."), HSTU_EFORMAT);
    assert_int_equal(READ("S'\\"), HSTU_EFORMAT);
    assert_int_equal(READ("V\\u12\n."), HSTU_EFORMAT);
    assert_int_equal(READ("V\\ud800\n."), HSTU_EFORMAT);
    static const char *const bad[] = {
        "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe4\xb8", "\x80", "\xf0\x80\x80\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[16];
        const int n = snprintf(text, sizeof text, "\x8c%c%s.", (char)strlen(bad[i]), bad[i]);
        assert_int_equal(read_pickle(text, (size_t)n), HSTU_EFORMAT);
    }
}

static void containers(void **state)
{
    (void)state;
    assert_int_equal(READ("(K\1K\2K\3l."), HSTU_OK);
    assert_int_equal(root_of_kind(HS_PKL_LIST)->as.seq.n, 3);
    assert_int_equal(READ("](K\1K\2eK\3a."), HSTU_OK);
    assert_int_equal(root_of_kind(HS_PKL_LIST)->as.seq.item[2]->as.integer, 3);
    assert_int_equal(READ("\x8f(K\1\x90."), HSTU_OK);
    assert_int_equal(root_of_kind(HS_PKL_SET)->as.seq.n, 1);
    assert_int_equal(READ("}U\1aK\1sU\1aK\2s."), HSTU_OK);
    assert_int_equal(hs_pkl_get(root_of_kind(HS_PKL_DICT), "a")->as.integer, 2);
    assert_null(hs_pkl_get(pickle.root, "b"));
    /* The pairs of Python 2's ordered dictionaries. */
    assert_int_equal(READ("ccollections\nOrderedDict\nK\1\x85R."), HSTU_EFORMAT);
    assert_int_equal(READ("ccollections\nOrderedDict\n]K\1a\x85R."), HSTU_EFORMAT);
    assert_int_equal(READ("ccollections\nOrderedDict\n](U\1aK\7ta\x85R."), HSTU_OK);
    assert_int_equal(hs_pkl_get(root_of_kind(HS_PKL_DICT), "a")->as.integer, 7);
    assert_int_equal(READ("(K\1d."), HSTU_EFORMAT);
    assert_int_equal(READ("K\1K\2a."), HSTU_EFORMAT);
    assert_int_equal(READ("(K\1."), HSTU_OK);          /* a mark may stay behind */
    assert_int_equal(READ("K\1(\x85."), HSTU_EFORMAT); /* but no value below it is taken */
    assert_int_equal(READ("."), HSTU_EFORMAT);
}

static void memo(void **state)
{
    (void)state;
    assert_int_equal(READ("]p0\n0g0\n."), HSTU_OK);
    root_of_kind(HS_PKL_LIST);
    assert_int_equal(READ("]\x94}\x94h\0."), HSTU_OK);
    root_of_kind(HS_PKL_LIST);
    assert_int_equal(READ("]r\xff\xff\xff\x7f."), HSTU_EFORMAT);
    assert_int_equal(READ("g0\n."), HSTU_EFORMAT);
    assert_int_equal(READ("]p-1\n."), HSTU_EFORMAT);
    assert_int_equal(READ("q\0."), HSTU_EFORMAT);
}

static void names(void **state)
{
    (void)state;
    static const char *const inert[] = {"torch\nfloat32", "numpy.core.multiarray\nscalar", "collections\nCounter",
        "_codecs\nencode", "torchrec.modules.x\nY", "megatron.core\nZ", "transformer_engine.pytorch\nA",
        "__builtin__\ngetattr", "builtins\nint", "torch.nn.modules.linear\nLinear"};
    static const char *const refused[] = {"os\nsystem", "torchx\nf", "builtins\neval", "builtins\nexec",
        "builtins\nopen", "builtins\n__import__", "torch\nos.system", "torch.\nf", ".torch\nf", "torch..x\nf",
        "torch x\nf", "torch\n", "\nf", "collections.abc\nMapping", "_codecs.x\nencode", "posix\nsystem",
        "subprocess\nPopen", "nt\nsystem", "copyreg\n_reconstructor", "torch-x\nf", "torch\n9f", "numpyx\nf",
        "functools\npartial"};
    char text[128];
    for (size_t i = 0; i < sizeof inert / sizeof *inert; i++) {
        assert_int_equal(read_pickle(text, (size_t)snprintf(text, sizeof text, "c%s\n.", inert[i])), HSTU_OK);
        root_of_kind(HS_PKL_GLOBAL);
        /* Called, given a state, filled: it stays inert. */
        assert_int_equal(read_pickle(text, (size_t)snprintf(text, sizeof text, "c%s\n)RNb(NNuNa.", inert[i])), HSTU_OK);
        root_of_kind(HS_PKL_INERT);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_equal(read_pickle(text, (size_t)snprintf(text, sizeof text, "c%s\n.", refused[i])), HSTU_EUNSUP);
        char dotted[64];
        snprintf(dotted, sizeof dotted, "'%s'", refused[i]);
        *strchr(dotted, '\n') = '.';
        if (!strstr(error.msg, dotted) || !strstr(error.msg, "file.pt"))
            fail_msg("the sentence does not say %s: %s", dotted, error.msg);
    }
    assert_int_equal(READ("\x8c\5posix\x8c\6system\x93."), HSTU_EUNSUP);
    assert_int_equal(READ("K\1\x8c\6system\x93."), HSTU_EFORMAT);
}

static void calls(void **state)
{
    (void)state;
    assert_int_equal(READ("ctorch\nSize\n(K\2K\3t\x85R."), HSTU_OK);
    assert_int_equal(root_of_kind(HS_PKL_TUPLE)->as.seq.n, 2);
    assert_int_equal(READ("c__builtin__\nset\n](K\1K\2e\x85R."), HSTU_OK);
    assert_int_equal(root_of_kind(HS_PKL_SET)->as.seq.n, 2);
    assert_int_equal(READ("U\1x)R."), HSTU_EFORMAT);
    assert_int_equal(READ("ctorch\nSize\nK\1R."), HSTU_EFORMAT);
    assert_int_equal(READ("K\1Nb."), HSTU_EFORMAT);
    assert_int_equal(READ("Pstorage\n."), HSTU_EFORMAT);
    assert_int_equal(READ("(U\1xctorch\nf\no."), HSTU_EUNSUP);
    assert_int_equal(READ("\x97."), HSTU_EFORMAT); /* out-of-band buffers */
    /* An inert object is no storage, and a parameter is made of a tensor. */
    assert_int_equal(READ("ctorch._utils\n_rebuild_tensor\n(ctorch\nf\nK\0))tR."), HSTU_EFORMAT);
    assert_int_equal(READ("ctorch._utils\n_rebuild_parameter\n(K\1NNtR."), HSTU_EFORMAT);
    assert_int_equal(READ("ctorch._utils\n_rebuild_parameter\n(ctorch\nf\n)R\x89NtR."), HSTU_OK);
    root_of_kind(HS_PKL_INERT);
}

static void tensors(void **state)
{
    (void)state;
    assert_int_equal(READ(TENSOR_BEGIN "K\2K\2\x86K\2K\1\x86" TENSOR_END "."), HSTU_OK);
    const hs_pkl_tensor *tensor = root_of_kind(HS_PKL_TENSOR)->as.tensor;
    assert_int_equal(tensor->view.rank, 2);
    assert_int_equal(tensor->view.stride[0], 2);
    assert_int_equal(tensor->storage->record_numel, 4);
    assert_int_equal(pickle.n_storages, 1);
    /* Rank 0, empty sizes, and 8 dimensions; 9 are too many. */
    assert_int_equal(READ(TENSOR_BEGIN "))" TENSOR_END "."), HSTU_OK);
    assert_int_equal(READ(TENSOR_BEGIN "K\0K\7\x86K\7K\1\x86" TENSOR_END "."), HSTU_OK);
    assert_int_equal(READ(TENSOR_BEGIN "(K\1K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1K\1t" TENSOR_END "."), HSTU_OK);
    assert_int_equal(
        READ(TENSOR_BEGIN "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1K\1K\1t" TENSOR_END "."), HSTU_EUNSUP);
    assert_non_null(strstr(error.msg, "9 dimensions"));
    /* One past the end; a boolean as a size; a list of sizes. */
    assert_int_equal(READ(TENSOR_BEGIN "K\5\x85K\1\x85" TENSOR_END "."), HSTU_EFORMAT);
    assert_int_equal(READ(TENSOR_BEGIN "\x88\x85K\1\x85" TENSOR_END "."), HSTU_EFORMAT);
    assert_int_equal(READ(TENSOR_BEGIN "]]" TENSOR_END "."), HSTU_EFORMAT);
    /* A lazily negated tensor: its stored values have the wrong sign. */
    assert_int_equal(READ(TENSOR_BEGIN "K\4\x85K\1\x85\x89NNtR."), HSTU_OK);
    assert_int_equal(READ(TENSOR_BEGIN "K\4\x85K\1\x85\x89N}U\3neg\x88stR."), HSTU_EUNSUP);
    /* Stride 0: 2^18 floats are 1 MiB and pass, one more does not. */
    assert_int_equal(READ(TENSOR_BEGIN "J\0\0\4\0\x85K\0\x85" TENSOR_END "."), HSTU_OK);
    assert_int_equal(READ(TENSOR_BEGIN "J\1\0\4\0\x85K\0\x85" TENSOR_END "."), HSTU_EUNSUP);
}

static char *repeat(const char *head, const char *body, size_t n, const char *tail, size_t *size)
{
    const size_t body_size = strlen(body);
    char *text = malloc(strlen(head) + n * body_size + strlen(tail) + 1), *p = text;
    p += strlen(strcpy(p, head));
    for (size_t i = 0; i < n; i++, p += body_size)
        memcpy(p, body, body_size);
    p += strlen(strcpy(p, tail));
    *size = (size_t)(p - text);
    return text;
}

/* Depth, width and memory are limited by the length of the pickle alone. */
static void bombs_are_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *head, *body, *tail;
        hstu_status status;
    } cases[] = {
        {"N", "\x85", ".", HSTU_OK},     /* a million tuples inside one another */
        {"", "(", "N.", HSTU_OK},        /* a million marks */
        {"", "]", ".", HSTU_OK},         /* a million lists on the stack */
        {"]", "Na", ".", HSTU_OK},       /* one list growing item by item */
        {"N", "2", ".", HSTU_OK},        /* a million copies of one value */
        {"N(", "2", "t.", HSTU_EFORMAT}, /* nothing above the mark to copy */
        {"N", "0", ".", HSTU_EFORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size = 0;
        char *text = repeat(cases[i].head, cases[i].body, 1000000, cases[i].tail, &size);
        assert_int_equal(read_pickle(text, size), cases[i].status);
        assert_true(pickle.arena.used_bytes <= ((size_t)16 << 20) + 64 * size);
        free(text);
    }
    assert_int_equal(read_pickle("", 0), HSTU_EFORMAT);
}

/* A name or a storage's key is examined at each use, and a use costs a few bytes of pickle: long ones are refused. */
static void long_names_and_keys_are_refused(void **state)
{
    (void)state;
    static const char letters[] = "aaaaaaaaaaaaaaaa";
    static const char storage[] = "0(X\7\0\0\0storagectorch\nFloatStorage\nh\1X\3\0\0\0cpuK\4tQ.";
    size_t size = 0;
    /* "torch." and 506 or 522 letters. */
    char *text = repeat("ctorch.aaaaaaaaaa", letters, 31, "\nT\n.", &size);
    assert_int_equal(read_pickle(text, size), HSTU_OK);
    free(text);
    text = repeat("ctorch.aaaaaaaaaa", letters, 32, "\nT\n.", &size);
    assert_int_equal(read_pickle(text, size), HSTU_EUNSUP);
    free(text);
    for (size_t n = 16; n <= 17; n++) {
        char file[512] = {'X', (char)(n * 16), (char)(n >> 4), 0, 0};
        memset(file + 5, '7', n * 16);
        memcpy(file + 5 + n * 16, "q\1", 2);
        memcpy(file + 7 + n * 16, storage, sizeof storage - 1);
        assert_int_equal(read_pickle(file, 7 + n * 16 + sizeof storage - 1), n == 16 ? HSTU_OK : HSTU_EFORMAT);
    }
    assert_non_null(strstr(error.msg, "at most 256 bytes"));
}

/* An ordered dictionary made again and again from one list: each costs the whole list, five bytes of pickle. */
static void memory_is_limited(void **state)
{
    (void)state;
    size_t head_size = 0, size = 0;
    char *head = repeat("NN\x86q\3"
                        "0ccollections\nOrderedDict\nq\1"
                        "0](",
        "h\3", 100000,
        "e\x85q\4"
        "0",
        &head_size);
    char *text = repeat(head, "h\1h\4R0", 10000, "N.", &size);
    assert_int_equal(read_pickle(text, size), HSTU_EUNSUP);
    assert_non_null(strstr(error.msg, "memory"));
    free(head);
    free(text);
}

static int close_pickle(void **state)
{
    (void)state;
    (void)read_pickle("", 0);
    hs_pickle_close(&pickle);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers),
        cmocka_unit_test(floats),
        cmocka_unit_test(strings),
        cmocka_unit_test(containers),
        cmocka_unit_test(memo),
        cmocka_unit_test(names),
        cmocka_unit_test(calls),
        cmocka_unit_test(tensors),
        cmocka_unit_test(bombs_are_bounded),
        cmocka_unit_test(memory_is_limited),
        cmocka_unit_test(long_names_and_keys_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, close_pickle);
}
