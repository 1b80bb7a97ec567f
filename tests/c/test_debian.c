// A real distribution: Debian with Python, gcc and git.
#include "check.h"

int main(void)
{
    struct stat st;
    if (stat(image("python"), &st) != 0) {
        fprintf(stderr, "skipped: the Debian image is not there (making it needs root)\n");
        return 77;
    }
    boxlite_runtime *runtime = open_runtime();
    boxlite_box_options *options;
    boxlite_op *op;
    boxlite_box *box;

    // Smaller than the image: said before anything is made.
    OK(boxlite_box_options_new(image("python"), &options, &error));
    OK(boxlite_box_options_set_disk_size_mib(options, 64, &error));
    OK(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    FAILS(boxlite_op_wait(op, 120000, &error), BOXLITE_INVALID_ARGUMENT, "67108864");
    boxlite_op_free(op);

    OK(boxlite_box_options_new(image("python"), &options, &error));
    OK(boxlite_box_options_set_cpus(options, 2, &error));
    OK(boxlite_box_options_set_disk_size_mib(options, 3000, &error));
    box = create_box(runtime, options);
    PRINTS(box, "nproc", "2\n");
    PRINTS(box, "python3 -c 'import sys, sqlite3, multiprocessing; print(6 * 7, sys.version_info[0])'", "42 3\n");
    PRINTS(box,
           "cd /tmp && printf '#include <stdio.h>\\nint main(void){puts(\"compiled\");}' > a.c && "
           "gcc -O2 a.c -o a && ./a",
           "compiled\n");
    PRINTS(box, "cd /tmp && git init -q r && git -C r status --short && echo ok", "ok\n");
    PRINTS(box, "cat /etc/os-release | grep ^ID=", "ID=debian\n");

    // What was written is there after a restart.
    OK(boxlite_box_stop(box, 1000, &op, &error));
    wait_op(op);
    PRINTS(box, "/tmp/a", "compiled\n");
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
