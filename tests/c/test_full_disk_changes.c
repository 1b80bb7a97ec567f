// What else changes disks, where the host's disk is full: at whatever step that shows, the error says so, nothing
// has changed, and with space it works. Needs root, for a small file system to fill.
#include "small_home.h"

static char archive[64];
static boxlite_runtime *runtime;
static size_t boxes;

static boxlite_status outcome(boxlite_op *op)
{
    boxlite_status status = boxlite_op_wait(op, 60000, &error);
    boxlite_op_free(op);
    return status;
}

static boxlite_status try_clone(boxlite_box *box, const char *name)
{
    boxlite_op *op;
    const char *names[] = {name, NULL, NULL, NULL};
    OK(boxlite_box_clone(box, NULL, names, 4, &op, &error));
    return outcome(op);
}

static boxlite_status try_export(boxlite_box *box, const char *name)
{
    boxlite_op *op;
    char path[256];
    snprintf(path, sizeof path, "%s/%s", home, name);
    OK(boxlite_box_export(box, path, NULL, &op, &error));
    return outcome(op);
}

static boxlite_status try_import(boxlite_box *box, const char *name)
{
    boxlite_op *op;
    boxlite_import_options *options;
    (void)box;
    OK(boxlite_import_options_new(&options, &error));
    OK(boxlite_import_options_set_name(options, name, &error));
    OK(boxlite_box_import(runtime, archive, options, &op, &error));
    boxlite_import_options_free(options);
    return outcome(op);
}

static boxlite_status try_grow(boxlite_box *box, const char *name)
{
    boxlite_op *op;
    OK(boxlite_box_grow_disk(box, strtoull(name, NULL, 10), &op, &error));
    return outcome(op);
}

static void is_as_it_was(boxlite_box *box)
{
    CHECK(!strcmp(snapshots_of(box), "first second ") && count_boxes(runtime) == boxes);
    CHECK(succeeds("qemu-img check -q '%s'", in_box(box, "disks/disk.qcow2")));
    CHECK(succeeds("qemu-img check -q '%s'", in_box(box, "snapshots/second/disk.qcow2")));
    CHECK(!is_there(box, "disks/next.qcow2") && succeeds("! ls '%s' | grep -q partial", in_box(box, "disks")));
    CHECK(succeeds("! ls '%s' | grep -q partial", in_box(box, "snapshots/second")));
}

static void until(boxlite_box *box, boxlite_status (*try)(boxlite_box *, const char *), const char *name)
{
    CHECK(until_it_fits(box, try, name, is_as_it_was) > 0);
    boxes = count_boxes(runtime);
}

// What unpacks to much leaves something for boxes that run: 64 MiB.
static void an_import_leaves_some(boxlite_box *box)
{
    enum { MIB_IN_BLOCKS = (1 << 20) / BLOCK };
    char command[256];
    boxlite_op *op;
    snprintf(command, sizeof command, "mount -o remount,size=500m %s", home);
    CHECK(system(command) == 0);
    PRINTS(box, "for i in $(seq 150); do head -c 1048576 /bin/busybox; done > /large; sync; echo done", "done\n");
    stop(box);
    OK(boxlite_box_export(box, archive, NULL, &op, &error));
    wait_op(op);
    // Enough for the archive's disk alone.
    leave(200 * MIB_IN_BLOCKS);
    FAILS(try_import(box, "large"), BOXLITE_RESOURCE_EXHAUSTED, "No space left");
    leave(240 * MIB_IN_BLOCKS);
    OK(try_import(box, "large"));
    CHECK(unlink(archive) == 0);
}

int main(void)
{
    if (!make_small_home())
        return 77;
    runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo one > /file; head -c 1000000 /dev/urandom > /more; cat /file", "one\n");
    stop(box);
    make_snapshot(box, "first");
    PRINTS(box, "echo two > /file; cat /file", "two\n");
    stop(box);
    make_snapshot(box, "second");
    PRINTS(box, "echo three > /file; cat /file", "three\n");
    stop(box);
    boxes = 1;
    snprintf(archive, sizeof archive, "%.40s-archive", home);
    boxlite_op *op;
    OK(boxlite_box_export(box, archive, NULL, &op, &error));
    wait_op(op);

    until(box, try_clone, "clone");
    CHECK(boxes == 5);
    until(box, try_export, "exported");
    until(box, try_import, "imported");
    CHECK(boxes == 6);
    until(box, try_grow, "20000");
    CHECK(until_it_fits(box, try_remove_snapshot, "first", is_as_it_was) > 0);
    CHECK(!strcmp(snapshots_of(box), "second "));
    CHECK(unlink(archive) == 0);
    char path[256];
    const char *space[] = {"filler", "exported"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", home, space[i]);
        CHECK(unlink(path) == 0);
    }
    OK(try_restore(box, "second"));
    PRINTS(box, "cat /file; ls -l /more | awk '{ print $5 }'", "two\n1000000\n");
    stop(box);
    an_import_leaves_some(box);
    boxlite_box_free(box);
    OK(boxlite_runtime_shutdown(runtime, 0, &op, &error));
    wait_op(op);
    boxlite_runtime_free(runtime);
    return 0;
}
