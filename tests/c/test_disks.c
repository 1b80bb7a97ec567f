// Restored boxes over disks of all sizes and images: each sees its own disk, all of it, and nothing
// of the one that its machine template was made with.
#include "templates.h"

static const uint64_t sizes[] = {64, 300, 1024, 10240, 2097152};
static const char *images[] = {"busybox", "busybox.docker", "busybox.oci", "python"};

// A box's disk on the host as it is, raw, at $HOME_/raw; sparse.
static void read_disk(boxlite_box *box)
{
    host_with(box, "qemu-img convert -f qcow2 -O raw $BOX_/disks/disk.qcow2 $HOME_/raw");
}

static void drop_disk(void)
{
    host("rm $HOME_/raw");
}

static boxlite_box *sized_box(boxlite_runtime *runtime, const char *name, uint64_t mib)
{
    return box_over(runtime, name, mib, 0);
}

static void restored(boxlite_box *box)
{
    start_box(box);
    CHECK(boot_of(box) == BOXLITE_BOOT_RESTORED);
}

// The device has this disk's size, and the identity of the file system that is on this disk, which
// no other image or size shares.
static void the_guest_reads_this_disk(boxlite_box *box, uint64_t mib)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%llu\n", (unsigned long long)mib * 2048);
    PRINTS(box, "cat /sys/class/block/vda/size", wanted);
    // The identity of the file system, at 1024 + 104.
    char *identity = output_of(box, "dd if=/dev/vda bs=8 skip=141 count=2 2>/dev/null | md5sum");
    setenv("IDENTITY", identity, 1);
    free(identity);
    host("test \"$(dd if=$HOME_/raw bs=8 skip=141 count=2 2>/dev/null | md5sum)\" = \"${IDENTITY%\n}\"");
}

// The file system has grown to the disk's size: all but its own tables.
static void the_file_system_is_as_large(boxlite_box *box, uint64_t mib)
{
    char *kib = output_of(box, "df -P -k / | awk 'NR == 2 { print $2 }'");
    uint64_t there = strtoull(kib, NULL, 10) / 1024;
    if (there > mib || there < mib * 85 / 100)
        FAIL("a file system of %llu MiB on a disk of %llu MiB", (unsigned long long)there, (unsigned long long)mib);
    free(kib);
}

// In the next life, on a clean disk, what was written is there.
static void the_next_life_prints(boxlite_box *box, const char *script, const char *wanted)
{
    stop_box(box);
    the_file_system_is_clean(box);
    restored(box);
    PRINTS(box, script, wanted);
    stop_box(box);
}

static void each_size_is_seen(boxlite_runtime *runtime)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        boxlite_box *box = sized_box(runtime, "busybox", sizes[i]);
        read_disk(box);
        restored(box);
        the_guest_reads_this_disk(box, sizes[i]);
        drop_disk();
        the_file_system_is_as_large(box, sizes[i]);
        PRINTS(box, "head -c 20000000 /dev/urandom > /file; sync; md5sum < /file > /sum; echo ok", "ok\n");
        the_next_life_prints(box, "md5sum < /file | cmp - /sum && echo same", "same\n");
        remove_box(runtime, box);
    }
    // The size of its disk makes no machine another; but each disk is mounted in one of its own.
    CHECK(templates_made(runtime) == 1 && detours(runtime) == 0);
    CHECK(disk_templates_made(runtime) == sizeof sizes / sizeof *sizes);
}

// A disk is filled to its end, and what was written is there in the next life.
static void all_of_a_disk_can_be_written(boxlite_runtime *runtime)
{
    boxlite_box *box = sized_box(runtime, "busybox", 300);
    restored(box);
    PRINTS(box,
           "for i in $(seq 25); do head -c 8388608 /dev/urandom > /file$i; done; sync; "
           "md5sum /file* > /sums; sync; echo 3 > /proc/sys/vm/drop_caches; md5sum -c /sums | grep -c OK",
           "25\n");
    // To the last block, and beyond: refused, and no harm.
    PRINTS(box, "dd if=/dev/zero of=/rest bs=64k 2>&1 | grep -o 'No space left on device'; sync; echo over", "No space left on device\nover\n");
    the_next_life_prints(
        box, "md5sum -c /sums | grep -c OK; rm /rest; df -P -k / | awk 'NR == 2 { print ($4 > 10000) }'", "25\n1\n");
    the_file_system_is_clean(box);
    remove_box(runtime, box);
    CHECK(detours(runtime) == 0);
}

// Every file of the image, by its checksum: what the host finds in the disk before it was ever used.
static void each_image_is_seen(boxlite_runtime *runtime)
{
    boxlite_box *boxes[sizeof images / sizeof *images];
    for (size_t i = 0; i < sizeof images / sizeof *images; i++) {
        if (access(image(images[i]), F_OK) != 0) {
            fprintf(stderr, "there is no image %s\n", images[i]);
            boxes[i] = NULL;
            continue;
        }
        boxes[i] = sized_box(runtime, images[i], 2048);
        read_disk(boxes[i]);
        restored(boxes[i]);
        the_guest_reads_this_disk(boxes[i], 2048);
        char *sums = output_of(boxes[i], "for f in /bin/sh /bin/cat /usr/bin/env /usr/bin/python3; do "
                                         "test -f $f && echo \"$(readlink -f $f) $(sha256sum < $f | cut -c -64)\"; done; true");
        setenv("SUMS", sums, 1);
        CHECK(strlen(sums) > 64);
        free(sums);
        host("echo \"$SUMS\" | while read -r file sum; do test -z \"$file\" || "
             "test \"$(debugfs -R \"cat $file\" $HOME_/raw 2>/dev/null | sha256sum | cut -c -64)\" = $sum || exit 1; done");
        drop_disk();
    }
    // All of them run at the same time.
    for (size_t i = 0; i < sizeof images / sizeof *images; i++) {
        if (!boxes[i])
            continue;
        PRINTS(boxes[i], "echo here > /mark; sync; cat /mark", "here\n");
        stop_box(boxes[i]);
        the_file_system_is_clean(boxes[i]);
        remove_box(runtime, boxes[i]);
    }
    CHECK(templates_made(runtime) == 1 && detours(runtime) == 0);
}

int main(void)
{
    find_tools();
    boxlite_runtime *runtime = open_runtime();
    each_size_is_seen(runtime);
    all_of_a_disk_can_be_written(runtime);
    each_image_is_seen(runtime);
    close_runtime(runtime);
    return 0;
}
