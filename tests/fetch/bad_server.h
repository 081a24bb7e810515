/* An HTTP/1.1 server on a loopback address, in a thread, that misbehaves as it is told. It allocates nothing, so that torture
 * tests hit the code under test alone. One connection at a time, one request a connection. */
#ifndef BAD_SERVER_H
#define BAD_SERVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What the server does with one request for /file. All zero: serve it as it should be. */
typedef struct misdeed {
    int status;           /* answer this, with a short text, instead of the file */
    const char *header;   /* further header lines, each with its end */
    const char *etag;     /* instead of the server's own; "" for none */
    bool ignore_range;    /* always 200 and the whole file */
    bool ignore_if_range; /* 206 whatever the validator */
    bool cut;             /* close after cut_at bytes, head included */
    size_t cut_at;
    bool hold; /* after hold_at bytes, head included, send nothing more until the client goes */
    size_t hold_at;
    long length_lie; /* added to Content-Length */
    bool chunked;
    bool no_length;     /* the body ends with the connection */
    bool endless;       /* the body goes on behind the file, until the client goes; with chunked or no_length */
    bool no_last_chunk; /* the connection ends between two chunks */
    size_t piece;       /* so many bytes at a time, with a pause */
    size_t head_filler; /* so many bytes of needless headers */
    size_t range_shift; /* a 206 begins so many bytes later than asked */
    const char *body;   /* another file of body_len bytes */
    size_t body_len;
} misdeed;

enum { SERVER_MAX_DEEDS = 64, SERVER_REQUEST = 8192 };

typedef struct bad_server {
    int listener, stop[2], port;
    pthread_t thread;
    pthread_mutex_t mutex; /* over all below */
    const char *body;
    size_t body_len;
    const char *etag, *modified;
    const char *record, *sums; /* texts at /record and /sums; NULL: 404 */
    int n_ill;                 /* so many requests for these are answered 503 */
    misdeed deed[SERVER_MAX_DEEDS];
    size_t n_deeds, n_done; /* of the file's requests */
    int n_file, n_all;      /* requests */
    size_t n_sent;          /* bytes of the connection under way */
    long last_range;        /* of the last request for the file, -1 without one */
    bool last_if_range;
    char last_target[512];
} bad_server;

/* ---- Sending ---------------------------------------------------------------------------------------------------- */

typedef struct line_out {
    bad_server *server;
    int fd;
    misdeed deed;
    size_t sent;
    bool closed;
} line_out;

/* Until the client or the test goes away. */
static inline void out_hold(line_out *o)
{
    struct pollfd fds[2] = {{.fd = o->fd, .events = POLLIN}, {.fd = o->server->stop[0], .events = POLLIN}};
    (void)poll(fds, 2, 20000);
    o->closed = true;
}

