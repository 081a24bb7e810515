/* hstu_fetch and certificates, with the openssl program as the server: whom it believes, and that it stays with https. */
#include "fetch_support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

typedef struct https_test {
    fetch_test *t;
    pid_t server;
    int port, output;
    char certificate[600];
} https_test;

/* A program whose standard output is *output, in the test's folder; exit code 127 when there is none. */
static pid_t spawn(const fetch_test *t, char *const *argv, int *output)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const int nothing = open("/dev/null", O_RDWR);
        if (chdir(t->folder.folder) != 0 || nothing < 0 || dup2(nothing, 0) < 0 || dup2(ends[1], 1) < 0 ||
            dup2(nothing, 2) < 0)
            _exit(126);
        (void)execvp(argv[0], argv);
        _exit(127);
    }
    (void)close(ends[1]);
    *output = ends[0];
    return child;
}

static int wait_for(pid_t child)
{
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool make_certificate(https_test *h)
{
    char *const argv[] = {"openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out",
        "certificate.pem", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", NULL};
    int output = -1;
    const int code = wait_for(spawn(h->t, argv, &output));
    (void)close(output);
    assert_true(code == 0 || code == 127);
    (void)snprintf(h->certificate, sizeof h->certificate, "%s", scratch_path(&h->t->folder, "certificate.pem"));
    return code == 0;
}

/* It says where it listens: "ACCEPT 127.0.0.1:40123". */
static void start_server(https_test *h)
{
    char *const argv[] = {
        "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", "certificate.pem", "-key", "key.pem", "-HTTP", NULL};
    char text[4096] = "";
    size_t n = 0;
    h->server = spawn(h->t, argv, &h->output);
    for (;;) {
        const ssize_t k = read(h->output, text + n, sizeof text - 1 - n);
        assert_true(k > 0);
        n += (size_t)k;
        text[n] = '\0';
        const char *accept = strstr(text, "ACCEPT ");
        if (accept && strchr(accept, '\n')) {
            assert_int_equal(sscanf(accept, "ACCEPT 127.0.0.1:%d", &h->port), 1);
            return;
        }
    }
}

/* What openssl's server sends for a file is the file, head and all. */
static void write_answers(https_test *h)
{
    static char answer[BODY_BYTES + 200];
    fetch_test *t = h->t;
    int n = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BODY_BYTES);
    memcpy(answer + n, t->body, BODY_BYTES);
    scratch_write(&t->folder, "whole", answer, (size_t)n + BODY_BYTES);
    n = snprintf(answer, sizeof answer, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", t->url);
    scratch_write(&t->folder, "down", answer, (size_t)n);
    n = snprintf(answer, sizeof answer, "HTTP/1.1 302 Found\r\nLocation: /whole\r\nContent-Length: 0\r\n\r\n");
    scratch_write(&t->folder, "across", answer, (size_t)n);
    scratch_mkdir(&t->folder, "target");
    (void)snprintf(t->path, sizeof t->path, "%s", scratch_path(&t->folder, "target/file.bin"));
}

static int https_setup(void **state)
{
    https_test *h = calloc(1, sizeof *h);
    assert_non_null(h);
    assert_int_equal(fetch_setup((void **)&h->t), 0);
    if (make_certificate(h)) {
        start_server(h);
        write_answers(h);
    }
    *state = h;
    return 0;
}

static int https_teardown(void **state)
{
    https_test *h = *state;
    if (h->server) {
        (void)kill(h->server, SIGKILL);
        (void)wait_for(h->server);
        (void)close(h->output);
    }
    (void)unsetenv("CURL_CA_BUNDLE");
    (void)unsetenv("SSL_CERT_FILE");
    (void)fetch_teardown((void **)&h->t);
    free(h);
    return 0;
}

static void ask_for(https_test *h, const char *file, char url[128])
{
    if (!h->server) {
        print_message("the program openssl was not found\n");
        skip();
    }
    (void)snprintf(url, 128, "https://127.0.0.1:%d/%s", h->port, file);
    h->t->options.url = url;
    h->t->options.checksum = h->t->md5;
}

static void a_stranger_is_not_believed(void **state)
{
    https_test *h = *state;
    char url[128];
    ask_for(h, "whole", url);
    fetch_fails(h->t, HSTU_EIO, "the server's certificate was not accepted");
    assert_int_equal(h->t->n_warnings, 0); /* it was tried once */
    assert_int_equal(setenv("CURL_CA_BUNDLE", "/absent", 1), 0);
    fetch_fails(h->t, HSTU_EIO, "the server's certificate was not accepted");
}

static void certificates_come_from_the_environment(void **state)
{
    https_test *h = *state;
    static const char *const variable[] = {"CURL_CA_BUNDLE", "SSL_CERT_FILE"};
    char url[128];
    ask_for(h, "across", url);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(setenv(variable[i], h->certificate, 1), 0);
        if (fetch(h->t) != HSTU_OK)
            fail_msg("%s", h->t->err.msg);
        assert_string_equal(h->t->report.checksum, h->t->md5);
        assert_int_equal(unlink(h->t->path) + unsetenv(variable[i]), 0);
    }
}

static void https_never_becomes_http(void **state)
{
    https_test *h = *state;
    char url[128];
    ask_for(h, "down", url);
    assert_int_equal(setenv("CURL_CA_BUNDLE", h->certificate, 1), 0);
    fetch_fails(h->t, HSTU_EFORMAT, "the server redirects from https to http://127.0.0.1");
    assert_non_null(strstr(h->t->err.msg, "which is not encrypted"));
    assert_int_equal(server_requests(&h->t->server), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, https_setup, https_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stranger_is_not_believed),
        TEST(certificates_come_from_the_environment),
        TEST(https_never_becomes_http),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
