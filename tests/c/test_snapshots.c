// Snapshots of a box's disk: made, listed, gone back to, removed; of a box that runs and of one that
// does not.
#include "program.h"
#include "snapshots.h"

static void disk_is_whole(boxlite_box *box)
{
    CHECK(succeeds("qemu-img check -q \"%s\"", in_box(box, "disks/disk.qcow2")));
}

// Of a stopped box: what is written after is not in it, and going back takes what was written away.
static void a_box_goes_back(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    make_snapshot(box, "empty");
    PRINTS(box, "echo one > /file; cat /file", "one\n");
    stop(box);
    boxlite_snapshot *one = take_snapshot(box, "one");
    CHECK(strlen(boxlite_snapshot_id(one)) == 26);
    CHECK(!strcmp(boxlite_snapshot_name(one), "one"));
    CHECK(!strcmp(boxlite_snapshot_box_id(one), boxlite_box_id(box)));
    CHECK(!strcmp(boxlite_snapshot_parent(one), "empty"));
    CHECK(boxlite_snapshot_created_at(one)[4] == '-' && strlen(boxlite_snapshot_created_at(one)) == 20);
    boxlite_box_info *info = inspect(box);
    CHECK(boxlite_snapshot_virtual_bytes(one) == boxlite_box_info_disk_size_mib(info) << 20);
    boxlite_box_info_free(info);
    CHECK(boxlite_snapshot_allocated_bytes(one) > 4096 && boxlite_snapshot_allocated_bytes(one) < 64 << 20);
    boxlite_snapshot_free(one);

    PRINTS(box, "cat /file; echo two > /file; cat /file", "one\ntwo\n");
    // No machine can bear another disk.
    FAILS(try_restore(box, "one"), BOXLITE_INVALID_STATE, "stop it first");
    stop(box);
    make_snapshot(box, "two");
    CHECK(!strcmp(snapshots_of(box), "empty one two "));
    disk_is_whole(box);

    OK(try_restore(box, "one"));
    PRINTS(box, "cat /file; echo three > /file", "one\n");
    stop(box);
    OK(try_restore(box, "two"));
    PRINTS(box, "cat /file", "two\n");
    stop(box);
    OK(try_restore(box, "empty"));
    PRINTS(box, "ls /file 2>&1 || echo no", "ls: /file: No such file or directory\nno\n");
    stop(box);
    disk_is_whole(box);
    CHECK(!strcmp(snapshots_of(box), "empty one two "));

    OK(try_remove_snapshot(box, "two"));
    CHECK(access(in_box(box, "snapshots/two"), F_OK));
    OK(try_remove_snapshot(box, "one"));
    CHECK(!strcmp(snapshots_of(box), "empty "));
    FAILS(try_remove_snapshot(box, "one"), BOXLITE_NOT_FOUND, "no snapshot 'one'");
    FAILS(try_restore(box, "one"), BOXLITE_NOT_FOUND, "no snapshot 'one'");
    remove_box(runtime, box);
}

// While it runs, nothing of its processes is lost; and what was synced or not before is in it.
static void a_running_box_has_snapshots(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    boxlite_exec *writer = start(box,
                                 "i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo $i >> /numbers; done; "
                                 "echo done; cat; wc -l < /numbers");
    free(output_of(box, "while ! grep -q 100 /numbers; do usleep 10000; done; echo x"));
    boxlite_snapshot *first = take_snapshot(box, "first");
    CHECK(!boxlite_snapshot_parent(first));
    boxlite_snapshot_free(first);
    char sha[256];
    strcpy(sha, word_of("sha256sum '%s'", in_box(box, "snapshots/first/disk.qcow2")));
    free(output_of(box, "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo $i >> /more; done; sync; echo x"));
    make_snapshot(box, "second");
    free(output_of(box, "rm /numbers; sync; echo x"));
    // What is behind the disk never changes.
    CHECK(!strcmp(sha, word_of("sha256sum '%s'", in_box(box, "snapshots/first/disk.qcow2"))));
    boxlite_exec_free(writer);
    stop(box);
    CHECK(!strcmp(sha, word_of("sha256sum '%s'", in_box(box, "snapshots/first/disk.qcow2"))));
    disk_is_whole(box);
    PRINTS(box, "ls /numbers 2>/dev/null || wc -l < /more", "1000\n");
    stop(box);
    OK(try_restore(box, "second"));
    PRINTS(box, "wc -l < /numbers; wc -l < /more", "100\n1000\n");
    stop(box);
    OK(try_restore(box, "first"));
    PRINTS(box, "wc -l < /numbers; ls /more 2>/dev/null || echo none", "100\nnone\n");
    remove_box(runtime, box);
}

