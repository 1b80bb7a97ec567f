// A blocking script: makes a box, runs a few commands in it, removes it.
//
//   script IMAGE
#include "common.h"

// Runs a line of shell for up to a minute; prints what it wrote and how it ended.
static void run(boxlite_box *box, const char *line)
{
    const char *argv[] = {"sh", "-c", line};
    boxlite_exec_options *command;
    boxlite_output *output;
    boxlite_op *op;

    check(boxlite_exec_options_new(argv, 3, &command, &error));
    check(boxlite_box_run(box, command, 1 << 20, &op, &error));
    boxlite_exec_options_free(command);
    check(boxlite_op_wait(op, 60000, &error));
    check(boxlite_op_take_output(op, &output, &error));
    boxlite_op_free(op);
    printf("$ %s\n%s", line, (const char *)boxlite_output_bytes(output, BOXLITE_STDOUT, NULL));
    printf("(exit code %d)\n", (int)boxlite_output_code(output));
    boxlite_output_free(output);
}

int main(int argc, char **argv)
{
    boxlite_runtime *runtime;
    boxlite_box *box;
    boxlite_op *op;

    if (argc != 2) {
        fprintf(stderr, "usage: script IMAGE\n");
        return 125;
    }
    check(boxlite_runtime_open(NULL, &runtime, &error));
    box = make_box(runtime, argv[1], 256);
    check(boxlite_box_start(box, &op, &error));
    finish(op);
    run(box, "echo kept > /note; uname -s");
    run(box, "cat /nothing");

    check(boxlite_box_stop(box, 5000, &op, &error));
    finish(op);
    run(box, "cat /note"); // starts the box again, with its disk

    remove_box(runtime, box);
    boxlite_runtime_free(runtime);
    return 0;
}
