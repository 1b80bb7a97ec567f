// A home with little room, which is gone with the test: a tmpfs. Needs root, to mount it.
#ifndef SMALL_HOME_H
#define SMALL_HOME_H
#include "check.h"
#include "snapshots.h"
#include <sys/mount.h>
#include <sys/stat.h>

static inline void unmount_home(void)
{
    umount2(home, MNT_DETACH);
    rmdir(home);
}

// Whether there is one; if not, the test is to be skipped.
static inline bool make_small_home(void)
{
    strcpy(home, "/tmp/boxlite-test-XXXXXX");
    CHECK(mkdtemp(home));
    if (mount("tmpfs", home, "tmpfs", 0, "size=120m") != 0) {
        fprintf(stderr, "skipped: mounting needs root\n");
        rmdir(home);
        return false;
    }
    atexit(unmount_home);
    return true;
}

enum { BLOCK = 4096, MOST = 8000 };

// Leaves so many blocks free.
static inline void leave(int blocks)
{
    char command[256];
    snprintf(command, sizeof command, "cd %s && rm -f filler && { cat /dev/zero > filler; } 2>/dev/null; true", home);
    CHECK(system(command) == 0);
    snprintf(command, sizeof command, "%s/filler", home);
    struct stat filler;
    CHECK(stat(command, &filler) == 0);
    CHECK(truncate(command, filler.st_size / BLOCK * BLOCK - (off_t)blocks * BLOCK) == 0);
}

static inline bool is_there(boxlite_box *box, const char *name)
{
    return access(in_box(box, name), F_OK) == 0;
}

// Tries something with ever more space until it works; returns how often it did not.
static inline int until_it_fits(boxlite_box *box, boxlite_status (*try)(boxlite_box *, const char *), const char *name,
                         void (*nothing_has_changed)(boxlite_box *))
{
    int refused = 0;
    for (int blocks = 0; blocks < MOST; blocks += blocks < 40 ? 1 : blocks < 400 ? 20 : 400) {
        leave(blocks);
        boxlite_status status = try(box, name);
        if (status == BOXLITE_OK)
            return refused;
        if (status != BOXLITE_RESOURCE_EXHAUSTED)
            FAIL("with %d blocks: %s", blocks, boxlite_error_message(error));
        boxlite_error_free(error);
        error = NULL;
        refused++;
        nothing_has_changed(box);
    }
    FAIL("it never fits");
}

#endif
