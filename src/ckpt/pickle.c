/* The pickle machine: reads opcodes, keeps stack, marks and memo. What names become is rebuild.c's business. */
#include "ckpt/pickle.h"

#include "base/alloc.h"
#include "ckpt/le.h"
#include "ckpt/pickle_int.h"

#include <stdio.h>
#include <string.h>

enum { MAX_PROTOCOL = 5 };

/* ---- Bytes ------------------------------------------------------------------------------------------------------ */

static hstu_status take_bytes(hs_pkl_reader *r, uint64_t n, const unsigned char **out)
{
    if (n > r->size - r->at)
        return hs_pkl_fail(
            r, HSTU_EFORMAT, "it needs %llu more bytes, but %zu are left", (unsigned long long)n, r->size - r->at);
    *out = r->data + r->at;
    r->at += (size_t)n;
    return HSTU_OK;
}

/* A little-endian count of `width` bytes (1, 2, 4 or 8). */
static hstu_status take_count(hs_pkl_reader *r, int width, uint64_t *out)
{
    const unsigned char *p = NULL;
    HS_TRY(take_bytes(r, (uint64_t)width, &p));
    *out = width == 1 ? *p : width == 2 ? hs_le16(p) : width == 4 ? hs_le32(p) : hs_le64(p);
    return HSTU_OK;
}

/* The bytes up to the next newline, which is consumed. */
static hstu_status take_line(hs_pkl_reader *r, const char **line, size_t *bytes)
{
    const unsigned char *begin = r->data + r->at;
    const unsigned char *end = r->at < r->size ? memchr(begin, '\n', r->size - r->at) : NULL;
    if (!end)
        return hs_pkl_fail(r, HSTU_EFORMAT, "a line of text has no end");
    *line = (const char *)begin;
    *bytes = (size_t)(end - begin);
    r->at += *bytes + 1;
    return HSTU_OK;
}

/* ---- Stack and memo --------------------------------------------------------------------------------------------- */

static hstu_status push(hs_pkl_reader *r, hs_pkl_object *object)
{
    if (!object)
        return hs_pkl_fail_memory(r);
    void *array = r->stack;
    HS_TRY(hs_pkl_reserve(r, &array, &r->cap_stack, r->n_stack + 1, sizeof *r->stack));
    r->stack = array;
    r->stack[r->n_stack++] = object;
    return HSTU_OK;
}

/* Values above the topmost mark. */
static size_t n_above_mark(const hs_pkl_reader *r)
{
    return r->n_stack - (r->n_mark ? r->mark[r->n_mark - 1] : 0);
}

/* The topmost n values leave the stack; *items stays valid until the next push. */
static hstu_status pop(hs_pkl_reader *r, size_t n, hs_pkl_object ***items)
{
    if (n_above_mark(r) < n)
        return hs_pkl_fail(r, HSTU_EFORMAT, "the stack has too few values");
    r->n_stack -= n;
    *items = r->stack + r->n_stack;
    return HSTU_OK;
}

/* Everything above the topmost mark, and the mark, leave the stack. */
static hstu_status pop_mark(hs_pkl_reader *r, hs_pkl_object ***items, size_t *n)
{
    if (r->n_mark == 0)
        return hs_pkl_fail(r, HSTU_EFORMAT, "there is no MARK on the stack");
    *n = n_above_mark(r);
    r->n_stack -= *n;
    r->n_mark--;
    *items = r->n_stack || *n ? r->stack + r->n_stack : NULL;
    return HSTU_OK;
}

static hstu_status push_mark(hs_pkl_reader *r)
{
    void *array = r->mark;
    HS_TRY(hs_pkl_reserve(r, &array, &r->cap_mark, r->n_mark + 1, sizeof *r->mark));
    r->mark = array;
    r->mark[r->n_mark++] = r->n_stack;
    return HSTU_OK;
}

static hstu_status top(hs_pkl_reader *r, hs_pkl_object **out)
{
    if (n_above_mark(r) == 0)
        return hs_pkl_fail(r, HSTU_EFORMAT, "the stack has too few values");
    *out = r->stack[r->n_stack - 1];
    return HSTU_OK;
}