static void names_have_rules(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    char longest[257];
    memset(longest, 'n', 256);
    longest[256] = 0;
    const char *bad[] = {"", ".", "..", ".hidden", "a/b", "a\\b", "/", longest};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        FAILS(try_snapshot(box, bad[i]), BOXLITE_INVALID_ARGUMENT, "snapshot's name");
        FAILS(try_restore(box, bad[i]), BOXLITE_INVALID_ARGUMENT, "snapshot's name");
        FAILS(try_remove_snapshot(box, bad[i]), BOXLITE_INVALID_ARGUMENT, "snapshot's name");
    }
    boxlite_op *op;
    FAILS(boxlite_box_snapshot_create(box, "\xff", &op, &error), BOXLITE_INVALID_ARGUMENT, "name");
    FAILS(boxlite_box_snapshot_get(box, NULL, &op, &error), BOXLITE_INVALID_ARGUMENT, "name");
    longest[255] = 0;
    const char *good[] = {longest, "a b", "x:y", "-", "säge", "'; rm -rf $HOME'"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        make_snapshot(box, good[i]);
        FAILS(try_snapshot(box, good[i]), BOXLITE_ALREADY_EXISTS, "already");
        boxlite_snapshot *found = get_snapshot(box, good[i]);
        CHECK(found && !strcmp(boxlite_snapshot_name(found), good[i]));
        boxlite_snapshot_free(found);
    }
    CHECK(!get_snapshot(box, "none"));
    // All of that is one chain, and a disk.
    PRINTS(box, "echo up", "up\n");
    stop(box);
    OK(try_restore(box, good[0]));
    PRINTS(box, "echo up", "up\n");
    remove_box(runtime, box);
}

// Directories that belong to no snapshot are somebody's.
static void nobodys_files_are_left_alone(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    CHECK(mkdir(in_box(box, "snapshots/mine"), 0700) == 0);
    const char *path = in_box(box, "snapshots/mine/disk.qcow2");
    FILE *file = fopen(path, "w");
    fputs("precious", file);
    fclose(file);
    FAILS(try_snapshot(box, "mine"), BOXLITE_ALREADY_EXISTS, "belongs to nobody");
    CHECK(!strcmp(word_of("cat '%s'", in_box(box, "snapshots/mine/disk.qcow2")), "precious"));
    CHECK(access(in_box(box, "disks/next.qcow2"), F_OK));
    PRINTS(box, "echo up", "up\n");
    remove_box(runtime, box);
}

// A paused box cannot come to rest; one that is being started is waited for.
static void a_box_has_to_run_or_not(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    boxlite_op *op, *snapshot;
    OK(boxlite_box_start(box, &op, &error));
    OK(boxlite_box_snapshot_create(box, "begun", &snapshot, &error));
    wait_op(op);
    wait_op(snapshot);
    OK(boxlite_box_pause(box, &op, &error));
    wait_op(op);
    FAILS(try_snapshot(box, "paused"), BOXLITE_INVALID_STATE, "resume it first");
    OK(boxlite_box_resume(box, &op, &error));
    wait_op(op);
    make_snapshot(box, "resumed");
    CHECK(!strcmp(snapshots_of(box), "begun resumed "));
    remove_box(runtime, box);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    a_box_goes_back(runtime);
    a_running_box_has_snapshots(runtime);
    names_have_rules(runtime);
    nobodys_files_are_left_alone(runtime);
    a_box_has_to_run_or_not(runtime);
    close_runtime(runtime);
    return 0;
}
