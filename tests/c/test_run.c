// Output that is gathered: up to a limit, with the end of the command beside it.
#include "check.h"

static boxlite_output *run(boxlite_box *box, const char *script, size_t limit)
{
    boxlite_op *op;
    boxlite_output *output;
    boxlite_exec_options *options = shell(script);
    OK(boxlite_box_run(box, options, limit, &op, &error));
    boxlite_exec_options_free(options);
    OK(boxlite_op_wait(op, 120000, &error));
    OK(boxlite_op_take_output(op, &output, &error));
    boxlite_op_free(op);
    return output;
}

// What a stream kept and what it dropped; a NUL follows.
static void kept(const boxlite_output *output, int32_t stream, size_t wanted, uint64_t dropped)
{
    size_t length = 77;
    const uint8_t *bytes = boxlite_output_bytes(output, stream, &length);
    CHECK(length == wanted && bytes[length] == 0);
    CHECK(boxlite_output_dropped(output, stream) == dropped);
}

static void what_is_beyond_the_limit_is_counted(boxlite_box *box)
{
    const char *script = "head -c 1000000 /dev/zero; head -c 5 /dev/zero >&2; exit 3";
    const struct {
        size_t limit, out, err;
    } cases[] = {{0, 0, 0}, {5, 5, 5}, {999999, 999999, 5}, {1000000, 1000000, 5}, {SIZE_MAX, 1000000, 5}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        boxlite_output *output = run(box, script, cases[i].limit);
        CHECK(boxlite_output_code(output) == 3 && boxlite_output_signal(output) == 0);
        CHECK(boxlite_output_message(output) == NULL);
        kept(output, BOXLITE_STDOUT, cases[i].out, 1000000 - cases[i].out);
        kept(output, BOXLITE_STDERR, cases[i].err, 5 - cases[i].err);
        kept(output, BOXLITE_STDIN, 0, 0);
        boxlite_output_free(output);
    }
}

static void how_it_ended_is_told(boxlite_box *box)
{
    boxlite_output *output = run(box, "kill -9 $$", 10);
    CHECK(boxlite_output_code(output) == 137 && boxlite_output_signal(output) == 9);
    boxlite_output_free(output);
    // It reads end of file.
    output = run(box, "cat; echo end", 10);
    CHECK(!strcmp((const char *)boxlite_output_bytes(output, BOXLITE_STDOUT, NULL), "end\n"));
    boxlite_output_free(output);
}

static void one_that_is_cancelled_is_killed(boxlite_box *box)
{
    boxlite_op *op;
    boxlite_exec_options *options = shell("echo > /started; exec sleep 1000");
    OK(boxlite_box_run(box, options, 10, &op, &error));
    boxlite_exec_options_free(options);
    PRINTS(box, "until [ -e /started ]; do sleep 0.05; done; echo started", "started\n");
    OK(boxlite_op_cancel(op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_CANCELLED, "cancelled");
    boxlite_op_free(op);
    PRINTS(box, "while pgrep -x sleep >/dev/null; do :; done; echo none", "none\n");
}

// A whole box in one call: it is gone afterwards, whatever became of the command.
static void a_box_in_one_call_is_gone_afterwards(boxlite_runtime *runtime)
{
    size_t before = count_boxes(runtime);
    int machines = count_machines();
    boxlite_output *output;
    const char *echo[] = {"echo", "hello"}, *nothing[] = {"no-such-command"}, *sleeping[] = {"sleep", "1000"};
    OK(boxlite_run(runtime, image("busybox"), echo, 2, 100, 120000, &output, &error));
    CHECK(boxlite_output_code(output) == 0);
    CHECK(!strcmp((const char *)boxlite_output_bytes(output, BOXLITE_STDOUT, NULL), "hello\n"));
    boxlite_output_free(output);
    OK(boxlite_run(runtime, image("busybox"), nothing, 1, 100, 120000, &output, &error));
    CHECK(boxlite_output_code(output) == 127);
    CHECK(strstr(boxlite_output_message(output), "no-such-command"));
    boxlite_output_free(output);
    output = NULL;
    FAILS(boxlite_run(runtime, image("busybox"), sleeping, 2, 100, 3000, &output, &error), BOXLITE_TIMEOUT, "3000");
    FAILS(boxlite_run(runtime, "/no/such/image", echo, 2, 100, -1, &output, &error), BOXLITE_IMAGE, "/no/such/image");
    CHECK(!output && count_boxes(runtime) == before);
    EVENTUALLY(count_machines() == machines);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    what_is_beyond_the_limit_is_counted(box);
    how_it_ended_is_told(box);
    one_that_is_cancelled_is_killed(box);
    a_box_in_one_call_is_gone_afterwards(runtime);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