static inline void out_raw(line_out *o, const char *data, size_t n)
{
    while (n && !o->closed) {
        const size_t step = o->deed.piece && o->deed.piece < n ? o->deed.piece : n;
        const ssize_t k = send(o->fd, data, step, MSG_NOSIGNAL);
        if (k <= 0) {
            o->closed = true;
            return;
        }
        data += k;
        n -= (size_t)k;
        o->sent += (size_t)k;
        (void)pthread_mutex_lock(&o->server->mutex);
        o->server->n_sent = o->sent;
        (void)pthread_mutex_unlock(&o->server->mutex);
        if (o->deed.piece)
            (void)nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
}

static inline void out_bytes(line_out *o, const char *data, size_t n)
{
    const size_t to_cut = o->deed.cut ? o->deed.cut_at - o->sent : SIZE_MAX;
    const size_t to_hold = o->deed.hold ? o->deed.hold_at - o->sent : SIZE_MAX;
    const size_t stop = to_cut < to_hold ? to_cut : to_hold;
    if (stop > n || o->closed) {
        out_raw(o, data, n);
        return;
    }
    out_raw(o, data, stop);
    if (to_hold <= to_cut && !o->closed)
        out_hold(o);
    o->closed = true;
}

static inline void out_text(line_out *o, const char *text)
{
    out_bytes(o, text, strlen(text));
}

static inline void out_chunk(line_out *o, const char *data, size_t n)
{
    char size[32];
    (void)snprintf(size, sizeof size, "%zx\r\n", n);
    out_text(o, size);
    out_bytes(o, data, n);
    out_text(o, "\r\n");
}

static inline void out_body(line_out *o, const char *data, size_t n)
{
    const size_t step = 4096;
    for (size_t i = 0; o->deed.chunked && i < n && !o->closed; i += step)
        out_chunk(o, data + i, n - i < step ? n - i : step);
    if (!o->deed.chunked)
        out_bytes(o, data, n);
    while (o->deed.endless && !o->closed) {
        static const char more[4096];
        if (o->deed.chunked)
            out_chunk(o, more, sizeof more);
        else
            out_bytes(o, more, sizeof more);
    }
    if (o->deed.chunked && !o->deed.no_last_chunk)
        out_text(o, "0\r\n\r\n");
}

static inline void out_simple(line_out *o, int status, const char *header, const char *text)
{
    char head[1024];
    (void)snprintf(head, sizeof head, "HTTP/1.1 %d Answer\r\n%sContent-Length: %zu\r\nConnection: close\r\n\r\n",
        status, header ? header : "", strlen(text));
    out_text(o, head);
    out_text(o, text);
}

/* ---- Answering -------------------------------------------------------------------------------------------------- */

static inline const char *find_field(const char *request, const char *name)
{
    const size_t n = strlen(name);
    for (const char *line = request; (line = strstr(line, "\r\n"));) {
        line += 2;
        if (strncasecmp(line, name, n) == 0)
            return line + n;
    }
    return NULL;
}

/* The head of the file's answer; returns where the body begins. */
static inline size_t file_head(
    line_out *o, long range, const char *if_range, size_t len, const char *etag, const char *modified)
{
    const misdeed *deed = &o->deed;
    char head[1024], lines[512] = "";
    const size_t n_tag = strlen(etag);
    bool same = !if_range || deed->ignore_if_range || (n_tag && strncmp(if_range, etag, n_tag) == 0);
    same = same || (modified && if_range && strncmp(if_range, modified, strlen(modified)) == 0);
    const bool partial = range >= 0 && !deed->ignore_range && same;
    if (partial && (size_t)range >= len) {
        if (deed->endless) {
            out_text(o, "HTTP/1.1 416 Range\r\n");
            (void)snprintf(head, sizeof head, "Content-Range: bytes */%zu\r\n\r\n", len);
            out_text(o, head);
            out_body(o, "", 0);
            return SIZE_MAX;
        }
        (void)snprintf(head, sizeof head,
            "HTTP/1.1 416 Range\r\nContent-Range: bytes */%zu\r\nContent-Length: 5\r\nConnection: close\r\n\r\nrange",
            len);
        out_text(o, head);
        return SIZE_MAX;
    }
    const size_t first = partial ? (size_t)range + deed->range_shift : 0;
    int n = 0;
    if (n_tag)
        n += snprintf(lines + n, sizeof lines - (size_t)n, "ETag: %s\r\n", etag);
    if (modified)
        n += snprintf(lines + n, sizeof lines - (size_t)n, "Last-Modified: %s\r\n", modified);
    if (partial)
        n += snprintf(lines + n, sizeof lines - (size_t)n, "Content-Range: bytes %zu-%zu/%zu\r\n", first, len - 1, len);
    if (deed->chunked)
        (void)snprintf(lines + n, sizeof lines - (size_t)n, "Transfer-Encoding: chunked\r\n");
    else if (!deed->no_length)
        (void)snprintf(
            lines + n, sizeof lines - (size_t)n, "Content-Length: %ld\r\n", (long)(len - first) + deed->length_lie);
    (void)snprintf(head, sizeof head, "HTTP/1.1 %s\r\nDate: Wed, 01 Jan 2025 00:00:00 GMT\r\n%s%s",
        partial ? "206 Partial" : "200 OK", deed->header ? deed->header : "", lines);
    out_text(o, head);
    for (size_t i = 0; i < deed->head_filler; i += 64)
        out_text(o, "X-Filler: 00000000000000000000000000000000000000000000000000\r\n");
    out_text(o, "Connection: close\r\n\r\n");
    return first;
}

static inline void serve_file(bad_server *s, line_out *o, const char *request)
{
    const char *range = find_field(request, "Range: bytes="), *if_range = find_field(request, "If-Range: ");
    (void)pthread_mutex_lock(&s->mutex);
    const char *body = s->body, *etag = s->etag ? s->etag : "", *modified = s->modified;
    size_t len = s->body_len;
    if (s->n_done < s->n_deeds)
        o->deed = s->deed[s->n_done++];
    s->n_file++;
    s->last_range = range ? strtol(range, NULL, 10) : -1;
    s->last_if_range = if_range != NULL;
    const long first = s->last_range;
    (void)pthread_mutex_unlock(&s->mutex);
    if (o->deed.body) {
        body = o->deed.body;
        len = o->deed.body_len;
    }
    if (o->deed.status) {
        out_simple(o, o->deed.status, o->deed.header, "a text that is no file");
        return;
    }
    const size_t begin = file_head(o, first, if_range, len, o->deed.etag ? o->deed.etag : etag, modified);
    if (begin != SIZE_MAX)
        out_body(o, body + begin, len - begin);
}

static inline void serve_text(line_out *o, const char *text)
{
    out_simple(o, text ? 200 : 404, NULL, text ? text : "nothing here");
}

/* /hops/3 leads to /hops/2 and so on to /file; /to/<anything> leads to that; /loop to itself. */
static inline void serve(bad_server *s, int fd, const char *request)
{
    char path[512] = "", line[700];
    line_out o = {.server = s, .fd = fd};
    (void)sscanf(request, "GET %511s", path);
    const char *host =
        strncmp(path, "http://", 7) == 0 ? strchr(path + 7, '/') : path; /* a proxy is given whole URLs */
    const char *at = host ? host : "";
    (void)pthread_mutex_lock(&s->mutex);
    s->n_all++;
    s->n_sent = 0;
    (void)snprintf(s->last_target, sizeof s->last_target, "%s", path);
    const char *record = s->record, *sums = s->sums;
    const bool ill = s->n_ill > 0 && (strcmp(at, "/record") == 0 || strcmp(at, "/sums") == 0);
    s->n_ill -= ill;
    (void)pthread_mutex_unlock(&s->mutex);
    if (ill) {
        out_simple(&o, 503, NULL, "ill");
    } else if (strncmp(at, "/hops/", 6) == 0) {
        const long left = strtol(at + 6, NULL, 10);
        if (left > 1)
            (void)snprintf(line, sizeof line, "Location: /hops/%ld\r\n", left - 1);
        out_simple(&o, 302, left > 1 ? line : "Location: ../file\r\n", "elsewhere");
    } else if (strncmp(at, "/to/", 4) == 0) {
        (void)snprintf(line, sizeof line, "Location: %s\r\n", at + 4);
        out_simple(&o, 301, line, "elsewhere");
    } else if (strcmp(at, "/loop") == 0) {
        out_simple(&o, 307, "Location: /loop\r\n", "elsewhere");
    } else if (strcmp(at, "/nowhere") == 0) {
        out_simple(&o, 302, NULL, "elsewhere");
    } else if (strcmp(at, "/record") == 0) {
        serve_text(&o, record);
    } else if (strcmp(at, "/sums") == 0) {
        serve_text(&o, sums);
    } else if (strncmp(at, "/file", 5) == 0) {
        serve_file(s, &o, request);
    } else {
        serve_text(&o, NULL);
    }
}

static inline void answer(bad_server *s, int fd)
{
    char request[SERVER_REQUEST];
    size_t n = 0;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 5000) <= 0)
            return;
        const ssize_t k = recv(fd, request + n, sizeof request - 1 - n, 0);
        if (k <= 0)
            return;
        n += (size_t)k;
        request[n] = '\0';
        if (strstr(request, "\r\n\r\n"))
            break;
        if (n == sizeof request - 1)
            return;
    }
    serve(s, fd, request);
}

