// What the tests of machine templates share.
#ifndef TEMPLATES_H
#define TEMPLATES_H

#include "check.h"

static inline uint64_t counter(const boxlite_runtime *runtime, int32_t which)
{
    return boxlite_runtime_counter(runtime, which);
}

static inline uint64_t templates_made(const boxlite_runtime *runtime)
{
    return counter(runtime, BOXLITE_COUNTER_TEMPLATES_MADE);
}

static inline uint64_t detours(const boxlite_runtime *runtime)
{
    return counter(runtime, BOXLITE_COUNTER_DETOURS);
}

// A runtime with a limit on its templates' age in seconds and on their space in MiB; 0 for none.
static inline boxlite_runtime *open_limited(uint64_t max_age, uint64_t space)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime;
    OK(boxlite_runtime_options_new(&options, &error));
    OK(boxlite_runtime_options_set_home(options, home, &error));
    if (max_age)
        OK(boxlite_runtime_options_set_template_age_s(options, max_age, &error));
    if (space)
        OK(boxlite_runtime_options_set_templates_mib(options, space, &error));
    OK(boxlite_runtime_open(options, &runtime, &error));
    boxlite_runtime_options_free(options);
    return runtime;
}

// A box of so many CPUs and so much memory; 0 for what it gets unless told.
static inline boxlite_box *shaped_box(boxlite_runtime *runtime, uint32_t cpus, uint32_t memory_mib)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    if (cpus)
        OK(boxlite_box_options_set_cpus(options, cpus, &error));
    if (memory_mib)
        OK(boxlite_box_options_set_memory_mib(options, memory_mib, &error));
    return create_box(runtime, options);
}

static inline void start_box(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_start(box, &op, &error));
    wait_op(op);
}

static inline void stop_box(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_stop(box, 0, &op, &error));
    wait_op(op);
}

static inline int32_t boot_of(boxlite_box *box)
{
    boxlite_box_info *info = inspect(box);
    int32_t boot = boxlite_box_info_boot(info);
    boxlite_box_info_free(info);
    return boot;
}

// Starts a box, and sees that it works.
static inline int32_t boot(boxlite_box *box)
{
    start_box(box);
    PRINTS(box, "echo $((6 * 7))", "42\n");
    return boot_of(box);
}

// How many things in the home's templates have a name that ends like this; "" for templates. The
// name of the last one is left in `name`, unless that is NULL.
static inline int count_templates(const char *ending, char *name)
{
    char path[96];
    int count = 0;
    struct dirent *entry;
    snprintf(path, sizeof path, "%s/templates", home);
    DIR *dir = opendir(path);
    if (!dir)
        return 0;
    while ((entry = readdir(dir))) {
        const char *dot = strchr(entry->d_name, '.');
        if (dot == entry->d_name || strncmp(dot ? dot : "", ending, *ending ? strlen(ending) : 1))
            continue;
        count++;
        if (name)
            strcpy(name, entry->d_name);
    }
    closedir(dir);
    return count;
}

// The path of a thing in the only template.
static inline const char *in_template(const char *file)
{
    static char path[512];
    char name[256];
    CHECK(count_templates("", name) == 1);
    snprintf(path, sizeof path, "%s/templates/%s%s%s", home, name, *file ? "/" : "", file);
    return path;
}

// Runs a command of the host's shell, with $HOME_ as the home and $T as the only template, if any.
static inline void host(const char *script)
{
    char name[256] = "", path[512];
    setenv("HOME_", home, 1);
    count_templates("", name);
    snprintf(path, sizeof path, "%s/templates/%s", home, name);
    setenv("T", path, 1);
    if (system(script) != 0)
        FAIL("the host's shell: %s", script);
}

// How many processes, but for this one, have a file of the home open: those of machines that have no
// disk yet as well.
static inline int count_users(void)
{
    int count = 0;
    struct dirent *process, *file;
    DIR *processes = opendir("/proc");
    CHECK(processes);
    while ((process = readdir(processes))) {
        char path[600], target[600];
        bool uses = false;
        snprintf(path, sizeof path, "/proc/%s/fd", process->d_name);
        DIR *files = atoi(process->d_name) > 0 && atoi(process->d_name) != getpid() ? opendir(path) : NULL;
        while (files && (file = readdir(files))) {
            snprintf(path, sizeof path, "/proc/%.20s/fd/%.20s", process->d_name, file->d_name);
            ssize_t length = readlink(path, target, sizeof target - 1);
            uses |= length > 0 && (target[length] = 0, strstr(target, home) != NULL);
        }
        if (files)
            closedir(files);
        count += uses;
    }
    closedir(processes);
    return count;
}

// All warnings since it was set.
typedef struct {
    char text[16384];
} warnings;

static inline void note_warning(void *user_data, int32_t level, const char *target, const char *message)
{
    warnings *w = user_data;
    (void)target;
    if (level == BOXLITE_LOG_WARN && strlen(w->text) + strlen(message) + 2 < sizeof w->text)
        strcat(strcat(w->text, message), "\n");
}

static inline void listen_to_warnings(boxlite_runtime *runtime, warnings *w)
{
    OK(boxlite_runtime_on_log(runtime, BOXLITE_LOG_WARN, note_warning, w, NULL, &error));
}

#endif
