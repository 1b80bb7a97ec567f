// A disk with room for boxes but for no machine template: boxes boot, and are restored once there
// is room. One with room for no disk template: they are restored without. A disk that is filled under
// restored boxes. And a home in memory, where no template can be.
// Needs root, for file systems of its own.
#include "templates.h"

// A machine whose template takes more than making one has to have: most of it is the kernel's table
// of pages.
#define LARGE_MIB 6144

#define MAKE(options) "truncate -s 900M $HOME_.img && mke2fs -q -F -t ext4 " options " $HOME_.img && "
#define MOUNT "mount -o loop $HOME_.img $HOME_"

static void on_a_disk(void)
{
    leave_kib(110 * 1024);
    boxlite_runtime *runtime = open_without_disks();
    boxlite_box *box = new_box(runtime), *other = new_box(runtime);
    warnings w = {""};
    listen_to_warnings(runtime, &w);

    CHECK(boot(box) == BOXLITE_BOOT_COLD);
    PRINTS(box, "echo kept > /file; sync; cat /file", "kept\n");
    dispatch_all(runtime);
    CHECK(detours(runtime) == 1 && templates_made(runtime) == 0);
    CHECK(strstr(w.text, boxlite_box_id(box)) && strstr(w.text, "machine template"));
    CHECK(strstr(w.text, "No space left") || strstr(w.text, "no storage space"));
    CHECK(count_templates("", NULL) == 0 && count_templates(".new", NULL) == 0);

    // Room alone is not tried at once.
    host("rm $HOME_/filler; touch $HOME_/templates/*.lock");
    w.text[0] = 0;
    CHECK(boot(other) == BOXLITE_BOOT_COLD);
    dispatch_all(runtime);
    CHECK(detours(runtime) == 2 && templates_made(runtime) == 0 && strstr(w.text, "just failed"));

    stop_box(box);
    a_minute_later();
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    PRINTS(box, "cat /file", "kept\n");
    CHECK(detours(runtime) == 2 && templates_made(runtime) == 1);

    // A template that is there is used however full the disk is, and nothing is written for it.
    stop_box(other);
    leave_kib(80 * 1024);
    CHECK(boot(other) == BOXLITE_BOOT_RESTORED && templates_made(runtime) == 1);

    // Just enough room is enough.
    stop_box(box);
    stop_box(other);
    host("rm -r \"$T\"");
    leave_kib(150 * 1024);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED && templates_made(runtime) == 2);

    remove_box(runtime, box);
    remove_box(runtime, other);
    shut_down(runtime);
}

// A box that was restored stands still when somebody else fills the disk while it writes, as one that
// was booted does.
static void under_a_restored_box(void)
{
    host("rm $HOME_/filler");
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime), *other = new_box(runtime);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    PRINTS(box, "echo kept > /file; sync; cat /file", "kept\n");

    // New blocks without end: what is on the host's disk already can be written again for ever.
    boxlite_exec *exec = start(box, "i=0; while dd if=/dev/urandom of=/big$i bs=1M count=4 2>/dev/null; sync; "
                                    "do echo $i; i=$((i + 1)); done");
    bytes written = {0};
    int32_t code;
    boxlite_op *op;
    OK(boxlite_exec_on_stdout(exec, append, &written, NULL, &error));
    DISPATCH_UNTIL(runtime, written.length > 0);
    leave_kib(0);
    // It is so also where the database had no block left to write it down.
    DISPATCH_UNTIL(runtime, status_of(box) == BOXLITE_BOX_PAUSED);
    host("rm $HOME_/filler");
    size_t before = written.length;
    OK(boxlite_box_resume(box, &op, &error));
    wait_op(op);
    DISPATCH_UNTIL(runtime, written.length > before);
    stop_box(box);
    OK(boxlite_exec_wait(exec, 120000, &code, &error));
    boxlite_exec_free(exec);
    free(written.data);
    EVENTUALLY(count_machines() == 0);
    CHECK(status_of(box) == BOXLITE_BOX_STOPPED);

    // Others start as ever, and this one does too and is what it was.
    CHECK(boot(other) == BOXLITE_BOOT_RESTORED);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    PRINTS(box, "rm -f /big*; cat /file", "kept\n");
    CHECK(templates_made(runtime) == 0 && detours(runtime) == 0);
    remove_box(runtime, box);
    remove_box(runtime, other);
    shut_down(runtime);
}

