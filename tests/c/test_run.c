// A command in one call: its bytes, its end, its limits; and nothing left of its box.
#include "check.h"

#define POISON ((void *)(uintptr_t)0x5a5a5a5a)

static boxlite_runtime *runtime;

static boxlite_status run_for(const char *script, size_t limit, int32_t timeout_ms, boxlite_output **output)
{
    const char *argv[] = {"sh", "-c", script};
    return boxlite_run(runtime, image("busybox"), argv, 3, limit, timeout_ms, output, &error);
}

static boxlite_output *run(const char *script, size_t limit)
{
    boxlite_output *output;
    OK(run_for(script, limit, 120000, &output));
    return output;
}

// What a stream must be.
static void check_bytes(const boxlite_output *output, int32_t stream, const char *wanted, size_t length)
{
    size_t got = 77;
    const uint8_t *bytes = boxlite_output_bytes(output, stream, &got);
    CHECK(got == length && !memcmp(bytes, wanted, length) && bytes[length] == 0);
    CHECK(boxlite_output_bytes(output, stream, NULL) == bytes);
}

static void nothing_is_left(void)
{
    EVENTUALLY(count_machines() == 0);
    boxlite_runtime *look = open_runtime();
    CHECK(count_boxes(look) == 0);
    boxlite_runtime_free(look);
    char command[128];
    snprintf(command, sizeof command, "test -z \"$(ls %s/boxes)\"", home);
    CHECK(system(command) == 0);
}

static void bytes_are_bytes(void)
{
    boxlite_output *output = run("printf 'a\\000\\377b\\n'; printf '\\376\\000\\000' >&2; exit 42", 1000);
    check_bytes(output, BOXLITE_STDOUT, "a\0\377b\n", 5);
    check_bytes(output, BOXLITE_STDERR, "\376\0\0", 3);
    CHECK(boxlite_output_code(output) == 42 && boxlite_output_signal(output) == 0);
    CHECK(!boxlite_output_message(output));
    CHECK(!boxlite_output_dropped(output, BOXLITE_STDOUT) && !boxlite_output_dropped(output, BOXLITE_STDERR));
    // No such stream.
    const int32_t none[] = {BOXLITE_STDIN, 3, -1};
    for (int i = 0; i < 3; i++) {
        size_t length = 77;
        CHECK(!strcmp((const char *)boxlite_output_bytes(output, none[i], &length), "") && length == 0);
        CHECK(boxlite_output_dropped(output, none[i]) == 0);
    }
    boxlite_output_free(output);
    nothing_is_left();
}

static void what_is_beyond_the_limit_is_counted(boxlite_box *box)
{
    // 3893 bytes on stdout, 5 on stderr.
    const struct {
        size_t limit, out, err;
        uint64_t out_dropped, err_dropped;
    } cases[] = {
        {0, 0, 0, 3893, 5}, {1, 1, 1, 3892, 4}, {5, 5, 5, 3888, 0}, {3892, 3892, 5, 1, 0}, {3893, 3893, 5, 0, 0}, {SIZE_MAX, 3893, 5, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        boxlite_op *op;
        boxlite_output *output;
        boxlite_exec_options *options = shell("seq 1000; echo 1234 >&2");
        OK(boxlite_box_run(box, options, cases[i].limit, &op, &error));
        boxlite_exec_options_free(options);
        OK(boxlite_op_wait(op, 60000, &error));
        OK(boxlite_op_take_output(op, &output, &error));
        boxlite_op_free(op);
        char expected[4000], *end = expected;
        for (int n = 1; n <= 1000; n++)
            end += sprintf(end, "%d\n", n);
        check_bytes(output, BOXLITE_STDOUT, expected, cases[i].out);
        check_bytes(output, BOXLITE_STDERR, "1234\n", cases[i].err);
        CHECK(boxlite_output_dropped(output, BOXLITE_STDOUT) == cases[i].out_dropped);
        CHECK(boxlite_output_dropped(output, BOXLITE_STDERR) == cases[i].err_dropped);
        CHECK(boxlite_output_code(output) == 0);
        boxlite_output_free(output);
    }
}

static boxlite_output *run_in(boxlite_box *box, const char *const *argv, size_t argc)
{
    boxlite_op *op;
    boxlite_output *output;
    boxlite_exec_options *options;
    OK(boxlite_exec_options_new(argv, argc, &options, &error));
    OK(boxlite_box_run(box, options, 1000, &op, &error));
    boxlite_exec_options_free(options);
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_output(op, &output, &error));
    boxlite_op_free(op);
    return output;
}

