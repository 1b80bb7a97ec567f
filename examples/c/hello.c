// Boots a box from an image, runs a command in it, prints its output as it comes.
//
//   hello IMAGE COMMAND [ARGUMENT...]
#include <boxlite.h>
#include <stdio.h>
#include <stdlib.h>

static boxlite_error *error;

// Ends the program if a call failed.
static void check(boxlite_status status)
{
    if (status == BOXLITE_OK)
        return;
    fprintf(stderr, "%s: %s\n", boxlite_status_name(status), boxlite_error_message(error));
    boxlite_error_free(error);
    exit(125);
}

static void on_output(void *file, const uint8_t *data, size_t length)
{
    fwrite(data, 1, length, file);
    fflush(file);
}

static void on_end(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    (void)user_data;
    if (why)
        fprintf(stderr, "hello: %s\n", boxlite_error_message(why));
    if (signal)
        fprintf(stderr, "hello: ended by signal %d\n", (int)signal);
    fprintf(stderr, "hello: exit code %d\n", (int)code);
}

static void on_progress(void *what, const boxlite_progress *progress)
{
    const char *stage = boxlite_progress_stage(progress);
    if (stage)
        fprintf(stderr, "%s: %-12s %8.1f ms\n", (const char *)what, stage,
                (double)boxlite_progress_microseconds(progress) / 1000);
}

// Waits for an operation while its progress is shown.
static void finish(boxlite_runtime *runtime, boxlite_op *op, const char *what)
{
    check(boxlite_op_on_progress(op, on_progress, (void *)what, NULL, &error));
    while (!boxlite_op_is_done(op))
        (void)boxlite_dispatch(runtime, 50, NULL, NULL);
    while (boxlite_dispatch(runtime, 0, NULL, NULL) == BOXLITE_OK)
        ;
    check(boxlite_op_wait(op, -1, &error));
}

int main(int argc, char **argv)
{
    boxlite_runtime *runtime;
    boxlite_box_options *options;
    boxlite_exec_options *command;
    boxlite_box *box;
    boxlite_exec *exec;
    boxlite_op *op;
    int32_t code;

    if (argc < 2) {
        fprintf(stderr, "usage: hello IMAGE [COMMAND [ARGUMENT...]]\n");
        return 125;
    }
    check(boxlite_runtime_open(NULL, &runtime, &error));

    check(boxlite_box_options_new(argv[1], &options, &error));
    check(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    finish(runtime, op, "create");
    check(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);

    check(boxlite_box_start(box, &op, &error));
    finish(runtime, op, "start");
    boxlite_op_free(op);

    const char *const *words = (const char *const *)argv + 2;
    check(boxlite_exec_options_new(words, (size_t)argc - 2, &command, &error));
    check(boxlite_box_exec(box, command, &op, &error));
    boxlite_exec_options_free(command);
    check(boxlite_op_wait(op, -1, &error));
    check(boxlite_op_take_exec(op, &exec, &error));
    boxlite_op_free(op);

    check(boxlite_exec_on_stdout(exec, on_output, stdout, NULL, &error));
    check(boxlite_exec_on_stderr(exec, on_output, stderr, NULL, &error));
    check(boxlite_exec_on_exit(exec, on_end, NULL, NULL, &error));
    check(boxlite_exec_wait(exec, -1, &code, &error));
    boxlite_exec_free(exec);

    check(boxlite_box_remove(runtime, boxlite_box_id(box), true, &op, &error));
    check(boxlite_op_wait(op, -1, &error));
    boxlite_op_free(op);
    boxlite_box_free(box);
    boxlite_runtime_free(runtime);
    return code;
}