/* Writers number memo slots one after the other, so an index past the bytes read is none of theirs. */
static hstu_status memo_put(hs_pkl_reader *r, uint64_t index)
{
    hs_pkl_object *object = NULL;
    HS_TRY(top(r, &object));
    if (index >= r->at)
        return hs_pkl_fail(r, HSTU_EFORMAT, "memo slot %llu is out of proportion", (unsigned long long)index);
    void *array = r->memo;
    HS_TRY(hs_pkl_reserve(r, &array, &r->cap_memo, (size_t)index + 1, sizeof *r->memo));
    r->memo = array;
    r->n_memo += r->memo[index] == NULL;
    r->memo[index] = object;
    return HSTU_OK;
}

static hstu_status memo_get(hs_pkl_reader *r, uint64_t index)
{
    if (index >= r->cap_memo || !r->memo[index])
        return hs_pkl_fail(r, HSTU_EFORMAT, "memo slot %llu was never filled", (unsigned long long)index);
    return push(r, r->memo[index]);
}

static hstu_status parse_index(hs_pkl_reader *r, uint64_t *out)
{
    const char *line = NULL;
    size_t bytes = 0;
    HS_TRY(take_line(r, &line, &bytes));
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (line[i] < '0' || line[i] > '9' || value > UINT32_MAX)
            return hs_pkl_fail(r, HSTU_EFORMAT, "a memo slot must be a decimal number");
        value = value * 10 + (uint64_t)(line[i] - '0');
    }
    if (bytes == 0)
        return hs_pkl_fail(r, HSTU_EFORMAT, "a memo slot must be a decimal number");
    *out = value;
    return HSTU_OK;
}

static hstu_status memo_op(hs_pkl_reader *r, unsigned char op)
{
    uint64_t index = 0;
    switch (op) {
    case 'p': /* PUT */
        HS_TRY(parse_index(r, &index));
        return memo_put(r, index);
    case 'q': /* BINPUT */
    case 'r': /* LONG_BINPUT */
        HS_TRY(take_count(r, op == 'q' ? 1 : 4, &index));
        return memo_put(r, index);
    case 0x94: /* MEMOIZE */
        return memo_put(r, r->n_memo);
    case 'g': /* GET */
        HS_TRY(parse_index(r, &index));
        return memo_get(r, index);
    default: /* 'h' BINGET, 'j' LONG_BINGET */
        HS_TRY(take_count(r, op == 'h' ? 1 : 4, &index));
        return memo_get(r, index);
    }
}

/* ---- Numbers ---------------------------------------------------------------------------------------------------- */

static hstu_status push_int(hs_pkl_reader *r, int64_t value)
{
    hs_pkl_object *object = hs_pkl_new(r, HS_PKL_INT);
    if (object)
        object->as.integer = value;
    return push(r, object);
}

static hstu_status push_string(hs_pkl_reader *r, hs_pkl_kind kind, const void *text, size_t bytes)
{
    hs_pkl_object *object = hs_pkl_new(r, kind);
    if (object) {
        object->as.string.text = text;
        object->as.string.bytes = bytes;
    }
    return push(r, object);
}

/* INT and LONG of protocol 0: decimal digits. "00" and "01" are how protocol 0 writes False and True. */
static hstu_status decimal_op(hs_pkl_reader *r, bool is_long)
{
    const char *line = NULL;
    size_t bytes = 0;
    HS_TRY(take_line(r, &line, &bytes));
    if (!is_long && bytes == 2 && line[0] == '0' && (line[1] == '0' || line[1] == '1'))
        return push(r, line[1] == '1' ? r->yes : r->no);
    if (is_long && bytes && line[bytes - 1] == 'L')
        bytes--;
    const bool negative = bytes && line[0] == '-';
    int64_t value = 0;
    bool fits = true;
    for (size_t i = negative; i < bytes; i++) {
        if (line[i] < '0' || line[i] > '9')
            return hs_pkl_fail(r, HSTU_EFORMAT, "an integer holds something that is no digit");
        const int64_t digit = line[i] - '0';
        fits = fits && !__builtin_mul_overflow(value, (int64_t)10, &value) &&
               !__builtin_add_overflow(value, negative ? -digit : digit, &value);
    }
    if (bytes == (negative ? 1 : 0))
        return hs_pkl_fail(r, HSTU_EFORMAT, "an integer has no digits");
    return fits ? push_int(r, value) : push_string(r, HS_PKL_LONG, line, bytes);
}

