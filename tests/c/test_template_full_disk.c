// A disk with room for boxes but for no machine template: boxes boot, and are restored once there
// is room. A disk that is filled under restored boxes. And a home in memory, where no template can be.
// Needs root, for file systems of its own.
#include "templates.h"
#include <sys/mount.h>

static void unmount(void)
{
    char image[sizeof home + 8];
    umount2(home, MNT_DETACH);
    rmdir(home);
    snprintf(image, sizeof image, "%s.img", home);
    unlink(image);
}

static bool mount_home(const char *command)
{
    strcpy(home, "/tmp/boxlite-test-XXXXXX");
    CHECK(mkdtemp(home));
    setenv("HOME_", home, 1);
    return system(command) == 0;
}

// Leaves so many MiB free.
static void leave(int mib)
{
    char command[256];
    snprintf(command, sizeof command,
             "rm -f $HOME_/filler; fallocate -l $(($(df --output=avail -k $HOME_ | tail -1) - %d))k"
             " $HOME_/filler",
             mib * 1024);
    host(command);
}

// Who has just failed to make a template is not followed at once by everybody else: the lock file
// remembers it for a minute.
static void a_minute_later(void)
{
    CHECK(count_templates(".lock", NULL) == 1);
    host("touch -d '2 minutes ago' $HOME_/templates/*.lock");
}

// Frees the runtime, and sees that nothing runs any more; the home stays.
static void shut_down(boxlite_runtime *runtime)
{
    boxlite_op *op;
    OK(boxlite_runtime_shutdown(runtime, 0, &op, &error));
    wait_op(op);
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_machines() == 0);
}

static void on_a_disk(void)
{
    leave(110);
    boxlite_runtime *runtime = open_runtime();
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
    leave(80);
    CHECK(boot(other) == BOXLITE_BOOT_RESTORED && templates_made(runtime) == 1);

    // Just enough room is enough.
    stop_box(box);
    stop_box(other);
    host("rm -r \"$T\"");
    leave(150);
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
    leave(0);
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
    unmount();
}

int main(void)
{
    atexit(unmount);
    if (!mount_home("truncate -s 600M $HOME_.img && mke2fs -q -F -t ext4 $HOME_.img && "
                    "mount -o loop $HOME_.img $HOME_")) {
        fprintf(stderr, "skipped: mounting needs root\n");
        return 77;
    }
    on_a_disk();
    under_a_restored_box();
    unmount();
    CHECK(mount_home("mount -t tmpfs tmpfs $HOME_"));
    in_memory();
    return 0;
}
