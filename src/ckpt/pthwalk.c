/* From a pickle's objects to named tensors. The walk keeps its own stack and is bounded: shared and circular references
 * may describe far more paths than there are objects. */
#include "base/alloc.h"
#include "base/dynbuf.h"
#include "base/error.h"
#include "ckpt/pth_int.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NAME_BYTES = 4096, FREE_STEPS = 1 << 20, STEPS_PER_BYTE = 16, FREE_ENTRIES = 65536, BYTES_PER_ENTRY = 4 };

/* One container on the way from the root. */
typedef struct frame {
    hs_pkl_object *object;
    size_t next;       /* the child to look at next */
    bool found;        /* a tensor stood below */
    const char *group; /* the path to this container; NULL until its first tensor */
} frame;

typedef struct walker {
    const char *path;
    hs_statedict dict;
    frame *frame;
    size_t n_frames, cap_frames;
    hs_entry *entry;
    size_t n_entries, cap_entries, max_entries;
    uint64_t steps, max_steps;
    hs_dynbuf text;
    hstu_error *err;
} walker;

static hstu_status grow(const walker *w, void **array, size_t *cap, size_t n, size_t size)
{
    if (n <= *cap)
        return HSTU_OK;
    const size_t grown_cap = 2 * *cap + 64;
    void *grown = hs_realloc(*array, grown_cap, size);
    if (!grown)
        return hs_fail_nomem(w->err, grown_cap * size, w->path);
    *array = grown;
    *cap = grown_cap;
    return HSTU_OK;
}

static bool is_dict(const frame *f)
{
    return f->object->kind == HS_PKL_DICT;
}

static size_t n_children(const frame *f)
{
    return is_dict(f) ? f->object->as.seq.n / 2 : f->object->as.seq.n;
}

static hs_pkl_object *child(const frame *f, size_t i)
{
    return f->object->as.seq.item[is_dict(f) ? 2 * i + 1 : i];
}

static hstu_status fail_long(const walker *w)
{
    return hs_fail(w->err, HSTU_EUNSUP, 0, "%s: the path to a tensor is longer than %d bytes", w->path, MAX_NAME_BYTES);
}

/* Appends the name of child i: a dictionary's text or whole number, else its position. */
static hstu_status append_name(walker *w, const frame *f, size_t i)
{
    bool fits = false;
    const hs_pkl_object *key = is_dict(f) ? f->object->as.seq.item[2 * i] : NULL;
    if (!key) {
        fits = hs_dynbuf_printf(&w->text, "%zu", i);
    } else if (key->kind == HS_PKL_STR) {
        if (key->as.string.bytes && memchr(key->as.string.text, '\0', key->as.string.bytes))
            return hs_fail(w->err, HSTU_EFORMAT, 0, "%s: a dictionary's key holds a NUL byte", w->path);
        fits = hs_dynbuf_append(&w->text, key->as.string.text, key->as.string.bytes);
    } else if (key->kind == HS_PKL_INT) {
        fits = hs_dynbuf_printf(&w->text, "%lld", (long long)key->as.integer);
    } else {
        fits = hs_dynbuf_printf(&w->text, "key#%zu", i);
    }
    return fits ? HSTU_OK : fail_long(w);
}

/* The text buffer's content, moved to the dictionary. */
static hstu_status take_text(walker *w, const char **out)
{
    char *copy = hs_arena_strndup(&w->dict.arena, w->text.len ? w->text.data : "", w->text.len);
    w->text.len = 0;
    if (!copy)
        return hs_fail_nomem(w->err, MAX_NAME_BYTES, w->path);
    *out = copy;
    return HSTU_OK;
}

/* The keys of every container above the topmost, joined by '.'. */
static hstu_status make_group(walker *w, const char **out)
{
    w->text.len = 0;
    for (size_t i = 0; i + 1 < w->n_frames; i++) {
        if (i && !hs_dynbuf_append_text(&w->text, "."))
            return fail_long(w);
        HS_TRY(append_name(w, &w->frame[i], w->frame[i].next - 1));
    }
    return take_text(w, out);
}

static hstu_status emit(walker *w, const char *group, const char *name, const hs_pkl_tensor *tensor)
{
    if (w->n_entries == w->max_entries)
        return hs_fail(
            w->err, HSTU_EUNSUP, 0, "%s: shared references give it more than %zu tensors", w->path, w->max_entries);
    void *array = w->entry;
    HS_TRY(grow(w, &array, &w->cap_entries, w->n_entries + 1, sizeof *w->entry));
    w->entry = array;
    hs_entry *entry = &w->entry[w->n_entries++];
    *entry = (hs_entry){.group = group, .name = name, .tensor = tensor->view};
    if (hs_tensor_elements(&entry->tensor) > 0)
        entry->tensor.data = tensor->storage->data + (uint64_t)tensor->offset * hs_dtype_bytes(tensor->view.dtype);
    return HSTU_OK;
}

static hstu_status emit_child(walker *w, size_t i, const hs_pkl_tensor *tensor)
{
    frame *f = &w->frame[w->n_frames - 1];
    const char *name = NULL;
    if (!f->group)
        HS_TRY(make_group(w, &f->group));
    w->text.len = 0;
    HS_TRY(append_name(w, f, i));
    HS_TRY(take_text(w, &name));
    f->found = true;
    return emit(w, f->group, name, tensor);
}

