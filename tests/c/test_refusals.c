// Failures: code, object, errno and whether to try again; and setters that change nothing when they
// refuse.
#include "check.h"

#define POISON ((void *)(uintptr_t)0x5a5a5a5a)

// An error with everything that is to be known about it. `object` and `text` are looked for.
static void check_error(int line, boxlite_status status, boxlite_status wanted, const char *object,
                        int os, bool retryable, const char *text)
{
    const char *actual = boxlite_error_object(error);
    if (status != wanted || boxlite_error_code(error) != wanted || (object == NULL) != (actual == NULL) ||
        (object && !strstr(actual, object)) || boxlite_error_errno(error) != os ||
        boxlite_error_is_retryable(error) != retryable || !strstr(boxlite_error_message(error), text)) {
        fprintf(stderr, "line %d: %s, object %s, errno %d, retryable %d: %s\n", line,
                boxlite_status_name(status), actual ? actual : "NULL", boxlite_error_errno(error),
                boxlite_error_is_retryable(error), boxlite_error_message(error));
        exit(1);
    }
    boxlite_error_free(error);
    error = NULL;
}

#define ERROR(call, ...) check_error(__LINE__, call, __VA_ARGS__)

static void failed(int line, boxlite_op *op, boxlite_status wanted, const char *object, int os,
                   bool retryable, const char *text)
{
    check_error(line, boxlite_op_wait(op, 60000, &error), wanted, object, os, retryable, text);
    boxlite_op_free(op);
}

#define FAILED(...) failed(__LINE__, __VA_ARGS__)

static void opening_says_what_is_wrong(void)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime = POISON;
    char file[128];
    OK(boxlite_runtime_options_new(&options, &error));
    OK(boxlite_runtime_options_set_home(options, "/proc/nowhere", &error));
    ERROR(boxlite_runtime_open(options, &runtime, &error), BOXLITE_STORAGE, "/proc/nowhere", ENOENT, false, "/proc/nowhere");
    snprintf(file, sizeof file, "%s/file", home);
    FILE *made = fopen(file, "w");
    CHECK(made && fclose(made) == 0);
    OK(boxlite_runtime_options_set_home(options, file, &error));
    CHECK(boxlite_runtime_open(options, &runtime, &error) == BOXLITE_STORAGE);
    CHECK(strstr(boxlite_error_message(error), file) && boxlite_error_errno(error) != 0);
    boxlite_error_free(error);
    unlink(file);
    OK(boxlite_runtime_options_set_home(options, home, &error));
    OK(boxlite_runtime_options_set_libexec(options, "/nowhere", &error));
    ERROR(boxlite_runtime_open(options, &runtime, &error), BOXLITE_CONFIG, "boxlite-shim", 0, false, "/nowhere");
    CHECK(runtime == POISON);
    boxlite_runtime_options_free(options);
}

static void operations_say_what_is_wrong(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_op *op;
    boxlite_box_options *options;
    boxlite_exec_options *command;
    const char *id = boxlite_box_id(box);
    OK(boxlite_box_get(runtime, "nobody", &op, &error));
    FAILED(op, BOXLITE_NOT_FOUND, "nobody", 0, false, "nobody");
    OK(boxlite_box_remove(runtime, "nobody", true, &op, &error));
    FAILED(op, BOXLITE_NOT_FOUND, "nobody", 0, false, "nobody");
    OK(boxlite_box_options_new("/no/image", &options, &error));
    OK(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    FAILED(op, BOXLITE_IMAGE, "/no/image", 0, false, "/no/image");

    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "taken", &error));
    boxlite_box *first = create_box(runtime, options);
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "taken", &error));
    OK(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    FAILED(op, BOXLITE_ALREADY_EXISTS, "taken", 0, false, "taken");
    remove_box(runtime, first);

    command = shell("true");
    OK(boxlite_exec_options_set_user(command, "unknown", &error));
    OK(boxlite_box_exec(box, command, &op, &error));
    CHECK(boxlite_op_wait(op, 60000, &error) == BOXLITE_INVALID_ARGUMENT && !boxlite_error_is_retryable(error));
    CHECK(strstr(boxlite_error_message(error), "unknown"));
    boxlite_error_free(error);
    boxlite_op_free(op);
    boxlite_exec_options_free(command);

    OK(boxlite_box_remove(runtime, id, false, &op, &error));
    FAILED(op, BOXLITE_INVALID_STATE, id, 0, false, "running");
    // What was removed is gone, also for those who still have a handle.
    boxlite_box *gone = new_box(runtime);
    boxlite_box_ref(gone);
    remove_box(runtime, gone);
    OK(boxlite_box_start(gone, &op, &error));
    FAILED(op, BOXLITE_NOT_FOUND, boxlite_box_id(gone), 0, false, boxlite_box_id(gone));
    OK(boxlite_box_inspect(gone, &op, &error));
    FAILED(op, BOXLITE_NOT_FOUND, boxlite_box_id(gone), 0, false, boxlite_box_id(gone));
    boxlite_box_free(gone);

    // What ended cannot be signalled, and was not sent a signal that does not exist.
    boxlite_exec *exec = start(box, "true");
    OK(boxlite_exec_wait(exec, 60000, NULL, &error));
    OK(boxlite_exec_signal(exec, SIGTERM, &op, &error));
    FAILED(op, BOXLITE_NOT_FOUND, NULL, ESRCH, false, "ended");
    boxlite_exec_free(exec);

    // A missing part of the installation.
    boxlite_box *other = new_box(runtime);
    setenv("BOXLITE_QEMU", "/no/qemu", 1);
    OK(boxlite_box_start(other, &op, &error));
    CHECK(boxlite_op_wait(op, 60000, &error) == BOXLITE_ENGINE && strstr(boxlite_error_message(error), "/no/qemu"));
    boxlite_error_free(error);
    boxlite_op_free(op);
    unsetenv("BOXLITE_QEMU");
    remove_box(runtime, other);
}

