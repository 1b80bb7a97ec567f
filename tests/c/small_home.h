// A home with little room, which is gone with the test: a tmpfs. Needs root, to mount it.
#ifndef SMALL_HOME_H
#define SMALL_HOME_H
#include "check.h"
#include <sys/mount.h>

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

#endif
