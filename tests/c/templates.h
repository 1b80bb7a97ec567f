// What the tests of machine templates share.
#ifndef TEMPLATES_H
#define TEMPLATES_H

#include "check.h"
#include <sys/mount.h>

static inline uint64_t counter(const boxlite_runtime *runtime, int32_t which)
{
    return boxlite_runtime_counter(runtime, which);
}

static inline uint64_t templates_made(const boxlite_runtime *runtime)
{
    return counter(runtime, BOXLITE_COUNTER_TEMPLATES_MADE);
}

static inline uint64_t disk_templates_made(const boxlite_runtime *runtime)
{
    return counter(runtime, BOXLITE_COUNTER_DISK_TEMPLATES_MADE);
}

static inline uint64_t detours(const boxlite_runtime *runtime)
{
    return counter(runtime, BOXLITE_COUNTER_DETOURS);
}

// A runtime whose boxes get templates of machines only, none of disks; with a limit on their age in
// seconds and on their space in MiB, 0 for none.
static inline boxlite_runtime *open_limited(uint64_t max_age, uint64_t space)
{
    boxlite_runtime_options *options = in_home();
    boxlite_runtime *runtime;
    OK(boxlite_runtime_options_set_disk_templates(options, false, &error));
    if (max_age)
        OK(boxlite_runtime_options_set_template_age_s(options, max_age, &error));
    if (space)
        OK(boxlite_runtime_options_set_templates_mib(options, space, &error));
    OK(boxlite_runtime_open(options, &runtime, &error));
    boxlite_runtime_options_free(options);
    return runtime;
}

static inline boxlite_runtime *open_without_disks(void)
{
    return open_limited(0, 0);
}

// A box over a disk of so many MiB, with so much memory; 0 for what it gets unless told.
static inline boxlite_box *box_over(boxlite_runtime *runtime, const char *name, uint64_t disk_mib, uint32_t memory_mib)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image(name), &options, &error));
    if (disk_mib)
        OK(boxlite_box_options_set_disk_size_mib(options, disk_mib, &error));
    if (memory_mib)
        OK(boxlite_box_options_set_memory_mib(options, memory_mib, &error));
    return create_box(runtime, options);
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

// How many templates have a disk, or have none; the path of the last one is left in `path`.
static inline int find_templates(bool with_disk, char path[512])
{
    char directory[96];
    int count = 0;
    struct dirent *entry;
    snprintf(directory, sizeof directory, "%s/templates", home);
    DIR *dir = opendir(directory);
    while (dir && (entry = readdir(dir))) {
        char disk[512];
        snprintf(disk, sizeof disk, "%s/%s/disk", directory, entry->d_name);
        if (strchr(entry->d_name, '.') || (access(disk, F_OK) == 0) != with_disk)
            continue;
        count++;
        snprintf(path, 512, "%s/%s", directory, entry->d_name);
    }
    if (dir)
        closedir(dir);
    return count;
}

static inline int count_disk_templates(void)
{
    char path[512];
    return find_templates(true, path);
}

// Runs a command of the host's shell, with $HOME_ as the home, $T as the only template of a machine
// and $D as that of a disk, if any.
static inline void host(const char *script)
{
    char machine[512], disk[512];
    snprintf(machine, sizeof machine, "%s/templates/", home);
    snprintf(disk, sizeof disk, "%s/templates/", home);
    find_templates(false, machine);
    find_templates(true, disk);
    setenv("HOME_", home, 1);
    setenv("T", machine, 1);
    setenv("D", disk, 1);
    if (system(script) != 0)
        FAIL("the host's shell: %s", script);
}

// The same, with $BOX_ as the directory of a box.
static inline void host_with(boxlite_box *box, const char *script)
{
    char path[128];
    snprintf(path, sizeof path, "%s/boxes/%s", home, boxlite_box_id(box));
    setenv("BOX_", path, 1);
    host(script);
}

// Has the host find the tools of file systems.
static inline void find_tools(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s:/usr/sbin:/sbin", getenv("PATH"));
    setenv("PATH", path, 1);
}

// The file system of a box that was stopped is clean. Needs find_tools().
static inline void the_file_system_is_clean(boxlite_box *box)
{
    host_with(box, "qemu-img convert -f qcow2 -O raw $BOX_/disks/disk.qcow2 $HOME_/raw && "
                   "{ out=$(e2fsck -fn $HOME_/raw 2>&1) || { echo \"$out\"; exit 1; }; } && rm $HOME_/raw");
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

// Whether there is a machine that a template is being made of: of a disk, or of none.
static inline bool one_is_made(bool of_disk)
{
    char name[256], path[400];
    struct stat file;
    struct dirent *entry;
    bool found = false;
    snprintf(path, sizeof path, "%s/templates", home);
    DIR *dir = opendir(path);
    while (dir && !found && (entry = readdir(dir))) {
        snprintf(name, sizeof name, "%s", entry->d_name);
        if (!strstr(name, ".new"))
            continue;
        snprintf(path, sizeof path, "%s/templates/%s/disk", home, name);
        bool has_disk = access(path, F_OK) == 0;
        snprintf(path, sizeof path, "%s/templates/%s/ram", home, name);
        // It has written to its memory. What a disk's machine writes to begins as a copy.
        found = has_disk == of_disk && stat(path, &file) == 0 && file.st_blocks > 0;
    }
    if (dir)
        closedir(dir);
    return found;
}

// Waits until somebody makes the first template of a machine, or of a disk when there is one of its
// machine; false if it was made before anybody looked.
static inline bool see_one_made(bool of_disk)
{
    EVENTUALLY(one_is_made(of_disk) || count_templates("", NULL) > of_disk);
    return one_is_made(of_disk);
}

// A home in a file system of its own; which needs root. The file system is in $HOME_.img, if the
// command makes that.
static inline bool mount_home(const char *command)
{
    strcpy(home, "/tmp/boxlite-test-XXXXXX");
    CHECK(mkdtemp(home));
    setenv("HOME_", home, 1);
    return system(command) == 0;
}

static inline void unmount_home(void)
{
    char image[sizeof home + 8];
    if (!*home)
        return;
    umount2(home, MNT_DETACH);
    rmdir(home);
    snprintf(image, sizeof image, "%s.img", home);
    unlink(image);
}

// Leaves so many KiB of the home's file system free.
static inline void leave_kib(long kib)
{
    char command[256];
    snprintf(command, sizeof command,
             "rm -f $HOME_/filler; fallocate -l $(($(df --output=avail -k $HOME_ | tail -1) - %ld))k"
             " $HOME_/filler",
             kib);
    host(command);
}

// Who has just failed to make a template is not followed at once by everybody else: lock files
// remember it for a minute.
static inline void a_minute_later(void)
{
    CHECK(count_templates(".lock", NULL) > 0);
    host("touch -d '2 minutes ago' $HOME_/templates/*.lock");
}

// Frees the runtime, and sees that nothing runs any more; the home stays.
static inline void shut_down(boxlite_runtime *runtime)
{
    boxlite_op *op;
    OK(boxlite_runtime_shutdown(runtime, 0, &op, &error));
    wait_op(op);
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_machines() == 0);
}

#endif