static void hardware_is_never_replaced_silently(void)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime;
    boxlite_op *op;
    OK(boxlite_runtime_options_new(&options, &error));
    OK(boxlite_runtime_options_set_home(options, home, &error));
    OK(boxlite_runtime_options_set_accelerator(options, BOXLITE_ACCELERATOR_KVM, &error));
    OK(boxlite_runtime_open(options, &runtime, &error));
    boxlite_runtime_options_free(options);
    boxlite_box *box = new_box(runtime);
    OK(boxlite_box_start(box, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 120000, &error);
    boxlite_op_free(op);
    if (status == BOXLITE_OK) {
        boxlite_box_info *info;
        OK(boxlite_box_inspect(box, &op, &error));
        OK(boxlite_op_wait(op, 60000, &error));
        OK(boxlite_op_take_info(op, &info, &error));
        CHECK(!strcmp(boxlite_box_info_accelerator(info), "kvm"));
        boxlite_box_info_free(info);
        boxlite_op_free(op);
    } else {
        CHECK(status == BOXLITE_UNSUPPORTED_ENGINE && !boxlite_error_is_retryable(error));
        boxlite_error_free(error);
        error = NULL;
    }
    remove_box(runtime, box);
    boxlite_runtime_free(runtime);
}

static void success_clears_the_error(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_error *set;
    boxlite_op *op;
    boxlite_box_options *options;
    boxlite_box_info *info;
    size_t left;
#define SUCCEEDS(call)                                                                             \
    do {                                                                                           \
        set = POISON;                                                                              \
        CHECK((call) == BOXLITE_OK);                                                               \
        CHECK(set == NULL);                                                                        \
    } while (0)
    SUCCEEDS(boxlite_box_options_new("x", &options, &set));
    SUCCEEDS(boxlite_box_options_set_cpus(options, 2, &set));
    boxlite_box_options_free(options);
    SUCCEEDS(boxlite_box_inspect(box, &op, &set));
    SUCCEEDS(boxlite_op_wait(op, 60000, &set));
    SUCCEEDS(boxlite_op_cancel(op, &set));
    SUCCEEDS(boxlite_op_take_info(op, &info, &set));
    boxlite_box_info_free(info);
    boxlite_op_free(op);
    dispatch_all(runtime);
    set = POISON;
    CHECK(boxlite_dispatch(runtime, 0, &left, &set) == BOXLITE_TIMEOUT && set == NULL && left == 0);
}

// Refused by name, and refused without an error to fill.
#define REFUSED(function, field, ...)                                                              \
    do {                                                                                           \
        boxlite_status status_ = function(options, __VA_ARGS__, &error);                           \
        const char *object_ = boxlite_error_object(error);                                         \
        if (status_ != BOXLITE_INVALID_ARGUMENT || !object_ || strcmp(object_, field) ||           \
            !strstr(boxlite_error_message(error), field))                                          \
            FAIL("%s(%s): %s, object %s: %s", #function, #__VA_ARGS__, boxlite_status_name(status_), \
                 object_ ? object_ : "NULL", boxlite_error_message(error));                        \
        boxlite_error_free(error);                                                                 \
        error = NULL;                                                                              \
        CHECK(function(options, __VA_ARGS__, NULL) == BOXLITE_INVALID_ARGUMENT);                   \
    } while (0)