static inline void *server_loop(void *ctx)
{
    bad_server *s = ctx;
    for (;;) {
        struct pollfd fds[2] = {{.fd = s->listener, .events = POLLIN}, {.fd = s->stop[0], .events = POLLIN}};
        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[1].revents)
            return NULL;
        const int fd = accept(s->listener, NULL, NULL);
        if (fd < 0)
            continue;
        answer(s, fd);
        (void)close(fd);
    }
}

/* ---- The test's side -------------------------------------------------------------------------------------------- */

static inline void server_start(bad_server *s, const char *body, size_t body_len)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;
    *s = (bad_server){.body = body, .body_len = body_len, .etag = "\"v1\""};
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(s->listener >= 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&address, n), 0);
    assert_int_equal(listen(s->listener, 64), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&address, &n), 0);
    s->port = ntohs(address.sin_port);
    assert_int_equal(pipe(s->stop), 0);
    assert_int_equal(pthread_mutex_init(&s->mutex, NULL), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, server_loop, s), 0);
}

static inline void server_stop(bad_server *s)
{
    assert_int_equal(write(s->stop[1], "x", 1), 1);
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    (void)close(s->listener);
    (void)close(s->stop[0]);
    (void)close(s->stop[1]);
    (void)pthread_mutex_destroy(&s->mutex);
}

