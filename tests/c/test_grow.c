// Disks that are made larger, and file systems that grow with them.
#include "program.h"
#include "snapshots.h"

static boxlite_status try_grow(boxlite_box *box, uint64_t size_mib)
{
    boxlite_op *op;
    OK(boxlite_box_grow_disk(box, size_mib, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, &error);
    boxlite_op_free(op);
    return status;
}

static boxlite_box *make(boxlite_runtime *runtime, uint64_t size_mib)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_disk_size_mib(options, size_mib, &error));
    return create_box(runtime, options);
}

static uint64_t told_mib(boxlite_box *box)
{
    boxlite_box_info *info = inspect(box);
    uint64_t size = boxlite_box_info_disk_size_mib(info);
    boxlite_box_info_free(info);
    return size;
}

// What the file system has, in MiB.
static long seen_mib(boxlite_box *box)
{
    char *output = output_of(box, "df -m / | awk 'NR == 2 { print $2 }'");
    long size = atol(output);
    free(output);
    return size;
}

// The file system as the host's programs see it, all of it.
static void file_system_is_whole(boxlite_box *box)
{
    char command[2048];
    snprintf(command, sizeof command,
             "qemu-img check -q '%%s' && qemu-img convert -O raw '%s' '%s/whole' && e2fsck -fn '%s/whole' > /dev/null 2>&1; "
             "code=$?; rm -f '%s/whole'; exit $code",
             in_box(box, "disks/disk.qcow2"), home, home, home);
    CHECK(succeeds(command, in_box(box, "disks/disk.qcow2")));
}

static void one_that_was_used(boxlite_runtime *runtime)
{
    boxlite_box *box = make(runtime, 64);
    PRINTS(box, "head -c 20000000 /dev/urandom > /file; sha256sum /file > /sum; sync; echo x", "x\n");
    long before = seen_mib(box);
    FAILS(try_grow(box, 128), BOXLITE_INVALID_STATE, "stop it first");
    stop(box);
    make_snapshot(box, "small");
    FAILS(try_grow(box, 64), BOXLITE_INVALID_ARGUMENT, "64 MiB already");
    FAILS(try_grow(box, 17), BOXLITE_INVALID_ARGUMENT, "smaller");
    FAILS(try_grow(box, 1), BOXLITE_INVALID_ARGUMENT, "size_mib");
    FAILS(try_grow(box, 17 << 20), BOXLITE_INVALID_ARGUMENT, "size_mib");
    CHECK(told_mib(box) == 64);
    OK(try_grow(box, 3000));
    CHECK(told_mib(box) == 3000 && boxlite_box_id(box));
    CHECK(before < 70 && seen_mib(box) > 2600);
    PRINTS(box, "sha256sum -c /sum > /dev/null && head -c 90000000 /dev/urandom > /more && sync && sha256sum /more >> /sum && "
                "sync && echo grown", "grown\n");
    stop(box);
    file_system_is_whole(box);
    // Once more, of one that was written to since.
    OK(try_grow(box, 20000));
    CHECK(seen_mib(box) > 18000);
    PRINTS(box, "sha256sum -c /sum > /dev/null && echo whole", "whole\n");
    stop(box);
    file_system_is_whole(box);
    // Back to when it was small: it grows again.
    OK(try_restore(box, "small"));
    CHECK(told_mib(box) == 20000 && seen_mib(box) > 18000);
    PRINTS(box, "sha256sum -c /sum > /dev/null && ls /more 2> /dev/null || echo before", "before\n");
    stop(box);
    file_system_is_whole(box);
    remove_box(runtime, box);
}

static void one_that_was_not(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box *box = make(runtime, 64), *clone;
    OK(try_grow(box, 1000));
    OK(boxlite_box_clone(box, NULL, NULL, 1, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &clone, &error));
    boxlite_op_free(op);
    CHECK(told_mib(clone) == 1000 && seen_mib(clone) > 800);
    CHECK(told_mib(box) == 1000 && seen_mib(box) > 800);
    stop(clone);
    file_system_is_whole(clone);
    remove_box(runtime, clone);
    remove_box(runtime, box);
}

// A table that has no room: a snapshot makes some.
static void one_that_becomes_very_large(boxlite_runtime *runtime)
{
    boxlite_box *box = make(runtime, 64);
    PRINTS(box, "echo kept > /file; sync; cat /file", "kept\n");
    stop(box);
    FAILS(try_grow(box, 8 << 20), BOXLITE_UNSUPPORTED, "make a snapshot");
    CHECK(told_mib(box) == 64);
    PRINTS(box, "cat /file", "kept\n");
    stop(box);
    OK(try_grow(box, 4 << 20));
    CHECK(succeeds("qemu-img check -q '%s'", in_box(box, "disks/disk.qcow2")));
    make_snapshot(box, "large");
    OK(try_grow(box, 8 << 20));
    CHECK(told_mib(box) == 8 << 20);
    CHECK(succeeds("qemu-img check -q '%s'", in_box(box, "disks/disk.qcow2")));
    CHECK(succeeds("qemu-img info '%s' | grep -q 'virtual size: 8 TiB'", in_box(box, "disks/disk.qcow2")));
    remove_box(runtime, box);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    one_that_was_used(runtime);
    one_that_was_not(runtime);
    one_that_becomes_very_large(runtime);
    close_runtime(runtime);
    return 0;
}