static void refused_box_options_change_nothing(boxlite_runtime *runtime)
{
    boxlite_box_options *options;
    const char *entrypoint[] = {"sh", "-c"}, *cmd[] = {"id -un; pwd; echo $A $B"}, *bad[] = {"ok", "\xff"}, *null[] = {"ok", NULL};
    char long_name[130];
    memset(long_name, 'x', 129);
    long_name[129] = 0;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "good", &error));
    OK(boxlite_box_options_set_cpus(options, 2, &error));
    OK(boxlite_box_options_set_memory_mib(options, 256, &error));
    OK(boxlite_box_options_set_disk_size_mib(options, 10240, &error));
    OK(boxlite_box_options_add_env(options, "A", "one", &error));
    OK(boxlite_box_options_set_working_dir(options, "/tmp", &error));
    OK(boxlite_box_options_set_user(options, "app", &error));
    OK(boxlite_box_options_set_entrypoint(options, entrypoint, 2, &error));
    OK(boxlite_box_options_set_cmd(options, cmd, 1, &error));
    OK(boxlite_box_options_set_start_timeout_ms(options, 50000, &error));

    const char *names[] = {"", "-x", ".x", "_x", "a b", "a/b", "a\n", "\xc3\xa4", long_name};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        REFUSED(boxlite_box_options_set_name, "name", names[i]);
    REFUSED(boxlite_box_options_set_name, "name", NULL);
    REFUSED(boxlite_box_options_set_name, "name", "\xff");
    REFUSED(boxlite_box_options_set_cpus, "cpus", 0);
    REFUSED(boxlite_box_options_set_cpus, "cpus", 65);
    REFUSED(boxlite_box_options_set_cpus, "cpus", UINT32_MAX);
    REFUSED(boxlite_box_options_set_memory_mib, "memory_mib", 0);
    REFUSED(boxlite_box_options_set_memory_mib, "memory_mib", 127);
    REFUSED(boxlite_box_options_set_memory_mib, "memory_mib", UINT32_MAX);
    REFUSED(boxlite_box_options_set_disk_size_mib, "disk_size_mib", 0);
    REFUSED(boxlite_box_options_set_disk_size_mib, "disk_size_mib", UINT64_MAX);
    REFUSED(boxlite_box_options_set_disk_size_mib, "disk_size_mib", (16u << 20) + 1);
    REFUSED(boxlite_box_options_add_env, "name", NULL, "x");
    REFUSED(boxlite_box_options_add_env, "value", "A", NULL);
    REFUSED(boxlite_box_options_add_env, "name", "\xff", "x");
    REFUSED(boxlite_box_options_add_env, "value", "A", "\xff");
    REFUSED(boxlite_box_options_add_env, "env", "", "x");
    REFUSED(boxlite_box_options_add_env, "env", "A=B", "x");
    REFUSED(boxlite_box_options_set_working_dir, "path", NULL);
    REFUSED(boxlite_box_options_set_working_dir, "path", "\xff");
    REFUSED(boxlite_box_options_set_working_dir, "working_dir", "");
    REFUSED(boxlite_box_options_set_working_dir, "working_dir", "relative");
    REFUSED(boxlite_box_options_set_user, "user", NULL);
    REFUSED(boxlite_box_options_set_user, "user", "\xff");
    REFUSED(boxlite_box_options_set_user, "user", "");
    REFUSED(boxlite_box_options_set_entrypoint, "argv", NULL, 1);
    REFUSED(boxlite_box_options_set_entrypoint, "argv", bad, 2);
    REFUSED(boxlite_box_options_set_entrypoint, "argv", null, 2);
    REFUSED(boxlite_box_options_set_cmd, "argv", NULL, 1);
    REFUSED(boxlite_box_options_set_cmd, "argv", bad, 2);
    REFUSED(boxlite_box_options_set_cmd, "argv", null, 2);
    REFUSED(boxlite_box_options_set_start_timeout_ms, "start_timeout_ms", 0);
    REFUSED(boxlite_box_options_set_start_timeout_ms, "start_timeout_ms", 99);
    REFUSED(boxlite_box_options_set_start_timeout_ms, "start_timeout_ms", 3600001);

    // Still usable, and what was set before counts.
    OK(boxlite_box_options_add_env(options, "B", "two", &error));
    boxlite_box *box = create_box(runtime, options);
    boxlite_op *op;
    boxlite_box_info *info;
    OK(boxlite_box_inspect(box, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_info(op, &info, &error));
    boxlite_op_free(op);
    CHECK(!strcmp(boxlite_box_info_name(info), "good") && boxlite_box_info_cpus(info) == 2);
    CHECK(boxlite_box_info_memory_mib(info) == 256 && boxlite_box_info_disk_size_mib(info) == 10240);
    boxlite_box_info_free(info);
    boxlite_exec_options *own;
    bytes out = {0}, err = {0};
    OK(boxlite_exec_options_new(NULL, 0, &own, &error));
    CHECK(finish(start_with(box, own), &out, &err) == 0);
    if (strcmp((char *)out.data, "app\n/tmp\none two\n") != 0)
        FAIL("%s", (char *)out.data);
    free(out.data);
    remove_box(runtime, box);
}

