// usage: consumer [IMAGE]
//
// A program of somebody who installed the library: prints its version, opens a home, and if there is
// an image runs a command in a box of it. $HELPERS is where it was told that they are, if anywhere.
#include <boxlite.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static boxlite_error *error;

static void must(boxlite_status status)
{
    if (status == BOXLITE_OK)
        return;
    fprintf(stderr, "%s: %s\n", boxlite_status_name(status), boxlite_error_message(error));
    exit(1);
}

static void finish(boxlite_op *op)
{
    must(boxlite_op_wait(op, 120000, &error));
    boxlite_op_free(op);
}

static void print(void *user_data, const uint8_t *data, size_t length)
{
    fwrite(data, 1, length, user_data);
}

static void run(boxlite_runtime *runtime, const char *image)
{
    const char *argv[] = {"echo", "hi"};
    boxlite_box_options *options;
    boxlite_exec_options *command;
    boxlite_box *box;
    boxlite_exec *exec;
    boxlite_op *op;
    int32_t code;

    must(boxlite_box_options_new(image, &options, &error));
    must(boxlite_box_create(runtime, options, &op, &error));
    must(boxlite_op_wait(op, 120000, &error));
    must(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    must(boxlite_exec_options_new(argv, 2, &command, &error));
    must(boxlite_box_exec(box, command, &op, &error));
    must(boxlite_op_wait(op, 120000, &error));
    must(boxlite_op_take_exec(op, &exec, &error));
    boxlite_op_free(op);
    must(boxlite_exec_on_stdout(exec, print, stdout, NULL, &error));
    must(boxlite_exec_wait(exec, 120000, &code, &error));
    must(boxlite_box_remove(runtime, boxlite_box_id(box), true, &op, &error));
    finish(op);
    boxlite_exec_free(exec);
    boxlite_box_free(box);
    boxlite_box_options_free(options);
    boxlite_exec_options_free(command);
    if (code != 0)
        exit(1);
}

int main(int argc, char **argv)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime;

    if (strcmp(boxlite_version(), BOXLITE_VERSION) != 0)
        return 1;
    printf("%s\n", boxlite_version());
    must(boxlite_runtime_options_new(&options, &error));
    if (getenv("HELPERS"))
        must(boxlite_runtime_options_set_libexec(options, getenv("HELPERS"), &error));
    must(boxlite_runtime_open(options, &runtime, &error));
    if (argc > 1)
        run(runtime, argv[1]);
    boxlite_runtime_options_free(options);
    boxlite_runtime_free(runtime);
    return 0;
}
