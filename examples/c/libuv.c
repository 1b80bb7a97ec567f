// A command in a box, watched by a libuv loop: the loop never blocks, and has no threads.
//   libuv IMAGE [COMMAND [ARGUMENT...]]
#define _POSIX_C_SOURCE 200809L // what uv.h needs under -std=c11
#include "common.h"
#include <uv.h>

static uv_poll_t events;

static void on_output(void *file, const uint8_t *data, size_t length)
{
    fwrite(data, 1, length, file);
}

static void on_end(void *exec, int32_t code, int32_t signal, const boxlite_error *why)
{
    printf("exit code %d, signal %d %s\n", code, signal, boxlite_error_message(why));
    boxlite_exec_free(exec);
    uv_close((uv_handle_t *)&events, NULL); // nothing else is in the loop: it ends
}

static void on_started(void *out, boxlite_op *op)
{
    boxlite_exec *exec;
    check(boxlite_op_take_exec(op, &exec, &error));
    check(boxlite_exec_on_stdout(exec, on_output, out, NULL, &error));
    check(boxlite_exec_on_stderr(exec, on_output, stderr, NULL, &error));
    check(boxlite_exec_on_exit(exec, on_end, exec, NULL, &error));
    boxlite_op_free(op);
}

// The descriptor stays readable while something is due, and libuv calls again: one at a time.
static void on_event(uv_poll_t *poll, int failure, int readable)
{
    boxlite_status status = boxlite_dispatch(poll->data, 0, NULL, &error);
    (void)failure, (void)readable;
    check(status == BOXLITE_TIMEOUT ? BOXLITE_OK : status);
}

int main(int argc, char **argv)
{
    const char **words = (const char **)argv + 2;
    boxlite_runtime *runtime;
    boxlite_exec_options *command;
    boxlite_op *op;

    check(boxlite_runtime_open(NULL, &runtime, &error));
    boxlite_box *box = make_box(runtime, argv[1], 256);
    check(boxlite_exec_options_new(words, argc > 2 ? argc - 2 : 0, &command, &error));
    check(boxlite_box_exec(box, command, &op, &error)); // starts the box first
    check(boxlite_op_on_complete(op, on_started, stdout, NULL, &error));
    boxlite_exec_options_free(command);
    events.data = runtime;
    if (uv_poll_init(uv_default_loop(), &events, boxlite_event_fd(runtime)) != 0 ||
        uv_poll_start(&events, UV_READABLE, on_event) != 0)
        return fprintf(stderr, "libuv: cannot watch the descriptor\n"), 125;
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    remove_box(runtime, box);
    boxlite_runtime_free(runtime);
    return uv_loop_close(uv_default_loop());
}