static void refused_exec_options_change_nothing(boxlite_box *box)
{
    boxlite_exec_options *options = shell("id -un; pwd; echo $A $B; cat");
    bytes out = {0}, err = {0};
    OK(boxlite_exec_options_add_env(options, "A", "one", &error));
    OK(boxlite_exec_options_set_working_dir(options, "/tmp", &error));
    OK(boxlite_exec_options_set_user(options, "app", &error));
    REFUSED(boxlite_exec_options_add_env, "name", NULL, "x");
    REFUSED(boxlite_exec_options_add_env, "value", "A", NULL);
    REFUSED(boxlite_exec_options_add_env, "name", "\xff", "x");
    REFUSED(boxlite_exec_options_add_env, "value", "A", "\xff");
    REFUSED(boxlite_exec_options_add_env, "env", "", "x");
    REFUSED(boxlite_exec_options_add_env, "env", "A=B", "x");
    REFUSED(boxlite_exec_options_set_working_dir, "path", NULL);
    REFUSED(boxlite_exec_options_set_working_dir, "path", "\xff");
    REFUSED(boxlite_exec_options_set_working_dir, "working_dir", "");
    REFUSED(boxlite_exec_options_set_working_dir, "working_dir", "relative");
    REFUSED(boxlite_exec_options_set_user, "user", NULL);
    REFUSED(boxlite_exec_options_set_user, "user", "\xff");
    REFUSED(boxlite_exec_options_set_user, "user", "");
    OK(boxlite_exec_options_add_env(options, "B", "two", &error));
    CHECK(finish(start_with(box, options), &out, &err) == 0);
    CHECK(!strcmp((char *)out.data, "app\n/tmp\none two\n"));
    free(out.data);

    boxlite_exec_options *made = POISON;
    const char *empty[] = {""};
    FAILS(boxlite_exec_options_new(empty, 1, &made, &error), BOXLITE_INVALID_ARGUMENT, "argv");
    FAILS(boxlite_exec_options_new(NULL, 1, &made, &error), BOXLITE_INVALID_ARGUMENT, "argv");
    FAILS(boxlite_exec_options_new(empty, SIZE_MAX, &made, &error), BOXLITE_INVALID_ARGUMENT, "argv");
    CHECK(made == POISON);
}

static void refused_runtime_options_change_nothing(void)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime;
    OK(boxlite_runtime_options_new(&options, &error));
    OK(boxlite_runtime_options_set_home(options, home, &error));
    OK(boxlite_runtime_options_set_accelerator(options, BOXLITE_ACCELERATOR_TCG, &error));
    REFUSED(boxlite_runtime_options_set_home, "path", NULL);
    REFUSED(boxlite_runtime_options_set_home, "path", "\xff");
    REFUSED(boxlite_runtime_options_set_home, "home", "");
    REFUSED(boxlite_runtime_options_set_libexec, "path", NULL);
    REFUSED(boxlite_runtime_options_set_libexec, "path", "\xff");
    REFUSED(boxlite_runtime_options_set_libexec, "libexec", "");
    const int32_t none[] = {3, -1, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 4; i++)
        REFUSED(boxlite_runtime_options_set_accelerator, "accelerator", none[i]);
    OK(boxlite_runtime_open(options, &runtime, &error));
    boxlite_runtime_options_free(options);
    boxlite_box *box = new_box(runtime);
    boxlite_op *op;
    boxlite_box_info *info;
    OK(boxlite_box_start(box, &op, &error));
    wait_op(op);
    OK(boxlite_box_inspect(box, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_info(op, &info, &error));
    boxlite_op_free(op);
    CHECK(!strcmp(boxlite_box_info_accelerator(info), "tcg"));
    boxlite_box_info_free(info);
    remove_box(runtime, box);
    boxlite_runtime_free(runtime);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo up", "up\n");
    opening_says_what_is_wrong();
    operations_say_what_is_wrong(runtime, box);
    success_clears_the_error(runtime, box);
    refused_box_options_change_nothing(runtime);
    refused_exec_options_change_nothing(box);
    refused_runtime_options_change_nothing();
    hardware_is_never_replaced_silently();
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