/* From now on these misdeeds, one a request for the file, and good behaviour after them. */
static inline void server_plan(bad_server *s, const misdeed *deed, size_t n)
{
    assert_true(n <= SERVER_MAX_DEEDS);
    (void)pthread_mutex_lock(&s->mutex);
    if (n)
        memcpy(s->deed, deed, n * sizeof *deed);
    s->n_deeds = n;
    s->n_done = 0;
    s->n_file = s->n_all = 0;
    (void)pthread_mutex_unlock(&s->mutex);
}

static inline int server_file_requests(bad_server *s)
{
    (void)pthread_mutex_lock(&s->mutex);
    const int n = s->n_file;
    (void)pthread_mutex_unlock(&s->mutex);
    return n;
}

static inline int server_requests(bad_server *s)
{
    (void)pthread_mutex_lock(&s->mutex);
    const int n = s->n_all;
    (void)pthread_mutex_unlock(&s->mutex);
    return n;
}

/* The offset that the last request for the file asked for, -1 when it asked for all. */
static inline long server_last_range(bad_server *s)
{
    (void)pthread_mutex_lock(&s->mutex);
    const long n = s->last_range;
    (void)pthread_mutex_unlock(&s->mutex);
    return n;
}

static inline void server_texts(bad_server *s, const char *record, const char *sums)
{
    (void)pthread_mutex_lock(&s->mutex);
    s->record = record;
    s->sums = sums;
    (void)pthread_mutex_unlock(&s->mutex);
}

static inline void server_ill(bad_server *s, int n)
{
    (void)pthread_mutex_lock(&s->mutex);
    s->n_ill = n;
    (void)pthread_mutex_unlock(&s->mutex);
}

static inline void server_identity(bad_server *s, const char *etag, const char *modified)
{
    (void)pthread_mutex_lock(&s->mutex);
    s->etag = etag;
    s->modified = modified;
    (void)pthread_mutex_unlock(&s->mutex);
}

#endif
