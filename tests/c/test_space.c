// What the files of disks take, which nobody needs, and that what a box deletes is free on the host.
#include "program.h"
#include "snapshots.h"

static boxlite_file_list *files_of(boxlite_op *op)
{
    boxlite_file_list *list;
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_file_list(op, &list, &error));
    boxlite_op_free(op);
    return list;
}

static boxlite_file_list *list_files(boxlite_runtime *runtime)
{
    boxlite_op *op;
    OK(boxlite_runtime_list_files(runtime, &op, &error));
    return files_of(op);
}

static boxlite_file_list *prune(boxlite_runtime *runtime, bool dry_run)
{
    boxlite_op *op;
    OK(boxlite_runtime_prune(runtime, dry_run, &op, &error));
    return files_of(op);
}

// The file at a path, which must be there; borrowed from the list.
static const boxlite_stored_file *at_path(const boxlite_file_list *list, const char *path)
{
    for (size_t i = 0; i < boxlite_file_list_count(list); i++) {
        const boxlite_stored_file *file = boxlite_file_list_get(list, i);
        if (!strcmp(boxlite_stored_file_path(file), path))
            return file;
    }
    FAIL("no %s", path);
}

static size_t count_kind(const boxlite_file_list *list, int32_t kind)
{
    size_t count = 0;
    for (size_t i = 0; i < boxlite_file_list_count(list); i++)
        count += boxlite_stored_file_kind(boxlite_file_list_get(list, i)) == kind;
    return count;
}

// Static, in turns.
static const char *path_of(boxlite_box *box, const char *name)
{
    return in_box(box, name) + strlen(home) + 1;
}

static boxlite_box *clone_of(boxlite_box *box)
{
    boxlite_op *op;
    boxlite_box *made;
    OK(boxlite_box_clone(box, NULL, NULL, 1, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &made, &error));
    boxlite_op_free(op);
    return made;
}

static void every_file_is_told(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "head -c 3000000 /dev/urandom > /file; sync; echo x", "x\n");
    stop(box);
    make_snapshot(box, "kept");
    boxlite_box *other = clone_of(box);
    boxlite_file_list *list = list_files(runtime);
    const boxlite_stored_file *file = at_path(list, path_of(box, "snapshots/kept/disk.qcow2"));
    CHECK(boxlite_stored_file_kind(file) == BOXLITE_FILE_SNAPSHOT);
    CHECK(!strcmp(boxlite_stored_file_name(file), "kept"));
    CHECK(!strcmp(boxlite_stored_file_box_id(file), boxlite_box_id(box)));
    CHECK(boxlite_stored_file_virtual_bytes(file) == 10ULL << 30);
    CHECK(boxlite_stored_file_allocated_bytes(file) > 3000000 && boxlite_stored_file_allocated_bytes(file) < 30000000);
    for (int i = 0; i < 2; i++) {
        file = at_path(list, path_of(i ? other : box, "disks/disk.qcow2"));
        CHECK(boxlite_stored_file_kind(file) == BOXLITE_FILE_BOX && !boxlite_stored_file_name(file));
        CHECK(boxlite_stored_file_virtual_bytes(file) == 10ULL << 30);
        CHECK(boxlite_stored_file_allocated_bytes(file) < 3000000);
    }
    CHECK(count_kind(list, BOXLITE_FILE_IMAGE) == 1 && count_kind(list, BOXLITE_FILE_BOX) == 2);
    CHECK(count_kind(list, BOXLITE_FILE_ORPHAN) == 0 && count_kind(list, BOXLITE_FILE_UNKNOWN) == 0);
    boxlite_file_list_free(list);
    remove_box(runtime, other);
    remove_box(runtime, box);
}

static void put(const char *from, const char *name)
{
    char format[2048];
    snprintf(format, sizeof format, "mkdir -p $(dirname '%s/%s') && cp '%%s' '%s/%s'", home, name, home, name);
    CHECK(succeeds(format, from));
}

