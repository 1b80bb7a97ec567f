// Bad input: a typed error that names the object, nothing lost, nothing changed.
#include "check.h"

static void fails_to_create(boxlite_runtime *runtime, const char *reference, uint64_t disk_mib,
                            boxlite_status wanted, const char *text)
{
    boxlite_box_options *options;
    boxlite_op *op;
    boxlite_box *box;
    OK(boxlite_box_options_new(reference, &options, &error));
    if (disk_mib)
        OK(boxlite_box_options_set_disk_size_mib(options, disk_mib, &error));
    OK(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    FAILS(boxlite_op_wait(op, 60000, &error), wanted, text);
    FAILS(boxlite_op_take_box(op, &box, &error), wanted, text);
    boxlite_op_free(op);
}

static void options_are_checked(void)
{
    boxlite_box_options *options = NULL;
    FAILS(boxlite_box_options_new(NULL, &options, &error), BOXLITE_INVALID_ARGUMENT, "image");
    FAILS(boxlite_box_options_new("", &options, &error), BOXLITE_INVALID_ARGUMENT, "image");
    FAILS(boxlite_box_options_new("\xff", &options, &error), BOXLITE_INVALID_ARGUMENT, "UTF-8");
    FAILS(boxlite_box_options_new("x", NULL, &error), BOXLITE_INVALID_ARGUMENT, "options");
    OK(boxlite_box_options_new("x", &options, &error));
    FAILS(boxlite_box_options_set_cpus(options, 0, &error), BOXLITE_INVALID_ARGUMENT, "cpus");
    FAILS(boxlite_box_options_set_cpus(options, 1000, &error), BOXLITE_INVALID_ARGUMENT, "1000");
    FAILS(boxlite_box_options_set_memory_mib(options, 1, &error), BOXLITE_INVALID_ARGUMENT, "memory_mib");
    FAILS(boxlite_box_options_set_name(options, "a b", &error), BOXLITE_INVALID_ARGUMENT, "a b");
    FAILS(boxlite_box_options_add_env(options, "A=B", "c", &error), BOXLITE_INVALID_ARGUMENT, "A=B");
    FAILS(boxlite_box_options_set_cmd(options, NULL, 1, &error), BOXLITE_INVALID_ARGUMENT, "argv");
    FAILS(boxlite_box_options_set_cmd(options, NULL, SIZE_MAX, &error), BOXLITE_INVALID_ARGUMENT, "argv");
    FAILS(boxlite_box_options_set_cpus(NULL, 1, &error), BOXLITE_INVALID_ARGUMENT, "options");
    // An error that nobody wants is no error.
    CHECK(boxlite_box_options_set_cpus(NULL, 1, NULL) == BOXLITE_INVALID_ARGUMENT);
    boxlite_box_options_free(options);
    boxlite_box_options_free(NULL);
}

static void an_unusable_home_is_named(void)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime;
    OK(boxlite_runtime_options_new(&options, &error));
    FAILS(boxlite_runtime_options_set_accelerator(options, 7, &error), BOXLITE_INVALID_ARGUMENT, "7");
    OK(boxlite_runtime_options_set_home(options, "/proc/no-home-here", &error));
    FAILS(boxlite_runtime_open(options, &runtime, &error), BOXLITE_STORAGE, "/proc/no-home-here");
    OK(boxlite_runtime_options_set_home(options, "/dev/null/home", &error));
    FAILS(boxlite_runtime_open(options, &runtime, &error), BOXLITE_STORAGE, "/dev/null/home");
    OK(boxlite_runtime_options_set_libexec(options, "/nowhere", &error));
    OK(boxlite_runtime_options_set_home(options, home, &error));
    FAILS(boxlite_runtime_open(options, &runtime, &error), BOXLITE_CONFIG, "/nowhere");
    boxlite_runtime_options_free(options);
}

// Runs a shell command with $IMAGE and $OUT set, to damage a copy of the image.
static const char *damaged(const char *how)
{
    static char out[128];
    char command[1024];
    snprintf(out, sizeof out, "%s/damaged", home);
    snprintf(command, sizeof command, "rm -rf %s && cp -rL %s %s && chmod -R u+w %s && cd %s && %s", out,
             image("busybox"), out, out, out, how);
    CHECK(system(command) == 0);
    return out;
}

