// A full host disk: a typed error, nothing lost, and the box starts again once there is space.
// Needs root, for a small file system to fill.
#include "small_home.h"

static char fillers[256];

// 150 MB of what is not zero, which would take no space.
#define MANY "many() { for i in $(seq 150); do head -c 1000000 /bin/busybox; done; }; "

// Of a line that sha256sum writes of its input.
#define SUM (64 + 4)

// Takes every free block of the file system.
static void fill(void)
{
    snprintf(fillers, sizeof fillers, "dd if=/dev/zero bs=4k 2>/dev/null >> %s/filler; true", home);
    CHECK(system(fillers) == 0);
    snprintf(fillers, sizeof fillers, "! head -c 4096 /dev/zero 2>/dev/null > %s/more; rm -f %s/more", home, home);
    CHECK(system(fillers) == 0);
}

static char gone[64];

int main(void)
{
    if (!make_small_home())
        return 77;
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo kept > /file; sync; cat /file", "kept\n");

    // A guest that writes more than the host has stands still before a write is lost, and says why.
    boxlite_box_options *options;
    boxlite_op *op;
    boxlite_exec *exec = start(box, MANY "many > /big; sync; sha256sum < /big; many | sha256sum");
    EVENTUALLY(status_of(box) == BOXLITE_BOX_PAUSED);
    boxlite_box_info *info = inspect(box);
    CHECK(strstr(boxlite_box_info_error(info), "disk is full"));
    boxlite_box_info_free(info);
    // As long as there is no space it is paused again, however often it is resumed.
    for (int i = 0; i < 3; i++) {
        OK(boxlite_box_resume(box, &op, &error));
        wait_op(op);
        EVENTUALLY(status_of(box) == BOXLITE_BOX_PAUSED);
    }
    // With space it goes on as if nothing had been.
    snprintf(fillers, sizeof fillers, "mount -o remount,size=240m %s", home);
    CHECK(system(fillers) == 0);
    OK(boxlite_box_resume(box, &op, &error));
    wait_op(op);
    bytes sums = {0};
    int32_t code;
    OK(boxlite_exec_on_stdout(exec, append, &sums, NULL, &error));
    OK(boxlite_exec_wait(exec, 120000, &code, &error));
    CHECK(code == 0 && sums.length == 2 * SUM && !memcmp(sums.data, sums.data + SUM, SUM));
    free(sums.data);
    CHECK(status_of(box) == BOXLITE_BOX_RUNNING);
    boxlite_exec_free(exec);

    // One that is stopped while it stands still is cut off, and says that too.
    exec = start(box, MANY "while :; do many; done > /more");
    EVENTUALLY(status_of(box) == BOXLITE_BOX_PAUSED);
    OK(boxlite_box_stop(box, 1000, &op, &error));
    FAILS(boxlite_op_wait(op, 120000, &error), BOXLITE_RESOURCE_EXHAUSTED, "cut off");
    boxlite_op_free(op);
    boxlite_exec_free(exec);
    EVENTUALLY(status_of(box) == BOXLITE_BOX_FAILED && count_machines() == 0);

    // It is not started again into a full disk, and a refusal changes nothing.
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

    // On a disk without a free block a box can still be removed, also by a program that comes just now.
    boxlite_box *unwanted[2];
    snprintf(fillers, sizeof fillers, "rm %s/filler && mount -o remount,size=800m %s", home, home);
    CHECK(system(fillers) == 0);
    unwanted[0] = new_box(runtime);
    unwanted[1] = new_box(runtime);
    fill();
    remove_box(runtime, unwanted[0]);
    fill();
    char id[64];
    snprintf(id, sizeof id, "%s", boxlite_box_id(box));
    boxlite_box_free(box);
    snprintf(gone, sizeof gone, "%s", boxlite_box_id(unwanted[1]));
    boxlite_box_free(unwanted[1]);
    boxlite_runtime_free(runtime);
    runtime = open_runtime();
    fill();
    OK(boxlite_box_remove(runtime, gone, false, &op, &error));
    wait_op(op);
    CHECK(count_boxes(runtime) == 1);
    OK(boxlite_box_get(runtime, id, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);

    // With space again, the box is what it was.
    snprintf(fillers, sizeof fillers, "rm %s/filler", home);
    CHECK(system(fillers) == 0);
    PRINTS(box, "rm -f /big /more; cat /file", "kept\n");

    remove_box(runtime, box);
    boxlite_op *shutdown;
    OK(boxlite_runtime_shutdown(runtime, 0, &shutdown, &error));
    wait_op(shutdown);
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_machines() == 0);
    return 0;
}
