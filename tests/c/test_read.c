// Output that is pulled: byte for byte, its end, and what comes instead of an end.
#include "check.h"

typedef struct {
    boxlite_runtime *runtime;
    int readies[3], exits, code;
    boxlite_status why;
} events;

static void on_ready(void *user_data, int32_t stream)
{
    CHECK(stream == BOXLITE_STDOUT || stream == BOXLITE_STDERR);
    ((events *)user_data)->readies[stream]++;
}

static void on_exit_(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    events *e = user_data;
    (void)signal;
    e->exits++;
    e->code = code;
    e->why = why ? boxlite_error_code(why) : BOXLITE_OK;
}

static void nobody(void *user_data, const uint8_t *data, size_t length)
{
    (void)user_data, (void)data, (void)length;
}

// Has the command ended, without a look at its streams?
static bool has_ended(boxlite_exec *exec)
{
    boxlite_op *op;
    OK(boxlite_exec_signal(exec, 0, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, NULL);
    boxlite_op_free(op);
    return status == BOXLITE_NOT_FOUND;
}

// Reads until something other than bytes comes.
static boxlite_status drain(boxlite_exec *exec, int32_t stream, bytes *got, size_t capacity)
{
    uint8_t *data = malloc(capacity);
    boxlite_status status;
    size_t length;
    CHECK(data);
    while (length = SIZE_MAX, (status = boxlite_exec_read(exec, stream, data, capacity, &length, NULL)) == BOXLITE_OK) {
        CHECK(length <= capacity);
        if (length == 0)
            break;
        append(got, data, length);
    }
    // Nothing was written where there was no result.
    CHECK(status == BOXLITE_OK || length == SIZE_MAX);
    free(data);
    return status;
}

static void both_streams_are_pulled_to_their_end(boxlite_runtime *runtime, boxlite_box *box, size_t capacity)
{
    events e = {0};
    bytes got[3] = {{0}};
    bool ended[3] = {true, false, false};
    int blocked[3] = {0};
    boxlite_exec *exec = start(box, "sleep 0.2; seq 3000 >&2; sleep 0.2; seq 2000; sleep 0.2; exit 6");
    OK(boxlite_exec_on_ready(exec, on_ready, &e, NULL, &error));
    OK(boxlite_exec_on_exit(exec, on_exit_, &e, NULL, &error));
    while (!ended[1] || !ended[2]) {
        for (int32_t stream = 1; stream <= 2; stream++) {
            // Once for each time it would have blocked, and not before it is ready.
            if (ended[stream] || e.readies[stream] < blocked[stream])
                continue;
            CHECK(e.readies[stream] == blocked[stream]);
            if (drain(exec, stream, &got[stream], capacity) == BOXLITE_WOULD_BLOCK)
                blocked[stream]++;
            else
                ended[stream] = true;
        }
        if (!ended[1] || !ended[2])
            DISPATCH_UNTIL(runtime, (!ended[1] && e.readies[1] == blocked[1]) || (!ended[2] && e.readies[2] == blocked[2]));
    }
    CHECK(blocked[1] > 0 && blocked[2] > 0);
    check_numbers(&got[1], 2000);
    check_numbers(&got[2], 3000);
    DISPATCH_UNTIL(runtime, e.exits == 1);
    CHECK(e.code == 6 && e.why == BOXLITE_OK);
    // The end stays the end.
    for (int32_t stream = 1; stream <= 2; stream++) {
        size_t before = got[stream].length;
        CHECK(drain(exec, stream, &got[stream], 10) == BOXLITE_OK && got[stream].length == before);
        CHECK(e.readies[stream] == blocked[stream]);
        free(got[stream].data);
    }
    boxlite_exec_free(exec);
}

static void before_any_output_a_read_would_block(boxlite_runtime *runtime, boxlite_box *box)
{
    events e = {0};
    uint8_t byte = 0x5a;
    size_t length = 77;
    boxlite_exec_options *options = shell("read x; echo $x; read x");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    boxlite_exec *exec = start_with(box, options);
    OK(boxlite_exec_on_ready(exec, on_ready, &e, NULL, &error));
    for (int i = 0; i < 3; i++)
        FAILS(boxlite_exec_read(exec, BOXLITE_STDOUT, &byte, 1, &length, &error), BOXLITE_WOULD_BLOCK, "");
    CHECK(byte == 0x5a && length == 77);
    PRINTS(box, "sleep 0.2; echo other", "other\n");
    dispatch_all(runtime);
    CHECK(e.readies[1] == 0);
    size_t written;
    OK(boxlite_exec_write(exec, (const uint8_t *)"word\n", 5, &written, &error));
    DISPATCH_UNTIL(runtime, e.readies[1] > 0);
    bytes got = {0};
    // One byte at a time, all of them; then it would block again, and is told again.
    CHECK(drain(exec, BOXLITE_STDOUT, &got, 1) == BOXLITE_WOULD_BLOCK);
    CHECK(!strcmp((char *)got.data, "word\n"));
    int before = e.readies[1];
    dispatch_all(runtime);
    CHECK(e.readies[1] == before && e.readies[2] == 0);
    OK(boxlite_exec_close_stdin(exec, &error));
    DISPATCH_UNTIL(runtime, e.readies[1] == before + 1);
    CHECK(drain(exec, BOXLITE_STDOUT, &got, 100) == BOXLITE_OK && got.length == 5);
    free(got.data);
    boxlite_exec_free(exec);
}

static void a_stream_is_read_in_one_way(boxlite_runtime *runtime, boxlite_box *box)
{
    uint8_t data[3];
    size_t length = 77;
    bytes got = {0};
    events e = {0};
    boxlite_exec *exec = start(box, "echo 123456; echo error >&2; exit 4");
    EVENTUALLY(has_ended(exec));
    // Pulled, then pushed: the rest.
    OK(boxlite_exec_read(exec, BOXLITE_STDOUT, data, 3, &length, &error));
    CHECK(length == 3 && !memcmp(data, "123", 3));
    OK(boxlite_exec_on_stdout(exec, append, &got, NULL, &error));
    FAILS(boxlite_exec_read(exec, BOXLITE_STDOUT, data, 3, &length, &error), BOXLITE_INVALID_STATE, "callback");
    OK(boxlite_exec_on_exit(exec, on_exit_, &e, NULL, &error));
    DISPATCH_UNTIL(runtime, e.exits == 1);
    CHECK(!strcmp((char *)got.data, "456\n") && e.code == 4);
    free(got.data);
    // A stream that nobody read did not hold up the exit, and is still there.
    got = (bytes){0};
    CHECK(drain(exec, BOXLITE_STDERR, &got, 100) == BOXLITE_OK && !strcmp((char *)got.data, "error\n"));
    free(got.data);
    boxlite_exec_free(exec);

    // Dropped, by request or by a wait: there is nothing to read, nor an end to pretend.
    exec = start(box, "echo 1; echo 2 >&2");
    OK(boxlite_exec_on_stdout(exec, nobody, NULL, NULL, &error));
    OK(boxlite_exec_discard(exec, BOXLITE_STDOUT, &error));
    FAILS(boxlite_exec_read(exec, BOXLITE_STDOUT, data, 3, &length, &error), BOXLITE_INVALID_STATE, "dropped");
    OK(boxlite_exec_wait(exec, 60000, NULL, &error));
    FAILS(boxlite_exec_read(exec, BOXLITE_STDERR, data, 3, &length, &error), BOXLITE_INVALID_STATE, "dropped");
    boxlite_exec_free(exec);

    exec = start(box, "true");
    FAILS(boxlite_exec_read(exec, BOXLITE_STDIN, data, 3, &length, &error), BOXLITE_INVALID_ARGUMENT, "stream");
    FAILS(boxlite_exec_read(exec, 3, data, 3, &length, &error), BOXLITE_INVALID_ARGUMENT, "stream");
    FAILS(boxlite_exec_read(exec, BOXLITE_STDOUT, data, 0, &length, &error), BOXLITE_INVALID_ARGUMENT, "data");
    boxlite_exec_free(exec);
}

static void the_exit_does_not_wait_for_who_reads(boxlite_runtime *runtime, boxlite_box *box)
{
    events e = {0};
    uint8_t byte;
    size_t length;
    int32_t code = 77;
    boxlite_exec *exec = start(box, "seq 100; exit 8");
    OK(boxlite_exec_on_exit(exec, on_exit_, &e, NULL, &error));
    EVENTUALLY(boxlite_exec_read(exec, BOXLITE_STDOUT, &byte, 1, &length, NULL) == BOXLITE_OK);
    CHECK(length == 1 && byte == '1');
    DISPATCH_UNTIL(runtime, e.exits == 1);
    OK(boxlite_exec_wait(exec, 60000, &code, &error));
    CHECK(e.code == 8 && code == 8 && e.exits == 1);
    // A wait drops what nobody has read of, and only that.
    bytes got = {0};
    append(&got, &byte, 1);
    CHECK(drain(exec, BOXLITE_STDOUT, &got, 100000) == BOXLITE_OK);
    check_numbers(&got, 100);
    free(got.data);
    boxlite_exec_free(exec);
}

static void what_never_ran_has_an_end(boxlite_box *box)
{
    boxlite_exec_options *options;
    const char *argv[] = {"no-such-command"};
    bytes got = {0};
    int32_t code;
    OK(boxlite_exec_options_new(argv, 1, &options, &error));
    boxlite_exec *exec = start_with(box, options);
    CHECK(drain(exec, BOXLITE_STDOUT, &got, 100) == BOXLITE_OK);
    CHECK(drain(exec, BOXLITE_STDERR, &got, 100) == BOXLITE_OK && got.length == 0);
    OK(boxlite_exec_wait(exec, 60000, &code, &error));
    CHECK(code == 127);
    boxlite_exec_free(exec);
}

static void a_stream_that_was_cut_off_has_no_end(boxlite_runtime *runtime, boxlite_box *box)
{
    events e = {0};
    bytes got = {0};
    uint8_t byte;
    size_t length = 77;
    boxlite_exec *exec = start(box, "yes");
    OK(boxlite_exec_on_ready(exec, on_ready, &e, NULL, &error));
    OK(boxlite_exec_on_exit(exec, on_exit_, &e, NULL, &error));
    CHECK(boxlite_exec_read(exec, BOXLITE_STDERR, &byte, 1, &length, NULL) == BOXLITE_WOULD_BLOCK);
    EVENTUALLY(boxlite_exec_read(exec, BOXLITE_STDOUT, &byte, 1, &length, NULL) == BOXLITE_OK);
    CHECK(signal_machines(SIGKILL) == 1);
    // Who waits is told.
    DISPATCH_UNTIL(runtime, e.readies[BOXLITE_STDERR] == 1);
    for (int i = 0; i < 2; i++) {
        // What was there is still there; then the error, each time.
        CHECK(drain(exec, BOXLITE_STDOUT, &got, 1 << 20) == BOXLITE_ENGINE);
        FAILS(boxlite_exec_read(exec, BOXLITE_STDOUT, &byte, 1, &length, &error), BOXLITE_ENGINE, "signal 9");
        FAILS(boxlite_exec_read(exec, BOXLITE_STDERR, &byte, 1, &length, &error), BOXLITE_ENGINE, "signal 9");
    }
    CHECK(got.length > 0);
    free(got.data);
    DISPATCH_UNTIL(runtime, e.exits == 1);
    CHECK(e.code == -1 && e.why == BOXLITE_ENGINE);
    boxlite_exec_free(exec);
    EVENTUALLY(count_machines() == 0);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    const size_t capacities[] = {1, 7, 4097, 4 << 20};
    for (int i = 0; i < 4; i++)
        both_streams_are_pulled_to_their_end(runtime, box, capacities[i]);
    before_any_output_a_read_would_block(runtime, box);
    a_stream_is_read_in_one_way(runtime, box);
    the_exit_does_not_wait_for_who_reads(runtime, box);
    what_never_ran_has_an_end(box);
    a_stream_that_was_cut_off_has_no_end(runtime, box);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