/* LONG1 and LONG4: two's complement of any length. */
static hstu_status long_op(hs_pkl_reader *r, int width)
{
    uint64_t bytes = 0, value = 0;
    const unsigned char *p = NULL;
    HS_TRY(take_count(r, width, &bytes));
    if (width == 4 && bytes > INT32_MAX)
        return hs_pkl_fail(r, HSTU_EFORMAT, "LONG4 has a negative length");
    HS_TRY(take_bytes(r, bytes, &p));
    if (bytes > 8)
        return push_string(r, HS_PKL_LONG, p, (size_t)bytes);
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)p[i] << 8 * i;
    if (bytes && bytes < 8 && (p[bytes - 1] & 0x80))
        value |= UINT64_MAX << 8 * bytes;
    int64_t integer;
    memcpy(&integer, &value, sizeof integer);
    return push_int(r, integer);
}

/* FLOAT (a line of text) and BINFLOAT (8 bytes): the value is not kept, nothing needs it. */
static hstu_status float_op(hs_pkl_reader *r, unsigned char op)
{
    const unsigned char *p = NULL;
    const char *line = NULL;
    size_t bytes = 0;
    if (op == 'G') {
        HS_TRY(take_bytes(r, 8, &p));
        return push(r, hs_pkl_new(r, HS_PKL_FLOAT));
    }
    HS_TRY(take_line(r, &line, &bytes));
    bool good = bytes > 0;
    for (size_t i = 0; i < bytes && good; i++)
        good = line[i] && strchr("0123456789+-.eEinfa", line[i]);
    return good ? push(r, hs_pkl_new(r, HS_PKL_FLOAT)) : hs_pkl_fail(r, HSTU_EFORMAT, "a FLOAT is no number");
}

static hstu_status number_op(hs_pkl_reader *r, unsigned char op)
{
    uint64_t value = 0;
    switch (op) {
    case 'K': /* BININT1 */
    case 'M': /* BININT2 */
        HS_TRY(take_count(r, op == 'K' ? 1 : 2, &value));
        return push_int(r, (int64_t)value);
    case 'J': { /* BININT: signed */
        HS_TRY(take_count(r, 4, &value));
        const uint32_t bits = (uint32_t)value;
        int32_t integer;
        memcpy(&integer, &bits, sizeof integer);
        return push_int(r, integer);
    }
    case 'I': /* INT */
    case 'L': /* LONG */
        return decimal_op(r, op == 'L');
    case 0x8a: /* LONG1 */
    case 0x8b: /* LONG4 */
        return long_op(r, op == 0x8a ? 1 : 4);
    default: /* 'F' FLOAT, 'G' BINFLOAT */
        return float_op(r, op);
    }
}

/* ---- Strings ---------------------------------------------------------------------------------------------------- */

/* kind HS_PKL_STR: text, which must be UTF-8; HS_PKL_BYTES: bytes; HS_PKL_NONE: Python 2's str, text if it is UTF-8. */
static hstu_status counted_string(hs_pkl_reader *r, int width, hs_pkl_kind kind)
{
    uint64_t bytes = 0;
    const unsigned char *p = NULL;
    HS_TRY(take_count(r, width, &bytes));
    HS_TRY(take_bytes(r, bytes, &p));
    const bool utf8 = kind != HS_PKL_BYTES && hs_pkl_utf8((const char *)p, (size_t)bytes);
    if (kind == HS_PKL_STR && !utf8)
        return hs_pkl_fail(r, HSTU_EFORMAT, "a string is not valid UTF-8");
    return push_string(r, utf8 ? HS_PKL_STR : HS_PKL_BYTES, p, (size_t)bytes);
}

