// Machines that wait for boxes of one image: such a box gets one with its disk mounted, is itself and
// nobody else, and keeps what it writes; every other box does without.
#include "check.h"

#include <ctype.h>

enum { DISK_MIB = 64 };

// What tells one box from another.
static const char identity[] =
    "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; head -c 32 /dev/urandom | sha256sum";

static boxlite_runtime *open_pool(const char *of)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime;
    if (!*home) {
        strcpy(home, "/tmp/boxlite-test-XXXXXX");
        CHECK(mkdtemp(home));
    }
    OK(boxlite_runtime_options_new(&options, &error));
    OK(boxlite_runtime_options_set_home(options, home, &error));
    OK(boxlite_runtime_options_set_pool_size(options, 2, &error));
    FAILS(boxlite_runtime_options_set_pool_image(options, "", DISK_MIB, &error), BOXLITE_INVALID_ARGUMENT, "image");
    FAILS(boxlite_runtime_options_set_pool_image(options, NULL, DISK_MIB, &error), BOXLITE_INVALID_ARGUMENT, "image");
    FAILS(boxlite_runtime_options_set_pool_image(options, of, 1, &error), BOXLITE_INVALID_ARGUMENT, "disk_size_mib");
    OK(boxlite_runtime_options_set_pool_image(options, of, DISK_MIB, &error));
    OK(boxlite_runtime_open(options, &runtime, &error));
    boxlite_runtime_options_free(options);
    return runtime;
}

static boxlite_box *sized_box(boxlite_runtime *runtime, uint64_t disk_mib, const char *name)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_disk_size_mib(options, disk_mib, &error));
    if (name)
        OK(boxlite_box_options_set_name(options, name, &error));
    return create_box(runtime, options);
}

static void stop(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_stop(box, 1000, &op, &error));
    wait_op(op);
}

static void await_pool(boxlite_runtime *runtime)
{
    EVENTUALLY(boxlite_runtime_pool_ready(runtime) == 2);
}

static void check_unlike(const char *a, const char *b)
{
    // Line by line: host name, machine id, boot id, random bytes.
    for (int line = 0; line < 4; line++) {
        size_t length = strcspn(a, "\n");
        CHECK(length > 0 && (length != strcspn(b, "\n") || memcmp(a, b, length)));
        a += length + 1;
        b += strcspn(b, "\n") + 1;
    }
}

static void boxes_are_themselves(boxlite_runtime *runtime)
{
    const char *names[] = {NULL, NULL, "a-box-with-a-name"};
    boxlite_box *boxes[3];
    char *lines[3], wanted[256], id[64];
    for (int i = 0; i < 3; i++) {
        boxes[i] = sized_box(runtime, DISK_MIB, names[i]);
        await_pool(runtime);
        start_as(boxes[i], BOXLITE_BOOT_POOLED);
        snprintf(id, sizeof id, "%s", names[i] ? names[i] : boxlite_box_id(boxes[i]));
        for (char *c = id; *c; c++)
            *c = (char)tolower(*c);
        snprintf(wanted, sizeof wanted, "%s\n%s\n127.0.1.1\t%s\n", id, id, id);
        PRINTS(boxes[i], "hostname; cat /etc/hostname; tail -n 1 /etc/hosts", wanted);
        PRINTS(boxes[i], "cat /sys/block/vda/size; grep -c ext4 /proc/mounts; ls / | grep -c newroot; true", "131072\n1\n0\n");
        PRINTS(boxes[i], "ps -o args | grep -c '^/proc/1/fd'; grep -c rehears /proc/mounts; ls -d /rehearsal 2>/dev/null; true", "0\n0\n");
        PRINTS(boxes[i], "test -e /mine || echo mine > /mine; sync; cat /mine", "mine\n");
        lines[i] = output_of(boxes[i], identity);
        for (int j = 0; j < i; j++)
            check_unlike(lines[i], lines[j]);
    }
    // What is on the disk is what was in memory: also for a machine that is killed. It is another
    // machine's turn then, that has not the disk mounted.
    boxlite_box_info *info = inspect(boxes[0]);
    CHECK(kill((pid_t)boxlite_box_info_pid(info), SIGKILL) == 0);
    boxlite_box_info_free(info);
    EVENTUALLY(status_of(boxes[0]) != BOXLITE_BOX_RUNNING);
    stop(boxes[1]);
    stop(boxes[2]);
    for (int i = 0; i < 3; i++) {
        start_as(boxes[i], BOXLITE_BOOT_RESTORED);
        PRINTS(boxes[i], "cat /mine", "mine\n");
        char *now = output_of(boxes[i], identity);
        size_t same = strcspn(lines[i], "\n") + 34;
        CHECK(memcmp(now, lines[i], same) == 0);
        free(now);
        free(lines[i]);
        remove_box(runtime, boxes[i]);
    }
}

static void others_do_without(boxlite_runtime *runtime)
{
    await_pool(runtime);
    boxlite_box *larger = sized_box(runtime, 2 * DISK_MIB, NULL);
    start_as(larger, BOXLITE_BOOT_RESTORED);
    PRINTS(larger, "cat /sys/block/vda/size", "262144\n");
    CHECK(boxlite_runtime_pool_ready(runtime) == 2);
    remove_box(runtime, larger);
}

static void without_its_image_none_waits(void)
{
    boxlite_runtime *runtime = open_pool("/no/such/image");
    boxlite_box *box = sized_box(runtime, DISK_MIB, NULL);
    start_as(box, BOXLITE_BOOT_RESTORED);
    CHECK(boxlite_runtime_pool_ready(runtime) == 0);
    remove_box(runtime, box);
    close_runtime(runtime);
}

int main(void)
{
    boxlite_runtime *runtime = open_pool(image("busybox"));
    boxes_are_themselves(runtime);
    others_do_without(runtime);
    CHECK(boxlite_runtime_counter(runtime, BOXLITE_COUNTER_DETOURS) == 0);
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_machines() == 0);
    without_its_image_none_waits();
    return 0;
}
