// A disk with room for boxes but for no machine template: boxes boot, and are restored once there
// is room. A disk that is filled under restored boxes. And a home in memory, where no template can be.
// Needs root, for file systems of its own.
#include "templates.h"

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

// A box that was restored is told of a disk that somebody else fills while it writes, as one that
// was booted is.
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
    OK(boxlite_exec_on_stdout(exec, append, &written, NULL, &error));
    DISPATCH_UNTIL(runtime, written.length > 0);
    leave_kib(0);
    FAILS(boxlite_exec_wait(exec, 300000, &code, &error), BOXLITE_RESOURCE_EXHAUSTED, "disk is full");
    boxlite_exec_free(exec);
    free(written.data);
    EVENTUALLY(count_machines() == 0);

    // With space again, that it ended is known; how, only if the database had a block left to write
    // it down at the time.
    host("rm $HOME_/filler");
    int32_t status = status_of(box);
    CHECK(status == BOXLITE_BOX_FAILED || status == BOXLITE_BOX_STOPPED);

    // Others start as ever, and this one does too and is what it was.
    CHECK(boot(other) == BOXLITE_BOOT_RESTORED);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    PRINTS(box, "rm -f /big*; cat /file", "kept\n");
    CHECK(templates_made(runtime) == 0 && detours(runtime) == 0);
    remove_box(runtime, box);
    remove_box(runtime, other);
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
    if (!mount_home("truncate -s 600M $HOME_.img && mke2fs -q -F -t ext4 $HOME_.img && "
                    "mount -o loop $HOME_.img $HOME_")) {
        fprintf(stderr, "skipped: mounting needs root\n");
        return 77;
    }
    on_a_disk();
    under_a_restored_box();
    unmount_home();
    CHECK(mount_home("mount -t tmpfs tmpfs $HOME_"));
    in_memory();
    return 0;
}