static hstu_status string_op(hs_pkl_reader *r, unsigned char op)
{
    switch (op) {
    case 'X': /* BINUNICODE */
        return counted_string(r, 4, HS_PKL_STR);
    case 0x8c: /* SHORT_BINUNICODE */
        return counted_string(r, 1, HS_PKL_STR);
    case 0x8d: /* BINUNICODE8 */
        return counted_string(r, 8, HS_PKL_STR);
    case 'T': /* BINSTRING */
        return counted_string(r, 4, HS_PKL_NONE);
    case 'U': /* SHORT_BINSTRING */
        return counted_string(r, 1, HS_PKL_NONE);
    case 'B': /* BINBYTES */
        return counted_string(r, 4, HS_PKL_BYTES);
    case 'C': /* SHORT_BINBYTES */
        return counted_string(r, 1, HS_PKL_BYTES);
    case 0x8e: /* BINBYTES8 */
    case 0x96: /* BYTEARRAY8 */
        return counted_string(r, 8, HS_PKL_BYTES);
    default: { /* 'S' STRING, 'V' UNICODE */
        const char *line = NULL;
        size_t bytes = 0;
        hs_pkl_object *object = NULL;
        HS_TRY(take_line(r, &line, &bytes));
        HS_TRY(op == 'S' ? hs_pkl_unquote(r, line, bytes, &object) : hs_pkl_unescape(r, line, bytes, &object));
        return push(r, object);
    }
    }
}

/* ---- Containers ------------------------------------------------------------------------------------------------- */

static hstu_status push_sequence(hs_pkl_reader *r, hs_pkl_kind kind, hs_pkl_object **items, size_t n)
{
    if (kind == HS_PKL_TUPLE && n == 0)
        return push(r, r->empty);
    if (kind == HS_PKL_DICT && n % 2 != 0)
        return hs_pkl_fail(r, HSTU_EFORMAT, "a dictionary gets a key without a value");
    hs_pkl_object *object = hs_pkl_new(r, kind);
    if (!object)
        return hs_pkl_fail_memory(r);
    HS_TRY(hs_pkl_extend(r, object, items, n));
    return push(r, object);
}

/* Adds n values to the container on top of the stack. What an inert object gets is forgotten. */
static hstu_status add(hs_pkl_reader *r, hs_pkl_kind kind, hs_pkl_object **items, size_t n)
{
    hs_pkl_object *target = NULL;
    HS_TRY(top(r, &target));
    if (target->kind == HS_PKL_INERT)
        return HSTU_OK;
    if (target->kind != kind)
        return hs_pkl_fail(r, HSTU_EFORMAT, "items are added to something that is not a %s",
            kind == HS_PKL_DICT   ? "dictionary"
            : kind == HS_PKL_LIST ? "list"
                                  : "set");
    if (kind == HS_PKL_DICT && n % 2 != 0)
        return hs_pkl_fail(r, HSTU_EFORMAT, "a dictionary gets a key without a value");
    return hs_pkl_extend(r, target, items, n);
}

static hstu_status container_op(hs_pkl_reader *r, unsigned char op)
{
    hs_pkl_object **items = NULL;
    size_t n = 0;
    switch (op) {
    case ')': /* EMPTY_TUPLE */
        return push(r, r->empty);
    case ']': /* EMPTY_LIST */
        return push_sequence(r, HS_PKL_LIST, NULL, 0);
    case '}': /* EMPTY_DICT */
        return push_sequence(r, HS_PKL_DICT, NULL, 0);
    case 0x8f: /* EMPTY_SET */
        return push_sequence(r, HS_PKL_SET, NULL, 0);
    case 0x85: /* TUPLE1 */
    case 0x86: /* TUPLE2 */
    case 0x87: /* TUPLE3 */
        n = (size_t)op - 0x84;
        HS_TRY(pop(r, n, &items));
        return push_sequence(r, HS_PKL_TUPLE, items, n);
    case 'a': /* APPEND */
        HS_TRY(pop(r, 1, &items));
        return add(r, HS_PKL_LIST, items, 1);
    case 's': /* SETITEM */
        HS_TRY(pop(r, 2, &items));
        return add(r, HS_PKL_DICT, items, 2);
    default:
        break;
    }
    HS_TRY(pop_mark(r, &items, &n));
    switch (op) {
    case 't': /* TUPLE */
        return push_sequence(r, HS_PKL_TUPLE, items, n);
    case 'l': /* LIST */
        return push_sequence(r, HS_PKL_LIST, items, n);
    case 'd': /* DICT */
        return push_sequence(r, HS_PKL_DICT, items, n);
    case 0x91: /* FROZENSET */
        return push_sequence(r, HS_PKL_SET, items, n);
    case 'e': /* APPENDS */
        return add(r, HS_PKL_LIST, items, n);
    case 'u': /* SETITEMS */
        return add(r, HS_PKL_DICT, items, n);
    default: /* 0x90 ADDITEMS */
        return add(r, HS_PKL_SET, items, n);
    }
}

