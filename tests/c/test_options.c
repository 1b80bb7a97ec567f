// The options of a box reach its commands; the parts of an error tell what went wrong.
#include "check.h"

static void a_boxs_options_are_its_commands_defaults(boxlite_runtime *runtime)
{
    const char *entrypoint[] = {"sh", "-c"}, *cmd[] = {"id -un; pwd; exit 4"};
    boxlite_box_options *options;
    boxlite_exec_options *own;
    bytes out = {0}, err = {0};
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "with-options", &error));
    OK(boxlite_box_options_set_user(options, "app", &error));
    OK(boxlite_box_options_set_working_dir(options, "/var/tmp", &error));
    OK(boxlite_box_options_set_entrypoint(options, entrypoint, 2, &error));
    OK(boxlite_box_options_set_cmd(options, cmd, 1, &error));
    boxlite_box *box = create_box(runtime, options);
    CHECK(!strcmp(boxlite_box_name(box), "with-options"));

    // The box's own command.
    OK(boxlite_exec_options_new(NULL, 0, &own, &error));
    CHECK(finish(start_with(box, own), &out, &err) == 4);
    CHECK(!strcmp((char *)out.data, "app\n/var/tmp\n"));
    free(out.data);
    free(err.data);

    // Another command, in the box's directory and as its user, and as one of its own.
    PRINTS(box, "id -un; pwd", "app\n/var/tmp\n");
    boxlite_exec_options *root = shell("id -un; pwd");
    out = err = (bytes){0};
    OK(boxlite_exec_options_set_user(root, "root", &error));
    OK(boxlite_exec_options_set_working_dir(root, "/etc", &error));
    CHECK(finish(start_with(box, root), &out, &err) == 0);
    CHECK(!strcmp((char *)out.data, "root\n/etc\n"));
    free(out.data);
    free(err.data);
    remove_box(runtime, box);
}

static void a_box_without_a_name_has_none(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    CHECK(boxlite_box_name(box) == NULL);
    CHECK(boxlite_box_name(NULL) == NULL);
    remove_box(runtime, box);
}

static void an_error_has_its_object_and_the_systems_number(void)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime;
    OK(boxlite_runtime_options_new(&options, &error));
    OK(boxlite_runtime_options_set_home(options, "/dev/null/home", &error));
    CHECK(boxlite_runtime_open(options, &runtime, &error) == BOXLITE_STORAGE);
    CHECK(!strcmp(boxlite_error_object(error), "/dev/null/home"));
    CHECK(boxlite_error_errno(error) == ENOTDIR);
    CHECK(!boxlite_error_is_retryable(error));
    boxlite_error_free(error);

    CHECK(boxlite_runtime_options_set_home(options, NULL, &error) == BOXLITE_INVALID_ARGUMENT);
    CHECK(!strcmp(boxlite_error_object(error), "path"));
    CHECK(boxlite_error_errno(error) == 0);
    boxlite_error_free(error);
    boxlite_runtime_options_free(options);

    CHECK(boxlite_error_object(NULL) == NULL);
    CHECK(boxlite_error_errno(NULL) == 0);
    CHECK(!boxlite_error_is_retryable(NULL));
}

static void what_may_succeed_later_is_said(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_exec *exec = start(box, "sleep 60");
    int32_t code;
    CHECK(boxlite_exec_wait(exec, 1, &code, &error) == BOXLITE_TIMEOUT);
    CHECK(boxlite_error_is_retryable(error));
    boxlite_error_free(error);
    error = NULL;
    boxlite_exec_free(exec);
    remove_box(runtime, box);
}

int main(void)
{
    an_error_has_its_object_and_the_systems_number();
    boxlite_runtime *runtime = open_runtime();
    a_boxs_options_are_its_commands_defaults(runtime);
    a_box_without_a_name_has_none(runtime);
    what_may_succeed_later_is_said(runtime, new_box(runtime));
    close_runtime(runtime);
    return 0;
}