// What dead programs may leave, and what is somebody's.
static void orphans_are_pruned_and_nothing_else(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime), *copy;
    PRINTS(box, "echo kept > /file; sync; cat /file", "kept\n");
    stop(box);
    copy = clone_of(box);
    remove_box(runtime, box);
    make_snapshot(copy, "named");
    const char *disk = in_box(copy, "disks/disk.qcow2");
    put(disk, "bases/orphan.qcow2");
    put(disk, "boxes/somebody/disks/disk.qcow2");
    char snapshot[256], partial[256];
    snprintf(snapshot, sizeof snapshot, "%s", path_of(copy, "snapshots/unnamed/disk.qcow2"));
    snprintf(partial, sizeof partial, "%s", path_of(copy, "disks/import-0.partial"));
    put(disk, snapshot);
    put(disk, partial);
    // On a base that only an orphan is on.
    char command[512];
    snprintf(command, sizeof command, "cd %s/bases && qemu-img create -q -f qcow2 below.qcow2 16M && "
             "qemu-img create -q -f qcow2 -F qcow2 -b below.qcow2 above.qcow2", home);
    CHECK(system(command) == 0);

    boxlite_file_list *list = list_files(runtime);
    CHECK(count_kind(list, BOXLITE_FILE_ORPHAN) == 5 && count_kind(list, BOXLITE_FILE_BASE) == 1);
    CHECK(count_kind(list, BOXLITE_FILE_UNKNOWN) == 1);
    boxlite_file_list_free(list);
    for (int dry = 1; dry >= 0; dry--) {
        list = prune(runtime, dry);
        CHECK(boxlite_file_list_count(list) == 5 && count_kind(list, BOXLITE_FILE_ORPHAN) == 5);
        at_path(list, "bases/orphan.qcow2");
        at_path(list, "bases/above.qcow2");
        at_path(list, "bases/below.qcow2");
        at_path(list, snapshot);
        CHECK(boxlite_stored_file_allocated_bytes(at_path(list, partial)) > 0);
        boxlite_file_list_free(list);
        snprintf(command, sizeof command, "%s/bases/orphan.qcow2", home);
        CHECK((access(command, F_OK) == 0) == (dry == 1));
    }
    list = prune(runtime, false);
    CHECK(boxlite_file_list_count(list) == 0);
    boxlite_file_list_free(list);
    snprintf(command, sizeof command, "%s/boxes/somebody/disks/disk.qcow2", home);
    CHECK(access(command, F_OK) == 0);
    CHECK(!strcmp(snapshots_of(copy), "named "));
    PRINTS(copy, "cat /file", "kept\n");
    // One that runs loses nothing.
    list = prune(runtime, false);
    CHECK(boxlite_file_list_count(list) == 0);
    boxlite_file_list_free(list);
    PRINTS(copy, "cat /file", "kept\n");
    remove_box(runtime, copy);
}

static long allocated(boxlite_box *box)
{
    return atol(word_of("stat -c %%b '%s'", in_box(box, "disks/disk.qcow2"))) * 512;
}

static void what_is_deleted_is_free_on_the_host(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "head -c 40000000 /dev/urandom > /file; sync; echo x", "x\n");
    long full = allocated(box);
    CHECK(full > 40000000);
    PRINTS(box, "rm /file; sync; echo x", "x\n");
    EVENTUALLY(allocated(box) < full - 35000000);
    // Below a snapshot it is kept.
    PRINTS(box, "head -c 20000000 /dev/urandom > /file; sync; sha256sum /file > /sum; sync; echo x", "x\n");
    make_snapshot(box, "kept");
    PRINTS(box, "rm /file; sync; echo x", "x\n");
    stop(box);
    OK(try_restore(box, "kept"));
    PRINTS(box, "sha256sum -c /sum > /dev/null && echo whole", "whole\n");
    remove_box(runtime, box);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    every_file_is_told(runtime);
    orphans_are_pruned_and_nothing_else(runtime);
    what_is_deleted_is_free_on_the_host(runtime);
    close_runtime(runtime);
    return 0;
}
