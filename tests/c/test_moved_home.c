// A home that is copied, and one that is moved: its boxes and snapshots are there, and each copy is on
// files of its own.
#include "program.h"
#include "snapshots.h"

static void command(const char *format, const char *a, const char *b)
{
    char line[512];
    snprintf(line, sizeof line, format, a, b);
    CHECK(system(line) == 0);
}

// Whether each file of the box's disk is in the home, as QEMU's own program resolves it.
static void all_is_inside(boxlite_box *box)
{
    char line[2048];
    snprintf(line, sizeof line,
             "for f in $(qemu-img info --backing-chain --output=json \"%s\" | grep '\"filename\"' | cut -d'\"' -f4); do "
             "realpath $f | grep -q '^%s/' || exit 1; done",
             in_box(box, "disks/disk.qcow2"), home);
    CHECK(system(line) == 0);
}

static void use(const char *name, const char *wanted, const char *next)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_op *op;
    boxlite_box *box;
    OK(boxlite_box_get(runtime, name, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    all_is_inside(box);
    char script[256];
    snprintf(script, sizeof script, "cat /file; echo %s > /file", next);
    PRINTS(box, script, wanted);
    stop(box);
    boxlite_box_free(box);
    boxlite_runtime_free(runtime);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "mover", &error));
    boxlite_box *box = create_box(runtime, options);
    PRINTS(box, "echo kept > /file; cat /file", "kept\n");
    stop(box);
    make_snapshot(box, "kept");
    PRINTS(box, "echo first > /file; cat /file", "first\n");
    stop(box);
    boxlite_box_free(box);
    boxlite_runtime_free(runtime);

    char original[64], copy[64], moved[64];
    snprintf(original, sizeof original, "%s", home);
    snprintf(copy, sizeof copy, "%.40s-copy", home);
    snprintf(moved, sizeof moved, "%.40s-moved", home);
    command("cp -a %s %s", original, copy);
    snprintf(home, sizeof home, "%s", copy);
    use("mover", "first\n", "copied");
    snprintf(home, sizeof home, "%s", original);
    use("mover", "first\n", "original");
    command("mv %s %s", original, moved);
    snprintf(home, sizeof home, "%s", moved);
    use("mover", "original\n", "moved");
    // What the other is on is gone, and it does not matter.
    command("rm -r %s%s", moved, "");
    snprintf(home, sizeof home, "%s", copy);
    use("mover", "copied\n", "copied again");

    runtime = open_runtime();
    boxlite_op *op;
    OK(boxlite_box_get(runtime, "mover", &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    OK(try_restore(box, "kept"));
    PRINTS(box, "cat /file", "kept\n");
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
