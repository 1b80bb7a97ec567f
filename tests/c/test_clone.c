// Clones: boxes of their own that begin with what another's disk was, at once and without copying.
#include "program.h"
#include "snapshots.h"

// Makes clones, which the caller frees.
static void clone_all(boxlite_box *box, const char *snapshot, const char *const *names, size_t count,
                      boxlite_box **clones)
{
    boxlite_op *op;
    OK(boxlite_box_clone(box, snapshot, names, count, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    for (size_t i = 0; i < count; i++) {
        OK(boxlite_op_take_box(op, &clones[i], &error));
        if (names && names[i])
            CHECK(!strcmp(boxlite_box_name(clones[i]), names[i]));
        else
            CHECK(!boxlite_box_name(clones[i]));
    }
    boxlite_box *more;
    FAILS(boxlite_op_take_box(op, &more, &error), BOXLITE_INVALID_STATE, "taken already");
    boxlite_op_free(op);
}

static boxlite_box *clone_one(boxlite_box *box, const char *snapshot)
{
    boxlite_box *clone;
    clone_all(box, snapshot, NULL, 1, &clone);
    return clone;
}

static boxlite_status try_clone(boxlite_box *box, const char *snapshot, const char *const *names, size_t count)
{
    boxlite_op *op;
    OK(boxlite_box_clone(box, snapshot, names, count, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, &error);
    boxlite_op_free(op);
    return status;
}

// How many files there are in the home's bases.
static int count_bases(void)
{
    char path[128];
    int count = 0;
    snprintf(path, sizeof path, "%s/bases", home);
    DIR *dir = opendir(path);
    CHECK(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += *entry->d_name != '.';
    closedir(dir);
    return count;
}

static void whole(boxlite_box *box)
{
    CHECK(succeeds("qemu-img check -q '%s'", in_box(box, "disks/disk.qcow2")));
}

// Each has what the other had, and from then on its own; and is somebody else.
static void clones_are_boxes_of_their_own(boxlite_runtime *runtime)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_memory_mib(options, 300, &error));
    OK(boxlite_box_options_add_label(options, "kind", "sheep", &error));
    boxlite_box *source = create_box(runtime, options), *clones[3];
    PRINTS(source, "echo wool > /file; sync; cat /file", "wool\n");
    char *before = output_of(source, "cat /etc/machine-id /etc/hostname");
    stop(source);
    clone_all(source, NULL, (const char *[]){"dolly", NULL, "molly"}, 3, clones);
    CHECK(count_bases() == 1);
    char *ids[3];
    for (int i = 0; i < 3; i++) {
        CHECK(strcmp(boxlite_box_id(clones[i]), boxlite_box_id(source)));
        boxlite_box_info *info = inspect(clones[i]);
        CHECK(boxlite_box_info_memory_mib(info) == 300 && boxlite_box_info_status(info) == BOXLITE_BOX_CONFIGURED);
        CHECK(!strcmp(boxlite_box_info_label(info, "kind"), "sheep"));
        boxlite_box_info_free(info);
        char script[128];
        snprintf(script, sizeof script, "cat /file; echo %d > /file; sync", i);
        PRINTS(clones[i], script, "wool\n");
        ids[i] = output_of(clones[i], "cat /etc/machine-id /etc/hostname");
        CHECK(strcmp(ids[i], before));
    }
    CHECK(strcmp(ids[0], ids[1]) && strcmp(ids[1], ids[2]) && strcmp(ids[0], ids[2]));
    PRINTS(source, "cat /file; echo cut > /file", "wool\n");
    for (int i = 0; i < 3; i++) {
        PRINTS(clones[i], "cat /file", ((const char *[]){"0\n", "1\n", "2\n"})[i]);
        stop(clones[i]);
        whole(clones[i]);
        free(ids[i]);
    }
    free(before);

    // A name in use, and names that are none: nothing is made.
    size_t boxes = count_boxes(runtime);
    FAILS(try_clone(source, NULL, (const char *[]){"new", "dolly"}, 2), BOXLITE_ALREADY_EXISTS, "dolly");
    FAILS(try_clone(source, NULL, (const char *[]){"new", "new"}, 2), BOXLITE_INVALID_ARGUMENT, "twice");
    FAILS(try_clone(source, NULL, (const char *[]){"a b"}, 1), BOXLITE_INVALID_ARGUMENT, "a b");
    FAILS(try_clone(source, NULL, NULL, 0), BOXLITE_INVALID_ARGUMENT, "count");
    FAILS(try_clone(source, NULL, NULL, 1001), BOXLITE_INVALID_ARGUMENT, "count");
    FAILS(try_clone(source, "none", NULL, 1), BOXLITE_NOT_FOUND, "no snapshot 'none'");
    CHECK(count_boxes(runtime) == boxes && count_bases() == 1);

    // What they are on stays until the last has gone, whoever goes first.
    remove_box(runtime, source);
    PRINTS(clones[1], "cat /file", "1\n");
    remove_box(runtime, clones[1]);
    remove_box(runtime, clones[0]);
    CHECK(count_bases() == 1);
    PRINTS(clones[2], "cat /file", "2\n");
    remove_box(runtime, clones[2]);
    CHECK(count_bases() == 0);
}

// Of a box that runs, and goes on.
static void a_running_box_is_cloned(boxlite_runtime *runtime)
{
    boxlite_box *source = new_box(runtime);
    PRINTS(source, "echo one > /file; cat /file", "one\n");
    boxlite_box *first = clone_one(source, NULL);
    PRINTS(source, "cat /file; echo two > /file", "one\n");
    boxlite_box *second = clone_one(source, NULL);
    PRINTS(first, "cat /file; echo first > /file", "one\n");
    PRINTS(second, "cat /file; echo second > /file", "two\n");
    // A clone of a clone.
    boxlite_box *third = clone_one(second, NULL);
    PRINTS(third, "cat /file", "second\n");
    PRINTS(source, "cat /file", "two\n");
    stop(source);
    whole(source);
    remove_box(runtime, second);
    remove_box(runtime, source);
    PRINTS(third, "cat /file", "second\n");
    PRINTS(first, "cat /file", "first\n");
    remove_box(runtime, first);
    remove_box(runtime, third);
    CHECK(count_bases() == 0);
}

// Writes over the first bytes of a box's disk.
static void begins_with(boxlite_box *box, const char *bytes)
{
    FILE *disk = fopen(in_box(box, "disks/disk.qcow2"), "r+");
    CHECK(disk && fwrite(bytes, 4, 1, disk) == 1 && fclose(disk) == 0);
}

// Of a snapshot, whose file stays where it is, also when its box goes.
static void a_snapshot_is_cloned(boxlite_runtime *runtime)
{
    boxlite_box *source = new_box(runtime);
    PRINTS(source, "echo one > /file; cat /file", "one\n");
    stop(source);
    make_snapshot(source, "one");
    PRINTS(source, "echo two > /file; cat /file", "two\n");
    make_snapshot(source, "two");
    boxlite_box *first = clone_one(source, "one"), *second = clone_one(source, "two");
    PRINTS(first, "cat /file", "one\n");
    PRINTS(second, "cat /file; echo mine > /file", "two\n");
    stop(source);
    OK(try_restore(source, "one"));
    // The clone is on it.
    FAILS(try_remove_snapshot(source, "two"), BOXLITE_INVALID_STATE, boxlite_box_id(second));
    char directory[1024];
    strcpy(directory, in_box(source, ""));
    // Also when nobody can read, for now, what the clone is on.
    stop(second);
    begins_with(second, "xxxx");
    remove_box(runtime, source);
    remove_box(runtime, first);
    CHECK(access(directory, F_OK) == 0);
    begins_with(second, "QFI\xfb");
    // Nobody takes it for a stranger's, or away.
    boxlite_runtime *other = open_runtime();
    boxlite_runtime_free(other);
    PRINTS(second, "cat /file", "mine\n");
    stop(second);
    whole(second);
    remove_box(runtime, second);
    CHECK(access(directory, F_OK) != 0);
}

// One that nobody has written to since needs no base of its own.
static void chains_do_not_grow_for_nothing(boxlite_runtime *runtime)
{
    boxlite_box *source = new_box(runtime), *clones[10];
    for (int i = 0; i < 5; i++)
        clones[i] = clone_one(source, NULL);
    CHECK(count_bases() == 0);
    PRINTS(source, "echo one > /file; cat /file", "one\n");
    stop(source);
    for (int i = 5; i < 10; i++)
        clones[i] = clone_one(source, NULL);
    CHECK(count_bases() == 1);
    PRINTS(clones[9], "cat /file", "one\n");
    for (int i = 0; i < 10; i++)
        remove_box(runtime, clones[i]);
    CHECK(count_bases() == 1);
    remove_box(runtime, source);
    CHECK(count_bases() == 0);
}

static void a_hundred_are_made_at_once(boxlite_runtime *runtime)
{
    boxlite_box *source = new_box(runtime), *clones[100];
    PRINTS(source, "echo one > /file; cat /file", "one\n");
    clone_all(source, NULL, NULL, 100, clones);
    CHECK(count_boxes(runtime) == 101 && count_bases() == 1);
    PRINTS(clones[57], "cat /file", "one\n");
    remove_box(runtime, source);
    for (int i = 0; i < 100; i++)
        remove_box(runtime, clones[i]);
    CHECK(count_bases() == 0);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    clones_are_boxes_of_their_own(runtime);
    a_running_box_is_cloned(runtime);
    a_snapshot_is_cloned(runtime);
    chains_do_not_grow_for_nothing(runtime);
    a_hundred_are_made_at_once(runtime);
    close_runtime(runtime);
    return 0;
}