static void ends_are_told(boxlite_box *box)
{
    const struct {
        const char *command;
        int32_t code, signal;
        const char *message;
    } cases[] = {
        {"exit 0", 0, 0, NULL},
        {"exit 1", 1, 0, NULL},
        {"exit 255", 255, 0, NULL},
        {"kill -9 $$", 137, 9, NULL},
        {"kill -15 $$", 143, 15, NULL},
        // A shell that says so itself, which is an ordinary end.
        {"exit 127", 127, 0, NULL},
        {"cat; echo x", 0, 0, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *argv[] = {"sh", "-c", cases[i].command};
        boxlite_output *output = run_in(box, argv, 3);
        CHECK(boxlite_output_code(output) == cases[i].code && boxlite_output_signal(output) == cases[i].signal);
        CHECK(!boxlite_output_message(output));
        boxlite_output_free(output);
    }
    const char *missing[] = {"no-such-command"}, *not_executable[] = {"/etc/passwd"};
    boxlite_output *output = run_in(box, missing, 1);
    CHECK(boxlite_output_code(output) == 127 && strstr(boxlite_output_message(output), "no-such-command: command not found"));
    check_bytes(output, BOXLITE_STDERR, "", 0);
    boxlite_output_free(output);
    output = run_in(box, not_executable, 1);
    CHECK(boxlite_output_code(output) == 126 && strstr(boxlite_output_message(output), "/etc/passwd"));
    boxlite_output_free(output);
}

static void much_is_gathered_without_holding_up_the_command(boxlite_box *box)
{
    const char *argv[] = {"sh", "-c", "head -c 5000000 /dev/zero; echo end >&2"};
    boxlite_output *output = run_in(box, argv, 3);
    CHECK(boxlite_output_dropped(output, BOXLITE_STDOUT) == 4999000);
    check_bytes(output, BOXLITE_STDERR, "end\n", 4);
    boxlite_output_free(output);
}

static void cancelling_kills_the_command(boxlite_box *box)
{
    boxlite_op *op;
    boxlite_output *output = POISON;
    boxlite_exec_options *options = shell("echo up > /tmp/up; sleep 4321; echo never > /tmp/never");
    OK(boxlite_box_run(box, options, 10, &op, &error));
    PRINTS(box, "while [ ! -e /tmp/up ]; do sleep 0.05; done; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep [4]321'", "1\n");
    OK(boxlite_op_cancel(op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_CANCELLED, "cancelled");
    FAILS(boxlite_op_take_output(op, &output, &error), BOXLITE_CANCELLED, "cancelled");
    CHECK(output == POISON);
    boxlite_op_free(op);
    // Its whole group, and it does not go on.
    PRINTS(box, "while cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q 'sleep [4]321'; do sleep 0.05; done; ls /tmp/never 2>/dev/null; echo gone", "gone\n");

    // Freed, it goes on.
    boxlite_exec_options_free(options);
    options = shell("sleep 0.3; echo finished > /tmp/finished");
    OK(boxlite_box_run(box, options, 10, &op, &error));
    boxlite_exec_options_free(options);
    boxlite_op_free(op);
    PRINTS(box, "while [ ! -e /tmp/finished ]; do sleep 0.05; done; cat /tmp/finished", "finished\n");
}

// The same without waiting; cancelled at any moment, it completes when the box is gone.
static void as_an_operation(void)
{
    boxlite_op *op;
    boxlite_output *output;
    for (int i = 0; i < 6; i++) {
        boxlite_box_options *options;
        boxlite_exec_options *command = shell(i == 0 ? "echo out; exit 4" : "exec sleep 1000");
        OK(boxlite_box_options_new(image("busybox"), &options, &error));
        OK(boxlite_runtime_run(runtime, options, command, 100, &op, &error));
        boxlite_box_options_free(options);
        boxlite_exec_options_free(command);
        if (i == 0) {
            OK(boxlite_op_wait(op, 120000, &error));
            OK(boxlite_op_take_output(op, &output, &error));
            CHECK(boxlite_output_code(output) == 4);
            check_bytes(output, BOXLITE_STDOUT, "out\n", 4);
            boxlite_output_free(output);
        } else {
            sleep_ms((i - 1) * 500);
            OK(boxlite_op_cancel(op, &error));
            FAILS(boxlite_op_wait(op, 120000, &error), BOXLITE_CANCELLED, "");
        }
        boxlite_op_free(op);
        nothing_is_left();
    }
}

static void too_long_is_a_timeout(void)
{
    boxlite_output *output = POISON;
    // While it runs; while it starts; before anything.
    const int32_t limits[] = {3000, 300, 1, 0};
    for (int i = 0; i < 4; i++) {
        FAILS(run_for("exec sleep 1000", 10, limits[i], &output), BOXLITE_TIMEOUT, "");
        CHECK(output == POISON);
        nothing_is_left();
    }
}

static void failures_leave_nothing(void)
{
    boxlite_output *output = POISON;
    const char *argv[] = {"true"};
    FAILS(boxlite_run(runtime, "/no/such/image", argv, 1, 10, -1, &output, &error), BOXLITE_IMAGE, "/no/such/image");
    nothing_is_left();
    boxlite_status status = run_for("reboot -f; exec sleep 1000", 10, 120000, &output);
    CHECK(status == BOXLITE_STOPPED && output == POISON);
    boxlite_error_free(error);
    error = NULL;
    nothing_is_left();
    FAILS(run_for("\xff", 10, -1, &output), BOXLITE_INVALID_ARGUMENT, "argv");
    CHECK(output == POISON);
}

static void the_images_own_command_is_run(void)
{
    boxlite_output *output;
    // A shell that reads end of file.
    OK(boxlite_run(runtime, image("busybox"), NULL, 0, 10, 120000, &output, &error));
    CHECK(boxlite_output_code(output) == 0);
    boxlite_output_free(output);
    nothing_is_left();
}

int main(void)
{
    runtime = open_runtime();
    bytes_are_bytes();
    failures_leave_nothing();
    the_images_own_command_is_run();
    as_an_operation();
    too_long_is_a_timeout();
    boxlite_box *box = new_box(runtime);
    what_is_beyond_the_limit_is_counted(box);
    ends_are_told(box);
    much_is_gathered_without_holding_up_the_command(box);
    cancelling_kills_the_command(box);
    remove_box(runtime, box);
    boxlite_runtime_free(runtime);

    // Without a runtime: the default home's.
    setenv("BOXLITE_HOME", home, 1);
    runtime = NULL;
    bytes_are_bytes();
    FAILS(run_for("exec sleep 1000", 10, 2000, &(boxlite_output *){NULL}), BOXLITE_TIMEOUT, "");
    nothing_is_left();
    close_runtime(open_runtime());
    return 0;
}