/* ---- Names and objects ------------------------------------------------------------------------------------------ */

/* At most 100 bytes of a hostile name; a NUL must not end the sentence early. */
static void printable(char *out, size_t size, const char *text, size_t bytes)
{
    size_t n = 0;
    for (; n < bytes && n + 1 < size; n++)
        out[n] = text[n] ? text[n] : '?';
    out[n] = '\0';
}

static hstu_status push_name(hs_pkl_reader *r, const char *module, size_t module_bytes, const char *name, size_t bytes)
{
    hs_pkl_object *object = hs_pkl_new(r, HS_PKL_GLOBAL);
    if (!object)
        return hs_pkl_fail_memory(r);
    object->as.global.name = name;
    object->as.global.bytes = bytes;
    if (!hs_pkl_name_find(&object->as.global.id, module, module_bytes, name, bytes)) {
        char shown_module[100], shown_name[100];
        printable(shown_module, sizeof shown_module, module, module_bytes);
        printable(shown_name, sizeof shown_name, name, bytes);
        return hs_pkl_fail(r, HSTU_EUNSUP,
            "it asks for the Python name '%s.%s', which is not permitted in a checkpoint (nothing was executed)",
            shown_module, shown_name);
    }
    return push(r, object);
}

static hstu_status name_op(hs_pkl_reader *r, unsigned char op)
{
    if (op == 'c') { /* GLOBAL */
        const char *module = NULL, *name = NULL;
        size_t module_bytes = 0, name_bytes = 0;
        HS_TRY(take_line(r, &module, &module_bytes));
        HS_TRY(take_line(r, &name, &name_bytes));
        return push_name(r, module, module_bytes, name, name_bytes);
    }
    hs_pkl_object **items = NULL; /* STACK_GLOBAL */
    HS_TRY(pop(r, 2, &items));
    if (items[0]->kind != HS_PKL_STR || items[1]->kind != HS_PKL_STR)
        return hs_pkl_fail(r, HSTU_EFORMAT, "STACK_GLOBAL must have two strings");
    return push_name(
        r, items[0]->as.string.text, items[0]->as.string.bytes, items[1]->as.string.text, items[1]->as.string.bytes);
}

static hstu_status object_op(hs_pkl_reader *r, unsigned char op)
{
    hs_pkl_object **items = NULL, *made = NULL;
    switch (op) {
    case 'R':  /* REDUCE */
    case 0x81: /* NEWOBJ: the same with a class */
        HS_TRY(pop(r, 2, &items));
        HS_TRY(hs_pkl_call(r, items[0], items[1], &made));
        return push(r, made);
    case 0x92: /* NEWOBJ_EX: class, arguments, keyword arguments */
        HS_TRY(pop(r, 3, &items));
        HS_TRY(hs_pkl_call(r, items[0], items[1], &made));
        return push(r, made);
    case 'b': /* BUILD: a state for the object below; an ordered dictionary's holds no tensor that it needs */
        HS_TRY(pop(r, 1, &items));
        HS_TRY(top(r, &made));
        if (made->kind != HS_PKL_INERT && made->kind != HS_PKL_DICT)
            return hs_pkl_fail(r, HSTU_EFORMAT, "BUILD is applied to a value that has no state");
        return HSTU_OK;
    case 'Q': /* BINPERSID */
        HS_TRY(pop(r, 1, &items));
        HS_TRY(hs_pkl_persistent(r, items[0], &made));
        return push(r, made);
    case 'P': /* PERSID: a line of text */
        return hs_pkl_fail(r, HSTU_EFORMAT, "a persistent id must be a tuple of 5 or 6");
    case 'i': /* INST */
    case 'o': /* OBJ */
        return hs_pkl_fail(
            r, HSTU_EUNSUP, "opcode %s makes objects of any class and is not permitted", op == 'i' ? "INST" : "OBJ");
    default: /* EXT1, EXT2, EXT4 */
        return hs_pkl_fail(r, HSTU_EUNSUP, "opcode EXT%d names an extension registry, which is not permitted",
            op == 0x82   ? 1
            : op == 0x83 ? 2
                         : 4);
    }
}

