// Snapshots where the host's disk is full: at whatever step that shows, the error says so, nothing has
// changed, and with space it works. Needs root, for a small file system to fill.
#include "small_home.h"
#include "snapshots.h"

// Whether a box does something, which may have been paused just now.
static bool runs(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_resume(box, &op, &error));
    wait_op(op);
    boxlite_exec_options *options = shell("sync");
    OK(boxlite_box_exec(box, options, &op, &error));
    boxlite_exec_options_free(options);
    boxlite_status status = boxlite_op_wait(op, 60000, NULL);
    CHECK(status == BOXLITE_OK || status == BOXLITE_INVALID_STATE);
    boxlite_exec *exec;
    int32_t code = 0;
    if (status == BOXLITE_OK) {
        OK(boxlite_op_take_exec(op, &exec, &error));
        OK(boxlite_exec_wait(exec, 60000, &code, &error));
        boxlite_exec_free(exec);
    }
    boxlite_op_free(op);
    return status == BOXLITE_OK && code == 0;
}

static void none_was_made(boxlite_box *box)
{
    CHECK(!strcmp(snapshots_of(box), "first "));
    CHECK(!is_there(box, "snapshots/second") && !is_there(box, "disks/next.qcow2"));
    CHECK(succeeds("qemu-img check -q '%s'", in_box(box, "disks/disk.qcow2")));
}

static void none_was_gone_back_to(boxlite_box *box)
{
    CHECK(!strcmp(snapshots_of(box), "first second "));
    CHECK(!is_there(box, "disks/next.qcow2"));
    CHECK(succeeds("qemu-img check -q '%s'", in_box(box, "disks/disk.qcow2")));
}

int main(void)
{
    if (!make_small_home())
        return 77;
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo one > /file; cat /file", "one\n");
    stop(box);
    make_snapshot(box, "first");
    PRINTS(box, "echo two > /file; cat /file", "two\n");
    stop(box);

    CHECK(until_it_fits(box, try_snapshot, "second", none_was_made) > 0);
    CHECK(!strcmp(snapshots_of(box), "first second "));
    CHECK(until_it_fits(box, try_restore, "first", none_was_gone_back_to) > 0);
    // A snapshot can be removed where there is no space at all.
    leave(0);
    OK(try_remove_snapshot(box, "second"));
    CHECK(!is_there(box, "snapshots/second"));

    char filler[128];
    snprintf(filler, sizeof filler, "%s/filler", home);
    CHECK(unlink(filler) == 0);
    PRINTS(box, "cat /file; echo three > /file", "one\n");

    // The same while it runs: it goes on, and has all that it wrote.
    int refused = 0;
    for (int blocks = 0; blocks < MOST; blocks += blocks < 40 ? 4 : 20) {
        leave(blocks);
        boxlite_status status = try_snapshot(box, "third");
        CHECK(unlink(filler) == 0);
        if (status == BOXLITE_OK)
            break;
        if (status != BOXLITE_RESOURCE_EXHAUSTED)
            FAIL("with %d blocks: %s", blocks, boxlite_error_message(error));
        boxlite_error_free(error);
        error = NULL;
        refused++;
        CHECK(!strcmp(snapshots_of(box), "first "));
        EVENTUALLY(runs(box));
        PRINTS(box, "cat /file", "three\n");
    }
    CHECK(refused > 0 && !strcmp(snapshots_of(box), "first third "));
    EVENTUALLY(runs(box));
    PRINTS(box, "cat /file; echo four > /file", "three\n");
    stop(box);
    CHECK(succeeds("qemu-img check -q '%s'", in_box(box, "disks/disk.qcow2")));
    OK(try_restore(box, "third"));
    PRINTS(box, "cat /file", "three\n");
    remove_box(runtime, box);
    boxlite_runtime_free(runtime);
    return 0;
}
