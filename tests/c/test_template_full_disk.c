// A disk with room for boxes but for no machine template: boxes boot, and are restored once there
// is room. Needs root, for a small file system.
#include "templates.h"
#include <sys/mount.h>

static void unmount(void)
{
    umount2(home, MNT_DETACH);
    rmdir(home);
}

// Who has just failed to make a template is not followed at once by everybody else: the lock file
// remembers it for a minute.
static void a_minute_later(void)
{
    CHECK(count_templates(".lock", NULL) == 1);
    host("touch -d '2 minutes ago' $HOME_/templates/*.lock");
}

int main(void)
{
    strcpy(home, "/tmp/boxlite-test-XXXXXX");
    CHECK(mkdtemp(home));
    if (mount("tmpfs", home, "tmpfs", 0, "size=120m") != 0) {
        fprintf(stderr, "skipped: mounting needs root\n");
        rmdir(home);
        return 77;
    }
    atexit(unmount);
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
    host("mount -o remount,size=400m $HOME_; touch $HOME_/templates/*.lock");
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
    host("head -c 200M /dev/zero > $HOME_/filler");
    CHECK(boot(other) == BOXLITE_BOOT_RESTORED && templates_made(runtime) == 1);

    // Just enough room is enough.
    stop_box(box);
    stop_box(other);
    host("rm -r \"$T\" $HOME_/filler; mount -o remount,size=$((160 + $(du -sm $HOME_ | cut -f1)))m $HOME_");
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED && templates_made(runtime) == 2);

    remove_box(runtime, box);
    remove_box(runtime, other);
    boxlite_op *op;
    OK(boxlite_runtime_shutdown(runtime, 0, &op, &error));
    wait_op(op);
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_machines() == 0);
    return 0;
}
