// Boxes of root disks that were made elsewhere: raw files, and qcow2 of every kind that is read. What is not, or
// is spoiled, makes no box.
#include "program.h"
#include "snapshots.h"

static const char *at_home(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", home, name);
    return path;
}

static void host(const char *format, const char *a, const char *b)
{
    char command[1024];
    snprintf(command, sizeof command, format, a, b);
    CHECK(system(command) == 0);
}

static boxlite_box_options *of_disk(const char *path, int32_t format)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new_from_disk(path, format, &options, &error));
    return options;
}

static boxlite_status try_create(boxlite_runtime *runtime, boxlite_box_options *options)
{
    boxlite_op *op;
    OK(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    boxlite_status status = boxlite_op_wait(op, 60000, &error);
    boxlite_op_free(op);
    return status;
}

static void runs(boxlite_runtime *runtime, const char *path, int32_t format)
{
    boxlite_box *box = create_box(runtime, of_disk(path, format));
    boxlite_box_info *info = inspect(box);
    CHECK(boxlite_box_info_disk_size_mib(info) == 64 && !strcmp(boxlite_box_info_image(info), path));
    boxlite_box_info_free(info);
    CHECK(succeeds("qemu-img info '%s' | grep -q backing && exit 1; true", in_box(box, "disks/disk.qcow2")));
    CHECK(succeeds("qemu-img check -q '%s'", in_box(box, "disks/disk.qcow2")));
    PRINTS(box, "cat /mine; echo changed > /mine; sync", "mine\n");
    stop(box);
    PRINTS(box, "cat /mine", "changed\n");
    remove_box(runtime, box);
}

static void every_kind_runs(boxlite_runtime *runtime, const char *raw)
{
    runs(runtime, raw, BOXLITE_DISK_RAW);
    const char *kinds[] = {"-o compat=0.10", "-o compat=1.1", "-c -o compression_type=zstd", "-c", "-o cluster_size=512",
                           "-o cluster_size=2M", "-o extended_l2=off,lazy_refcounts=on"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char command[256];
        snprintf(command, sizeof command, "qemu-img convert -q -f raw -O qcow2 %s '%%s' '%%s'", kinds[i]);
        host(command, raw, at_home("disk"));
        runs(runtime, at_home("disk"), BOXLITE_DISK_QCOW2);
    }
    // Larger than it was.
    boxlite_box_options *options = of_disk(at_home("disk"), BOXLITE_DISK_QCOW2);
    OK(boxlite_box_options_set_disk_size_mib(options, 500, &error));
    boxlite_box *box = create_box(runtime, options);
    PRINTS(box, "df -m / | awk 'NR == 2 { print ($2 > 400) }'; cat /mine", "1\nmine\n");
    remove_box(runtime, box);
}

// The home's boxes and their files, before and after.
#define REFUSES(options, status, words)                                                            \
    do {                                                                                           \
        FAILS(try_create(runtime, options), status, words);                                        \
        CHECK(succeeds("test -z \"$(ls '%s/boxes')\"", home) && count_boxes(runtime) == 0);        \
    } while (0)

static void others_are_refused(boxlite_runtime *runtime, const char *raw)
{
    boxlite_box_options *options;
    FAILS(boxlite_box_options_new_from_disk(raw, 2, &options, &error), BOXLITE_INVALID_ARGUMENT, "boxlite_disk_format");
    FAILS(boxlite_box_options_new_from_disk("", 0, &options, &error), BOXLITE_INVALID_ARGUMENT, "path");
    REFUSES(of_disk(at_home("none"), BOXLITE_DISK_RAW), BOXLITE_NOT_FOUND, "none");
    REFUSES(of_disk(home, BOXLITE_DISK_RAW), BOXLITE_INVALID_ARGUMENT, "no file");
    REFUSES(of_disk("/dev/zero", BOXLITE_DISK_RAW), BOXLITE_INVALID_ARGUMENT, "no file");
    host("truncate -s 64M '%s%s'", at_home("empty"), "");
    REFUSES(of_disk(at_home("empty"), BOXLITE_DISK_RAW), BOXLITE_UNSUPPORTED, "ext4");
    REFUSES(of_disk(raw, BOXLITE_DISK_QCOW2), BOXLITE_STORAGE, "magic number");
    // One is what it is said to be, whatever it looks like.
    REFUSES(of_disk(at_home("disk"), BOXLITE_DISK_RAW), BOXLITE_UNSUPPORTED, "ext4");
    options = of_disk(raw, BOXLITE_DISK_RAW);
    OK(boxlite_box_options_set_disk_size_mib(options, 63, &error));
    REFUSES(options, BOXLITE_INVALID_ARGUMENT, "has 64 MiB");

    host("qemu-img create -q -f qcow2 -F raw -b /etc/passwd '%s%s' 64M", at_home("other"), "");
    REFUSES(of_disk(at_home("other"), BOXLITE_DISK_QCOW2), BOXLITE_UNSUPPORTED, "qemu-img convert");
    host("cd '%s' && qemu-img create -q -f qcow2 -o data_file=outside,data_file_raw=on '%s' 64M", home, at_home("other"));
    REFUSES(of_disk(at_home("other"), BOXLITE_DISK_QCOW2), BOXLITE_UNSUPPORTED, "");
    // Encrypted, as its header says.
    host("cp '%s' '%s'", at_home("disk"), at_home("other"));
    host("printf '\\002' | dd of='%s%s' bs=1 seek=35 conv=notrunc status=none", at_home("other"), "");
    REFUSES(of_disk(at_home("other"), BOXLITE_DISK_QCOW2), BOXLITE_UNSUPPORTED, "");
    for (int cut = 0; cut < 5; cut++) {
        char command[128];
        snprintf(command, sizeof command, "head -c %d '%%s' > '%%s'", (int[]){0, 50, 104, 70000, 700000}[cut]);
        host(command, at_home("disk"), at_home("other"));
        boxlite_status status = try_create(runtime, of_disk(at_home("other"), BOXLITE_DISK_QCOW2));
        CHECK(status == BOXLITE_STORAGE || status == BOXLITE_UNSUPPORTED);
        boxlite_error_free(error);
        error = NULL;
        CHECK(count_boxes(runtime) == 0);
    }
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_disk_size_mib(options, 64, &error));
    remove_box(runtime, create_box(runtime, options));
    host("cp '%s'/images/disk-images/*.ext4 '%s'", home, at_home("raw"));
    host("echo mine > '%s' && cd $(dirname '%s') && debugfs -w -R 'write mine /mine' raw > /dev/null 2>&1", at_home("mine"), at_home("raw"));
    char raw[256];
    snprintf(raw, sizeof raw, "%s", at_home("raw"));
    every_kind_runs(runtime, raw);
    others_are_refused(runtime, raw);
    close_runtime(runtime);
    return 0;
}
