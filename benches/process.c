// What /proc tells about a process: its child, its memory, its command line.
#include "bench.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *open_proc(pid_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return fopen(path, "r");
}

static pid_t parent_of(pid_t pid)
{
    char line[512];
    int parent = 0;
    FILE *file = open_proc(pid, "stat");
    if (!file)
        return 0;
    size_t length = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[length] = 0;
    // The name, in parentheses, may contain anything; state and parent come after it.
    const char *rest = strrchr(line, ')');
    return rest && sscanf(rest, ") %*c %d", &parent) == 1 ? parent : 0;
}

// The first child of a process.
pid_t child_of(pid_t parent)
{
    pid_t found = 0;
    struct dirent *entry;
    DIR *dir = opendir("/proc");
    if (!dir)
        fail("/proc cannot be read");
    while (!found && (entry = readdir(dir))) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && parent_of(pid) == parent)
            found = pid;
    }
    closedir(dir);
    if (!found)
        fail("process %d has no child", (int)parent);
    return found;
}

memory memory_of(pid_t pid)
{
    char line[256];
    double kib;
    memory sum = {0};
    FILE *file = open_proc(pid, "smaps_rollup");
    if (!file)
        fail("the memory of process %d cannot be read", (int)pid);
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "Pss: %lf", &kib) == 1)
            sum.pss += kib / 1024;
        else if (sscanf(line, "Private_Clean: %lf", &kib) == 1
                 || sscanf(line, "Private_Dirty: %lf", &kib) == 1)
            sum.private += kib / 1024;
    }
    fclose(file);
    return sum;
}

// --- by kind -------------------------------------------------------------------------------------

enum {
    // A mapping of a file that is this large is the guest's memory: no library is.
    GUEST_MEMORY_KIB = 128 << 10,
    // What a thread's stack is by default, with the page that guards it or without.
    STACK_KIB = 8 << 10,
};

// One mapping's line in smaps.
typedef struct {
    unsigned long kib;
    char allowed[8];
    const char *path;
} mapping;

static bool read_mapping(const char *line, mapping *m)
{
    unsigned long from, to;
    int at = 0;
    if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %n", &from, &to, m->allowed, &at) != 3 || at == 0)
        return false;
    m->kib = (to - from) / 1024;
    m->path = line + at;
    return true;
}

static int kind_of(const mapping *m)
{
    bool anonymous = m->path[0] == 0 || m->path[0] == '\n';
    if (strncmp(m->path, "[heap]", 6) == 0)
        return HEAP;
    if (strncmp(m->path, "[stack]", 7) == 0 || (anonymous && m->kib == STACK_KIB))
        return STACKS;
    // Nothing else may be both written and executed.
    if (strncmp(m->allowed, "rwx", 3) == 0)
        return TRANSLATED_CODE;
    if (m->path[0] == '/')
        return m->kib >= GUEST_MEMORY_KIB ? GUEST_MEMORY : LIBRARIES;
    return OTHER_MEMORY;
}

// Not what the kernel calls dirty: to it, so are pages of a file that nobody has written back yet,
// whoever wrote them.
account account_of(pid_t pid)
{
    char line[4096];
    double kib;
    int kind = OTHER_MEMORY;
    mapping m;
    account sum = {0};
    FILE *file = open_proc(pid, "smaps");
    if (!file)
        fail("the memory of process %d cannot be read", (int)pid);
    while (fgets(line, sizeof line, file)) {
        if (read_mapping(line, &m))
            kind = kind_of(&m);
        else if (sscanf(line, "Anonymous: %lf", &kib) == 1) {
            sum.written[kind] += kib / 1024;
            sum.all += kib / 1024;
        }
    }
    fclose(file);
    return sum;
}

// What the host could still give to programs, in MiB.
double available_memory(void)
{
    char line[256];
    double kib = -1;
    FILE *file = fopen("/proc/meminfo", "r");
    if (!file)
        fail("/proc/meminfo cannot be read");
    while (kib < 0 && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %lf", &kib) != 1)
            kib = -1;
    fclose(file);
    return kib / 1024;
}

// --- how it was started --------------------------------------------------------------------------

// The argument vector of a process. Never freed: there is one.
char **arguments_of(pid_t pid)
{
    enum { ROOM = 65536, MOST = 256 };
    char *text = calloc(1, ROOM);
    char **arguments = calloc(MOST, sizeof *arguments);
    FILE *file = open_proc(pid, "cmdline");
    if (!text || !arguments || !file)
        fail("the command line of process %d cannot be read", (int)pid);
    size_t length = fread(text, 1, ROOM - 1, file);
    fclose(file);
    size_t count = 0;
    for (char *at = text; at < text + length && count + 1 < MOST; at += strlen(at) + 1)
        arguments[count++] = at;
    return arguments;
}