static void damaged_images_are_refused(boxlite_runtime *runtime)
{
    const char *largest = "f=$(ls -S blobs/sha256/* | head -n 1)";
    char how[256];
    fails_to_create(runtime, "/no/such/image", 0, BOXLITE_IMAGE, "/no/such/image");
    snprintf(how, sizeof how, "%s; truncate -s -1000 $f", largest);
    fails_to_create(runtime, damaged(how), 0, BOXLITE_IMAGE, "truncated");
    snprintf(how, sizeof how, "%s; printf x | dd of=$f bs=1 seek=5000 conv=notrunc status=none", largest);
    fails_to_create(runtime, damaged(how), 0, BOXLITE_IMAGE, "sha256");
    fails_to_create(runtime, damaged("rm index.json"), 0, BOXLITE_IMAGE, "index.json");
    fails_to_create(runtime, damaged("echo '{' > index.json"), 0, BOXLITE_IMAGE, "index.json");
    snprintf(how, sizeof how, "%s; rm $f", largest);
    fails_to_create(runtime, damaged(how), 0, BOXLITE_IMAGE, "sha256");
}

static void a_missing_part_is_named(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    boxlite_op *op;
    setenv("BOXLITE_QEMU", "/no/qemu", 1);
    OK(boxlite_box_start(box, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_ENGINE, "/no/qemu");
    boxlite_op_free(op);
    // A program that is not QEMU at all, and one that ends at once.
    setenv("BOXLITE_QEMU", "/bin/false", 1);
    OK(boxlite_box_start(box, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_ENGINE, "ended while starting");
    boxlite_op_free(op);
    unsetenv("BOXLITE_QEMU");
    // The box is failed, says why, and starts all the same once the cause is gone.
    boxlite_box_info *info;
    OK(boxlite_box_inspect(box, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_info(op, &info, &error));
    boxlite_op_free(op);
    CHECK(boxlite_box_info_status(info) == BOXLITE_BOX_FAILED);
    CHECK(strstr(boxlite_box_info_error(info), "ended while starting"));
    boxlite_box_info_free(info);
    PRINTS(box, "echo works", "works\n");
    remove_box(runtime, box);
}

static void a_missing_kernel_is_named(void)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime;
    boxlite_op *op;
    char command[1024], libexec[128];
    snprintf(libexec, sizeof libexec, "%s/libexec", home);
    snprintf(command, sizeof command, "mkdir %s && ln -s %s/../libexec/boxlite/boxlite-shim %s/", libexec,
             getenv("BOXLITE_TEST_IMAGES"), libexec);
    CHECK(system(command) == 0);
    OK(boxlite_runtime_options_new(&options, &error));
    OK(boxlite_runtime_options_set_home(options, home, &error));
    OK(boxlite_runtime_options_set_libexec(options, libexec, &error));
    OK(boxlite_runtime_open(options, &runtime, &error));
    boxlite_runtime_options_free(options);
    boxlite_box *box = new_box(runtime);
    OK(boxlite_box_start(box, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_ENGINE, "vmlinux");
    boxlite_op_free(op);
    remove_box(runtime, box);
    boxlite_runtime_free(runtime);
}

static void a_kernel_that_does_not_come_up_is_a_timeout_with_the_console(boxlite_runtime *runtime)
{
    boxlite_box_options *options;
    boxlite_op *op;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_cold_boot(options, true, &error));
    OK(boxlite_box_options_set_start_timeout_ms(options, 100, &error));
    boxlite_box *box = create_box(runtime, options);
    OK(boxlite_box_start(box, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_TIMEOUT, "did not come up within 0.1 s");
    boxlite_op_free(op);
    remove_box(runtime, box);
}

static void names_are_unique(boxlite_runtime *runtime)
{
    boxlite_box_options *options;
    boxlite_op *op;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "twice", &error));
    boxlite_box *box = create_box(runtime, options);
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "twice", &error));
    OK(boxlite_box_create(runtime, options, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_ALREADY_EXISTS, "twice");
    boxlite_op_free(op);
    boxlite_box_options_free(options);
    remove_box(runtime, box);
    OK(boxlite_box_get(runtime, "twice", &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_NOT_FOUND, "twice");
    boxlite_op_free(op);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    options_are_checked();
    an_unusable_home_is_named();
    damaged_images_are_refused(runtime);
    a_missing_part_is_named(runtime);
    a_missing_kernel_is_named();
    a_kernel_that_does_not_come_up_is_a_timeout_with_the_console(runtime);
    names_are_unique(runtime);

    // Nothing of all that failed is left in the home.
    char command[512];
    snprintf(command, sizeof command, "test -z \"$(ls %s/boxes)\" && ls %s/images/disk-images | grep -vc ext4$ | grep -qx 0", home, home);
    CHECK(system(command) == 0);
    close_runtime(runtime);
    return 0;
}
