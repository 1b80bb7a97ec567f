// What the tests of disk templates share.
#ifndef TEMPLATE_DISK_H
#define TEMPLATE_DISK_H

#include "templates.h"

// The files below a directory, but for those that are the box's and those that tests write.
#define LIST_FILES                                                                                 \
    "find . -type f | grep -v -e '^./etc/hostname$' -e '^./etc/hosts$' -e '^./etc/resolv.conf$' "  \
    "-e '^./etc/machine-id$' -e '^./own' | LC_ALL=C sort | xargs sha256sum"

// Each file of the image, by its checksum: what the host finds in the base disk, of which there is one
// image in the home. Needs find_tools().
static inline void has_what_the_image_has(boxlite_box *box)
{
    // Without what is mounted on it.
    char *sums = output_of(box, "mkdir /own.root && mount --bind / /own.root && cd /own.root && " LIST_FILES
                                "; cd / && umount /own.root && rmdir /own.root");
    CHECK(strlen(sums) > 64);
    setenv("SUMS", sums, 1);
    free(sums);
    host("mkdir $HOME_/tree && debugfs -R \"rdump / $HOME_/tree\" \"$(ls $HOME_/images/disk-images/* | head -n 1)\" "
         "2>/dev/null && wanted=$(cd $HOME_/tree && " LIST_FILES ") && rm -r $HOME_/tree && "
         "{ test \"${SUMS%\n}\" = \"$wanted\" || { echo \"$wanted\n$SUMS\" | sort | uniq -u; exit 1; }; }");
    unsetenv("SUMS");
}

// Says that a template was used long ago: whoever uses it notes that it did.
static inline void not_used_meanwhile(const char *template)
{
    char script[128];
    snprintf(script, sizeof script, "touch -d '1 hour ago' \"%s/template.json\"", template);
    host(script);
}

static inline void check_used(const char *template, bool used)
{
    char script[128];
    snprintf(script, sizeof script, "test %s \"$(find \"%s/template.json\" -mmin -30)\"", used ? "-n" : "-z", template);
    host(script);
}

static inline void not_used(const char *template)
{
    check_used(template, false);
}

// Starts a box from one of two templates, and not from the other: $D or $T.
static inline void starts_from(boxlite_box *box, const char *one, const char *other)
{
    not_used_meanwhile(one);
    not_used_meanwhile(other);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    check_used(one, true);
    not_used(other);
}

#endif
