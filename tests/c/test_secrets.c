// Values of environment variables stay where they belong: on no command line, in no environment of a
// helper, in no log.
#include "check.h"

#define OF_BOX "opaque-value-of-the-box"
#define OF_EXEC "opaque-value-of-the-command"

static bytes told;

static void on_log(void *user_data, int32_t level, const char *target, const char *message)
{
    (void)level;
    append(user_data, (const uint8_t *)target, strlen(target));
    append(user_data, (const uint8_t *)message, strlen(message));
}

static int holds(const void *data, size_t length, const char *what)
{
    return data && memmem(data, length, what, strlen(what)) != NULL;
}

// How many processes but this one have the text in a file of theirs in /proc.
static int count_holders(const char *name, const char *what)
{
    static char data[1 << 20];
    struct dirent *entry;
    int count = 0;
    DIR *dir = opendir("/proc");
    CHECK(dir);
    while ((entry = readdir(dir))) {
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/%s", entry->d_name, name);
        FILE *file = atoi(entry->d_name) == getpid() ? NULL : fopen(path, "r");
        if (!file)
            continue;
        count += holds(data, fread(data, 1, sizeof data, file), what);
        fclose(file);
    }
    closedir(dir);
    return count;
}

// Whether a file among the boxes' logs has the text.
static int logged(const char *what)
{
    char command[256];
    snprintf(command, sizeof command, "grep -raqF -- '%s' %s/boxes/*/logs", what, home);
    int status = system(command);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    return WEXITSTATUS(status) == 0;
}

int main(void)
{
    // Not even what this program itself has in its environment goes to the helpers.
    setenv("HOSTS_OWN", OF_BOX, 1);
    boxlite_runtime *runtime = open_runtime();
    OK(boxlite_runtime_on_log(runtime, BOXLITE_LOG_TRACE, on_log, &told, NULL, &error));
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_add_env(options, "OF_BOX", OF_BOX, &error));
    boxlite_box *box = create_box(runtime, options);

    boxlite_exec_options *command = shell("echo $OF_BOX $OF_EXEC; read line");
    OK(boxlite_exec_options_add_env(command, "OF_EXEC", OF_EXEC, &error));
    OK(boxlite_exec_options_set_stdin(command, true, &error));
    boxlite_exec *exec = start_with(box, command);
    bytes out = {0}, err = {0};
    OK(boxlite_exec_on_stdout(exec, append, &out, NULL, &error));
    DISPATCH_UNTIL(runtime, out.length > 0 && out.data[out.length - 1] == '\n');
    CHECK(!strcmp((char *)out.data, OF_BOX " " OF_EXEC "\n"));

    const char *values[] = {OF_BOX, OF_EXEC};
    for (size_t i = 0; i < 2; i++) {
        CHECK(count_holders("cmdline", values[i]) == 0);
        CHECK(count_holders("environ", values[i]) == 0);
        CHECK(!logged(values[i]));
    }
    // Controls: these looks would see something.
    CHECK(count_holders("cmdline", home) > 0 && count_holders("environ", "PATH=") > 0);
    PRINTS(box, "echo said-aloud > /dev/console && echo said", "said\n");
    EVENTUALLY(logged("said-aloud"));

    OK(boxlite_exec_close_stdin(exec, &error));
    out.length = 0;
    CHECK(finish(exec, &out, &err) == 1);
    remove_box(runtime, box);
    dispatch_all(runtime);
    CHECK(told.length > 0 && holds(told.data, told.length, "made"));
    CHECK(!holds(told.data, told.length, OF_BOX) && !holds(told.data, told.length, OF_EXEC));
    free(told.data);
    free(out.data);
    close_runtime(runtime);
    return 0;
}