static hstu_status frame_op(hs_pkl_reader *r, unsigned char op)
{
    uint64_t value = 0;
    if (op == 0x80) { /* PROTO */
        HS_TRY(take_count(r, 1, &value));
        return value <= MAX_PROTOCOL
                   ? HSTU_OK
                   : hs_pkl_fail(r, HSTU_EUNSUP, "pickle protocol %d, expected 0 to %d", (int)value, MAX_PROTOCOL);
    }
    HS_TRY(take_count(r, 8, &value)); /* FRAME: a hint for reading ahead */
    return value <= r->size - r->at ? HSTU_OK
                                    : hs_pkl_fail(r, HSTU_EFORMAT, "a frame of %llu bytes, but %zu are left",
                                          (unsigned long long)value, r->size - r->at);
}

static hstu_status stack_op(hs_pkl_reader *r, unsigned char op)
{
    hs_pkl_object **items = NULL, *object = NULL;
    size_t n = 0;
    switch (op) {
    case '0': /* POP: a value, or the mark when nothing stands above it */
        if (r->n_mark && n_above_mark(r) == 0)
            return pop_mark(r, &items, &n);
        return pop(r, 1, &items);
    case '1': /* POP_MARK */
        return pop_mark(r, &items, &n);
    case '2': /* DUP */
        HS_TRY(top(r, &object));
        return push(r, object);
    default: /* '(' MARK */
        return push_mark(r);
    }
}

/* ---- The machine ------------------------------------------------------------------------------------------------ */

static hstu_status constant_op(hs_pkl_reader *r, unsigned char op)
{
    return push(r, op == 'N' ? r->none : op == 0x88 ? r->yes : r->no);
}

typedef hstu_status (*op_group)(hs_pkl_reader *r, unsigned char op);

/* STOP is run's. */
static const struct {
    const char *opcodes;
    op_group run;
} GROUPS[] = {
    {"pqrghj\x94", memo_op},
    {"XSTUVBC\x8c\x8d\x8e\x96", string_op},
    {"IJKLMFG\x8a\x8b", number_op},
    {")]}tldaseu\x85\x86\x87\x8f\x90\x91", container_op},
    {"(012", stack_op},
    {"N\x88\x89", constant_op},
    {"RbQPio\x81\x82\x83\x84\x92", object_op},
    {"c\x93", name_op},
    {"\x80\x95", frame_op},
};

static op_group group_of(unsigned char op)
{
    for (size_t i = 0; op && i < sizeof GROUPS / sizeof *GROUPS; i++) {
        if (strchr(GROUPS[i].opcodes, op))
            return GROUPS[i].run;
    }
    return NULL;
}

static hstu_status run(hs_pkl_reader *r)
{
    while (r->at < r->size) {
        r->op_at = r->at;
        const unsigned char op = r->data[r->at++];
        if (op == '.') { /* STOP */
            HS_TRY(top(r, &r->out->root));
            r->out->bytes = r->at;
            return HSTU_OK;
        }
        const op_group group = group_of(op);
        if (!group)
            return hs_pkl_fail(r, HSTU_EFORMAT, "unknown opcode 0x%02x", (unsigned)op);
        HS_TRY(group(r, op));
    }
    r->op_at = r->size;
    return hs_pkl_fail(r, HSTU_EFORMAT, "it ends without STOP");
}

hstu_status hs_pickle_read(hs_pickle *out, const unsigned char *data, size_t size, const char *path, hstu_error *err)
{
    hs_pickle pickle = {0};
    hs_arena_init(&pickle.arena, 0);
    hs_pkl_reader r = {.out = &pickle, .path = path, .data = data, .size = size, .err = err};
    r.none = hs_pkl_new(&r, HS_PKL_NONE);
    r.yes = hs_pkl_new(&r, HS_PKL_BOOL);
    r.no = hs_pkl_new(&r, HS_PKL_BOOL);
    r.inert = hs_pkl_new(&r, HS_PKL_INERT);
    r.empty = hs_pkl_new(&r, HS_PKL_TUPLE);
    hstu_status status = HSTU_OK;
    if (!r.none || !r.yes || !r.no || !r.inert || !r.empty) {
        status = hs_fail_nomem(err, 5 * sizeof *r.none, path);
    } else {
        r.yes->as.integer = 1;
        status = run(&r);
    }
    hs_free(r.stack);
    hs_free(r.mark);
    hs_free(r.memo);
    if (status != HSTU_OK) {
        hs_pickle_close(&pickle);
        return status;
    }
    *out = pickle;
    return HSTU_OK;
}
