// A full host disk: a typed error, nothing lost, and the box starts again once there is space.
// Needs root, for a small file system to fill.
#include "small_home.h"

static char fillers[256];

int main(void)
{
    if (!make_small_home())
        return 77;
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo kept > /file; sync; cat /file", "kept\n");

    // A guest that writes more than the host has.
    boxlite_exec *exec = start(box, "dd if=/dev/urandom of=/big bs=1M count=300; sync; echo not reached");
    int32_t code;
    FAILS(boxlite_exec_wait(exec, 300000, &code, &error), BOXLITE_RESOURCE_EXHAUSTED, "disk is full");
    boxlite_exec_free(exec);

    // It is not started again into a full disk, and a refusal changes nothing.
    boxlite_box_options *options;
    boxlite_op *op;
    OK(boxlite_box_start(box, &op, &error));
    FAILS(boxlite_op_wait(op, 120000, &error), BOXLITE_RESOURCE_EXHAUSTED, "MiB left");
    boxlite_op_free(op);
    CHECK(count_machines() == 0);

    // No space for a new box either; and none of it stays.
    snprintf(fillers, sizeof fillers, "dd if=/dev/zero of=%s/filler bs=64k 2>/dev/null; true", home);
    CHECK(system(fillers) == 0);
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_disk_size_mib(options, 600, &error));
    OK(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    FAILS(boxlite_op_wait(op, 120000, &error), BOXLITE_RESOURCE_EXHAUSTED, "");
    boxlite_op_free(op);

    // With space again, the box is what it was.
    snprintf(fillers, sizeof fillers, "rm %s/filler && mount -o remount,size=400m %s", home, home);
    CHECK(system(fillers) == 0);
    PRINTS(box, "rm -f /big; cat /file", "kept\n");

    remove_box(runtime, box);
    boxlite_op *shutdown;
    OK(boxlite_runtime_shutdown(runtime, 0, &shutdown, &error));
    wait_op(shutdown);
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_machines() == 0);
    return 0;
}
