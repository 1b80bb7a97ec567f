// stdin as a stream: what it takes, when it takes more, and its end.
#include "check.h"

typedef struct {
    int readies, exits;
} events;

static void on_ready(void *user_data, int32_t stream)
{
    CHECK(stream == BOXLITE_STDIN);
    ((events *)user_data)->readies++;
}

static void on_exit_(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    (void)code, (void)signal, (void)why;
    ((events *)user_data)->exits++;
}

static boxlite_exec *with_stdin(boxlite_box *box, const char *script)
{
    boxlite_exec_options *options = shell(script);
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    return start_with(box, options);
}

// Bytes of every value in no order.
static uint8_t *noise(size_t length)
{
    uint8_t *data = malloc(length);
    uint64_t state = 88172645463325252u;
    CHECK(data);
    for (size_t i = 0; i < length; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data[i] = (uint8_t)(state >> 32);
    }
    return data;
}

// Writes until it would block, and returns how much went.
static size_t fill(boxlite_exec *exec, const uint8_t *data, size_t length)
{
    size_t sent = 0, written;
    while (sent < length) {
        written = SIZE_MAX;
        boxlite_status status = boxlite_exec_write(exec, data + sent, length - sent, &written, &error);
        if (status == BOXLITE_WOULD_BLOCK) {
            CHECK(written == SIZE_MAX && boxlite_error_is_retryable(error));
            boxlite_error_free(error);
            error = NULL;
            break;
        }
        OK(status);
        CHECK(written > 0 && written <= length - sent);
        sent += written;
    }
    return sent;
}

static void much_goes_in_while_it_comes_out(boxlite_runtime *runtime, boxlite_box *box)
{
    enum { SIZE = 8 << 20 };
    events e = {0};
    bytes got = {0};
    uint8_t *data = noise(SIZE);
    int blocked = 0;
    boxlite_exec *exec = with_stdin(box, "exec cat");
    OK(boxlite_exec_on_stdout(exec, append, &got, NULL, &error));
    OK(boxlite_exec_on_ready(exec, on_ready, &e, NULL, &error));
    OK(boxlite_exec_on_exit(exec, on_exit_, &e, NULL, &error));
    size_t sent = fill(exec, data, SIZE);
    CHECK(sent < SIZE);
    while (sent < SIZE) {
        blocked++;
        DISPATCH_UNTIL(runtime, e.readies == blocked);
        // Once for each time.
        size_t more = fill(exec, data + sent, SIZE - sent);
        CHECK(more > 0);
        sent += more;
    }
    OK(boxlite_exec_close_stdin(exec, &error));
    DISPATCH_UNTIL(runtime, e.exits == 1);
    CHECK(e.readies == blocked && got.length == SIZE && !memcmp(got.data, data, SIZE));
    boxlite_exec_free(exec);
    free(got.data);
    free(data);
}

static void a_command_that_does_not_read_is_not_drowned(boxlite_runtime *runtime, boxlite_box *box)
{
    enum { SIZE = 64 << 20 };
    events e = {0};
    uint8_t *data = calloc(1, SIZE);
    boxlite_exec *exec = with_stdin(box, "exec sleep 1000");
    size_t sent = 0;
    CHECK(data);
    OK(boxlite_exec_on_ready(exec, on_ready, &e, NULL, &error));
    // Until nothing has changed for a while.
    for (int still = 0; still < 10; still++) {
        size_t more = fill(exec, data, SIZE - sent);
        sent += more;
        if (more)
            still = 0;
        sleep_ms(30);
        dispatch_all(runtime);
    }
    CHECK(sent < SIZE / 2);
    int before = e.readies;
    PRINTS(box, "echo others go on", "others go on\n");
    // A write would not block any more once the command has ended: it fails.
    boxlite_op *op;
    OK(boxlite_exec_signal(exec, SIGKILL, &op, &error));
    wait_op(op);
    DISPATCH_UNTIL(runtime, e.readies > before);
    size_t written;
    EVENTUALLY((written = 77, boxlite_exec_write(exec, data, 1, &written, NULL)) == BOXLITE_INVALID_STATE);
    CHECK(written == 77);
    boxlite_exec_free(exec);
    free(data);
}