// What the files of the only template take that has a disk, or has none, in KiB: all, or its memory.
static long takes_kib(bool with_disk, const char *file)
{
    char path[512], command[600];
    long kib = 0;
    CHECK(find_templates(with_disk, path) == 1);
    snprintf(command, sizeof command, "du -sk %s/%s", path, file);
    FILE *du = popen(command, "r");
    CHECK(du && fscanf(du, "%ld", &kib) == 1 && pclose(du) == 0);
    return kib;
}

static boxlite_box *large_box(boxlite_runtime *runtime)
{
    return box_over(runtime, "busybox", 0, LARGE_MIB);
}

// A template of the machine there is, and no room for one of the disk: neither from the beginning, nor
// for a copy of the memory, nor for what is written then.
static void without_room_for_one_of_a_disk(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *boxes[3], *box = large_box(runtime);
    warnings w = {""};
    listen_to_warnings(runtime, &w);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED && disk_templates_made(runtime) == 1);
    remove_box(runtime, box);
    long copy = takes_kib(false, "ram"), all = takes_kib(true, "");
    printf("a copy of the memory: %ld KiB, all of a disk template: %ld KiB\n", copy, all);
    // Less than this, and making one is not begun.
    CHECK(copy > 130 * 1024 && all > copy + 256);
    long room[] = {100 * 1024, copy - 1024, (copy + all) / 2};
    host("rm -r \"$D\"");

    for (int i = 0; i < 3; i++) {
        w.text[0] = 0;
        boxes[i] = large_box(runtime);
        leave_kib(room[i]);
        CHECK(boot(boxes[i]) == BOXLITE_BOOT_RESTORED);
        PRINTS(boxes[i], "echo kept > /file; sync; cat /file", "kept\n");
        dispatch_all(runtime);
        if (disk_templates_made(runtime) != 1 || detours(runtime) != (uint64_t)i + 1 || !strstr(w.text, "prepare a disk template"))
            FAIL("with %ld KiB: %d disk templates, %d detours, %s", room[i], (int)disk_templates_made(runtime), (int)detours(runtime), w.text);
        CHECK(count_templates("", NULL) == 1 && count_templates(".new", NULL) == 0);
        a_minute_later();
    }
    host("rm $HOME_/filler");
    box = large_box(runtime);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    CHECK(templates_made(runtime) == 1 && disk_templates_made(runtime) == 2 && detours(runtime) == 3);
    remove_box(runtime, box);
    for (int i = 0; i < 3; i++) {
        stop_box(boxes[i]);
        CHECK(boot(boxes[i]) == BOXLITE_BOOT_RESTORED);
        PRINTS(boxes[i], "cat /file", "kept\n");
        remove_box(runtime, boxes[i]);
    }
    shut_down(runtime);
}

// There, pages that nobody has written take space too, and the lack of it would end boxes.
static void in_memory(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    warnings w = {""};
    listen_to_warnings(runtime, &w);
    CHECK(boot(box) == BOXLITE_BOOT_COLD);
    dispatch_all(runtime);
    CHECK(templates_made(runtime) == 0 && strstr(w.text, "tmpfs"));
    remove_box(runtime, box);
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_machines() == 0);
    unmount_home();
}

int main(void)
{
    atexit(unmount_home);
    if (!mount_home(MAKE("") MOUNT)) {
        fprintf(stderr, "skipped: mounting needs root\n");
        return 77;
    }
    on_a_disk();
    under_a_restored_box();
    unmount_home();
    // Nothing is kept for root: what is free is what there is.
    CHECK(mount_home(MAKE("-m 0") MOUNT));
    without_room_for_one_of_a_disk();
    unmount_home();
    CHECK(mount_home("mount -t tmpfs tmpfs $HOME_"));
    in_memory();
    return 0;
}
