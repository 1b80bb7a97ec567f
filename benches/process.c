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