static void what_was_written_arrives_before_the_end(boxlite_box *box)
{
    bytes out = {0}, err = {0};
    uint8_t *data = noise(100000);
    boxlite_exec *exec = with_stdin(box, "wc -c");
    CHECK(fill(exec, data, 100000) == 100000);
    OK(boxlite_exec_close_stdin(exec, &error));
    OK(boxlite_exec_close_stdin(exec, &error));
    size_t written = 77;
    FAILS(boxlite_exec_write(exec, data, 1, &written, &error), BOXLITE_INVALID_STATE, "stdin is closed");
    CHECK(written == 77);
    CHECK(finish(exec, &out, &err) == 0 && !strcmp((char *)out.data, "100000\n"));
    free(out.data);
    free(data);

    // Nothing at all.
    out = (bytes){0};
    exec = with_stdin(box, "wc -c");
    OK(boxlite_exec_write(exec, NULL, 0, &written, &error));
    CHECK(written == 0);
    OK(boxlite_exec_close_stdin(exec, &error));
    CHECK(finish(exec, &out, &err) == 0 && !strcmp((char *)out.data, "0\n"));
    free(out.data);
}

static void after_the_end_nothing_is_taken(boxlite_box *box)
{
    size_t written = 77;
    const uint8_t byte = 'x';
    boxlite_exec *exec = with_stdin(box, "exit 2");
    OK(boxlite_exec_wait(exec, 60000, NULL, &error));
    boxlite_status status = boxlite_exec_write(exec, &byte, 1, &written, &error);
    CHECK(status == BOXLITE_INVALID_STATE && boxlite_error_errno(error) == EPIPE && written == 77);
    boxlite_error_free(error);
    error = NULL;
    OK(boxlite_exec_close_stdin(exec, &error));
    OK(boxlite_exec_close_stdin(exec, &error));
    boxlite_exec_free(exec);
}

static void without_a_stdin_nothing_is_taken(boxlite_box *box)
{
    size_t written = 77;
    const uint8_t byte = 'x';
    for (int i = 0; i < 2; i++) {
        bytes out = {0}, err = {0};
        boxlite_exec_options *options = shell("cat; echo end");
        if (i == 1) {
            OK(boxlite_exec_options_set_stdin(options, true, &error));
            OK(boxlite_exec_options_set_stdin(options, false, &error));
        }
        boxlite_exec *exec = start_with(box, options);
        FAILS(boxlite_exec_write(exec, &byte, 1, &written, &error), BOXLITE_INVALID_STATE, "stdin");
        CHECK(written == 77);
        OK(boxlite_exec_close_stdin(exec, &error));
        CHECK(finish(exec, &out, &err) == 0 && !strcmp((char *)out.data, "end\n"));
        free(out.data);
    }
}

static void freeing_the_exec_ends_its_stdin(boxlite_box *box)
{
    size_t written;
    boxlite_exec *exec = with_stdin(box, "cat > /tmp/text; echo closed >> /tmp/text; mv /tmp/text /tmp/whole");
    OK(boxlite_exec_write(exec, (const uint8_t *)"open ", 5, &written, &error));
    boxlite_exec_free(exec);
    PRINTS(box, "while [ ! -e /tmp/whole ]; do sleep 0.05; done; cat /tmp/whole", "open closed\n");
}

// As on a pipe whose other end is closed: no error is promised, but nobody hangs.
static void a_command_may_close_its_stdin(boxlite_box *box)
{
    bytes out = {0}, err = {0};
    uint8_t *data = calloc(1, 4 << 20);
    boxlite_exec *exec = with_stdin(box, "exec <&-; sleep 0.5; echo on");
    CHECK(data);
    for (int i = 0; i < 20; i++) {
        size_t written;
        boxlite_status status = boxlite_exec_write(exec, data, 4 << 20, &written, NULL);
        CHECK(status == BOXLITE_OK || status == BOXLITE_WOULD_BLOCK || status == BOXLITE_INVALID_STATE);
        sleep_ms(10);
    }
    CHECK(finish(exec, &out, &err) == 0 && !strcmp((char *)out.data, "on\n"));
    free(out.data);
    free(data);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    much_goes_in_while_it_comes_out(runtime, box);
    a_command_that_does_not_read_is_not_drowned(runtime, box);
    what_was_written_arrives_before_the_end(box);
    after_the_end_nothing_is_taken(box);
    without_a_stdin_nothing_is_taken(box);
    freeing_the_exec_ends_its_stdin(box);
    a_command_may_close_its_stdin(box);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
