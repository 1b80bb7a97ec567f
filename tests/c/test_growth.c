// What a program and a supervisor keep of boxes and commands that are over: nothing.
//
//   BOXLITE_GROWTH_BOXES     how many boxes are made and removed; 10 unless set
//   BOXLITE_GROWTH_COMMANDS  how many commands are run; 100 unless set
//
// Each after a warm-up of a tenth of that, in which caches fill.
#include "check.h"

#define GROWTH_KIB 2048

typedef struct {
    int descriptors, threads, zombies;
    long kib;
} usage;

static int entries(const char *path)
{
    int count = 0;
    DIR *dir = opendir(path);
    CHECK(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += *entry->d_name != '.';
    closedir(dir);
    return count;
}

// A number from a file of lines such as "VmRSS:   1234 kB"; -1 if there is no such line.
static long line_of(const char *path, const char *name)
{
    char line[256];
    long number = -1;
    FILE *file = fopen(path, "r");
    CHECK(file);
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name)))
            sscanf(line + strlen(name), ": %ld", &number);
    fclose(file);
    return number;
}

// Children of a process that are dead and not waited for. One that goes meanwhile is none.
static int zombies_of(pid_t parent)
{
    int count = 0;
    DIR *dir = opendir("/proc");
    CHECK(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[300], text[512], state = 0, *rest;
        int ppid = 0;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file)
            continue;
        text[fread(text, 1, sizeof text - 1, file)] = 0;
        fclose(file);
        rest = strrchr(text, ')');
        if (rest && sscanf(rest + 1, " %c %d", &state, &ppid) == 2)
            count += state == 'Z' && ppid == parent;
    }
    closedir(dir);
    return count;
}

static usage of(pid_t pid)
{
    usage u;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    u.descriptors = entries(path);
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    u.threads = (int)line_of(path, "Threads");
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    u.kib = line_of(path, "Private_Dirty") + line_of(path, "Private_Clean");
    u.zombies = zombies_of(pid);
    return u;
}

static void show(const char *who, const char *after, int count, usage u)
{
    printf("%-12s after %6d %-9s: %3d descriptors, %2d threads, %d zombies, %6ld KiB\n", who, count, after,
           u.descriptors, u.threads, u.zombies, u.kib);
    fflush(stdout);
}

// Threads that only wait for work end after ten seconds without any, so there may be fewer.
static bool grew(usage before, usage now)
{
    return now.descriptors > before.descriptors || now.threads > before.threads || now.zombies > 0 ||
           now.kib > before.kib + GROWTH_KIB;
}

static int number(const char *name, int otherwise)
{
    const char *set = getenv(name);
    return set ? atoi(set) : otherwise;
}

static void boxes(boxlite_runtime *runtime, int count)
{
    for (int i = 0; i < count; i++)
        remove_box(runtime, new_box(runtime));
}

static void commands(boxlite_box *box, int count)
{
    for (int i = 0; i < count; i++) {
        int32_t code;
        boxlite_exec *exec = start(box, i % 2 ? "exit 3" : "echo one; echo two >&2");
        if (i % 2) {
            OK(boxlite_exec_wait(exec, 60000, &code, &error));
            CHECK(code == 3);
            boxlite_exec_free(exec);
        } else {
            bytes out = {0}, err = {0};
            CHECK(finish(exec, &out, &err) == 0 && out.length == 4 && err.length == 4);
            free(out.data);
            free(err.data);
        }
    }
}

static pid_t supervisor_of(boxlite_box *box)
{
    boxlite_box_info *info = inspect(box);
    pid_t pid = (pid_t)boxlite_box_info_pid(info);
    boxlite_box_info_free(info);
    CHECK(pid > 0);
    return pid;
}

int main(void)
{
    int many = number("BOXLITE_GROWTH_BOXES", 10), often = number("BOXLITE_GROWTH_COMMANDS", 100);
    boxlite_runtime *runtime = open_runtime();

    boxes(runtime, many / 10 + 1);
    usage before = of(getpid());
    show("the program", "boxes", many / 10 + 1, before);
    boxes(runtime, many);
    usage after = of(getpid());
    show("the program", "boxes", many, after);
    // What was let go of is given back by threads of the library: soon, but not at once.
    EVENTUALLY(!grew(before, of(getpid())));

    boxlite_box *box = new_box(runtime);
    commands(box, often / 10 + 1);
    pid_t supervisor = supervisor_of(box);
    usage program = of(getpid()), its = of(supervisor);
    show("the program", "commands", often / 10 + 1, program);
    show("supervisor", "commands", often / 10 + 1, its);
    commands(box, often);
    show("the program", "commands", often, of(getpid()));
    show("supervisor", "commands", often, of(supervisor));
    EVENTUALLY(!grew(program, of(getpid())));
    EVENTUALLY(!grew(its, of(supervisor)));

    // The check can fail: a descriptor, a zombie and some memory that are kept are seen.
    program = of(getpid());
    int kept = dup(0);
    CHECK(grew(program, of(getpid())));
    close(kept);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    EVENTUALLY(grew(program, of(getpid())));
    CHECK(waitpid(child, NULL, 0) == child);
    char *memory = malloc(4 << 20);
    CHECK(memory);
    // Through a pointer that hides from the compiler that nobody reads it.
    for (volatile char *byte = memory; byte < memory + (4 << 20); byte++)
        *byte = 1;
    CHECK(grew(program, of(getpid())));
    free(memory);

    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