/* Counts a tensor that was not read, and keeps the name of the first. */
static hstu_status note_unread(walker *w, size_t i, const hs_pkl_object *object)
{
    if (w->dict.n_unread++)
        return HSTU_OK;
    w->text.len = 0;
    HS_TRY(append_name(w, &w->frame[w->n_frames - 1], i));
    HS_TRY(take_text(w, &w->dict.unread_name));
    w->dict.unread_kind = hs_arena_strndup(&w->dict.arena, object->as.string.text, object->as.string.bytes);
    return w->dict.unread_kind ? HSTU_OK : hs_fail_nomem(w->err, object->as.string.bytes, w->path);
}

/* A container that is already on the way to itself, or that is known to hold no tensor, is not entered. */
static hstu_status enter(walker *w, hs_pkl_object *object)
{
    const bool walks = object->kind == HS_PKL_DICT || object->kind == HS_PKL_LIST || object->kind == HS_PKL_TUPLE;
    if (!walks || object->on_path || object->barren || object->as.seq.n == 0)
        return HSTU_OK;
    void *array = w->frame;
    HS_TRY(grow(w, &array, &w->cap_frames, w->n_frames + 1, sizeof *w->frame));
    w->frame = array;
    w->frame[w->n_frames++] = (frame){.object = object};
    object->on_path = true;
    return HSTU_OK;
}

static void leave(walker *w)
{
    const frame *f = &w->frame[--w->n_frames];
    f->object->on_path = false;
    f->object->barren = !f->found;
    if (w->n_frames && f->found)
        w->frame[w->n_frames - 1].found = true;
}

static hstu_status walk(walker *w, hs_pkl_object *root)
{
    if (root->kind == HS_PKL_TENSOR)
        return emit(w, "", "", root->as.tensor);
    HS_TRY(enter(w, root));
    while (w->n_frames) {
        frame *f = &w->frame[w->n_frames - 1];
        if (f->next == n_children(f)) {
            leave(w);
            continue;
        }
        if (w->steps++ == w->max_steps)
            return hs_fail(w->err, HSTU_EUNSUP, 0, "%s: shared references make its objects expand to more than %llu",
                w->path, (unsigned long long)w->max_steps);
        const size_t i = f->next++;
        hs_pkl_object *object = child(f, i);
        if (object->kind == HS_PKL_TENSOR)
            HS_TRY(emit_child(w, i, object->as.tensor));
        else if (object->kind == HS_PKL_INERT && object->as.string.bytes)
            HS_TRY(note_unread(w, i, object));
        else
            HS_TRY(enter(w, object));
    }
    return HSTU_OK;
}

static int compare_entries(const void *a, const void *b)
{
    const hs_entry *x = *(const hs_entry *const *)a, *y = *(const hs_entry *const *)b;
    const int order = strcmp(x->name, y->name);
    return order ? order : strcmp(x->group, y->group);
}

/* Two different tensors under one name (an item set twice, the keys 1 and "1") are an ambiguity. */
static hstu_status refuse_duplicates(const walker *w)
{
    if (w->n_entries < 2)
        return HSTU_OK;
    const hs_entry **order = hs_alloc(w->n_entries, sizeof *order);
    if (!order)
        return hs_fail_nomem(w->err, w->n_entries * sizeof *order, w->path);
    for (size_t i = 0; i < w->n_entries; i++)
        order[i] = &w->entry[i];
    qsort(order, w->n_entries, sizeof *order, compare_entries);
    hstu_status status = HSTU_OK;
    for (size_t i = 1; i < w->n_entries && status == HSTU_OK; i++) {
        if (compare_entries(&order[i - 1], &order[i]) == 0)
            status = hs_fail(w->err, HSTU_EFORMAT, 0, "%s: the tensor '%.120s' stands twice in '%.120s'", w->path,
                order[i]->name, order[i]->group);
    }
    hs_free(order);
    return status;
}

static hstu_status finish(walker *w)
{
    HS_TRY(refuse_duplicates(w));
    w->dict.path = hs_arena_strndup(&w->dict.arena, w->path, strlen(w->path));
    w->dict.entry = hs_arena_alloc(&w->dict.arena, w->n_entries, sizeof *w->dict.entry);
    if (!w->dict.path || !w->dict.entry)
        return hs_fail_nomem(w->err, w->n_entries * sizeof *w->dict.entry, w->path);
    if (w->n_entries)
        memcpy(w->dict.entry, w->entry, w->n_entries * sizeof *w->dict.entry);
    w->dict.n_entries = w->n_entries;
    return HSTU_OK;
}

hstu_status hs_pth_walk(hs_statedict *out, const hs_pickle *pickle, const char *path, hstu_error *err)
{
    walker w = {.path = path,
        .max_steps = FREE_STEPS + (uint64_t)STEPS_PER_BYTE * pickle->bytes,
        .max_entries = FREE_ENTRIES + pickle->bytes / BYTES_PER_ENTRY,
        .err = err};
    hs_dynbuf_init(&w.text, MAX_NAME_BYTES);
    /* An entry, its name and sometimes a group, each rounded up to 64 bytes; long ones are cut off by this limit. */
    hs_arena_init(&w.dict.arena, strlen(path) + 1024 + w.max_entries * (sizeof(hs_entry) + 512));
    /* All of the buffer at once: from here on, an append that fails means a path that is too long. */
    static const char room[MAX_NAME_BYTES];
    hstu_status status = HSTU_OK;
    if (!hs_dynbuf_append(&w.text, room, sizeof room))
        status = hs_fail_nomem(err, sizeof room, path);
    if (status == HSTU_OK)
        status = walk(&w, pickle->root);
    if (status == HSTU_OK)
        status = finish(&w);
    hs_dynbuf_free(&w.text);
    hs_free(w.frame);
    hs_free(w.entry);
    if (status != HSTU_OK) {
        hs_statedict_close(&w.dict);
        return status;
    }
    *out = w.dict;
    return HSTU_OK;
}
