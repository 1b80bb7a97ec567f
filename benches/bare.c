// The baselines: QEMU alone, started with the very arguments of a box.
//
// Only the program that talks to it differs: no library, no supervisor, no protocol beyond the
// greeting. What it restores is in restore.c.
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

// The descriptors that the arguments name; see src/engine/qemu/command.rs.
enum { MONITOR_FD = 3, CHANNEL_FD = 4, CONSOLE_FD = 5, ABOVE_THEM = 32 };

// Guards against hanging.
enum { PATIENCE_MS = 60000 };

// See protocol/src/handshake.rs.
enum { GREETING = 16 };
static const char MAGIC[] = "boxlite\x1a";

// A descriptor that was just opened, moved out of the way of those that QEMU gets.
int above_them(int descriptor)
{
    int moved = descriptor < 0 ? -1 : fcntl(descriptor, F_DUPFD_CLOEXEC, ABOVE_THEM);
    if (moved < 0)
        fail("a descriptor for QEMU: %s", strerror(errno));
    close(descriptor);
    return moved;
}

// A pair of connected sockets.
static void connect_pair(int *ours, int *theirs)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        fail("socketpair: %s", strerror(errno));
    *ours = ends[0];
    *theirs = above_them(ends[1]);
}

// A file of the disk's: the descriptor that QEMU is to find it under, as an argument says that goes with it.
typedef struct {
    int descriptor, flags;
    const char *path;
} disk_file;

enum { MOST_DISK_FILES = 8 };

// The files that the arguments name as descriptors, up to one without a path. The name of one to write with
// begins with "write:".
static void find_disk(char *const *arguments, disk_file files[MOST_DISK_FILES + 1])
{
    int count = 0;
    for (; *arguments; arguments++) {
        int descriptor, set, end = 0;
        if (sscanf(*arguments, "fd=%d,set=%d,opaque=%n", &descriptor, &set, &end) != 2 || !end)
            continue;
        if (count == MOST_DISK_FILES)
            fail("a disk of more than %d files", MOST_DISK_FILES);
        const char *path = *arguments + end;
        bool writes = !strncmp(path, "write:", 6);
        files[count] = (disk_file){descriptor, writes ? O_RDWR : O_RDONLY, writes ? path + 6 : path};
        count++;
    }
    files[count].path = NULL;
}

// In the child, whose memory is the parent's: only system calls.
static _Noreturn void become(char *const *arguments, const int theirs[3], int state, const disk_file *file,
                             pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null = open("/dev/null", O_RDONLY);
    for (; file->path; file++)
        if (dup2(open(file->path, file->flags | O_CLOEXEC), file->descriptor) < 0)
            _exit(127);
    if (getppid() == parent && null >= 0 && dup2(null, 0) >= 0
        && dup2(theirs[0], MONITOR_FD) >= 0 && dup2(theirs[1], CHANNEL_FD) >= 0
        && dup2(theirs[2], CONSOLE_FD) >= 0 && (state < 0 || dup2(state, STATE_FD) >= 0))
        execv(arguments[0], arguments);
    _exit(127);
}

// Starts QEMU; `state`, unless negative, becomes its STATE_FD, and must be above_them().
void start_bare(machine *m, char *const *arguments, int state)
{
    int theirs[3];
    connect_pair(&m->monitor, &theirs[0]);
    connect_pair(&m->channel, &theirs[1]);
    connect_pair(&m->console, &theirs[2]);
    disk_file files[MOST_DISK_FILES + 1];
    find_disk(arguments, files);
    pid_t parent = getpid();
    // Not fork: a baseline should not pay for copying this program's page tables.
    m->pid = vfork();
    if (m->pid < 0)
        fail("vfork: %s", strerror(errno));
    if (m->pid == 0)
        become(arguments, theirs, state, files, parent);
    for (int i = 0; i < 3; i++)
        close(theirs[i]);
}

void end_bare(machine *m)
{
    kill(m->pid, SIGKILL);
    while (waitpid(m->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    close(m->monitor);
    close(m->channel);
    close(m->console);
}

// What can be read from a socket right now, as text.
static void read_text(int from, char *text, size_t room)
{
    ssize_t length = recv(from, text, room - 1, MSG_DONTWAIT);
    text[length > 0 ? length : 0] = 0;
}

// Tells what the guest's console and QEMU's monitor said, and gives up.
_Noreturn void give_up(machine *m, const char *why)
{
    char console[4096], monitor[4096];
    read_text(m->console, console, sizeof console);
    read_text(m->monitor, monitor, sizeof monitor);
    end_bare(m);
    fail("bare QEMU: %s; its console: %s; its monitor: %s", why, console, monitor);
}

// Reads what there is from the channel, with a limit on waiting.
size_t read_some(machine *m, void *buffer, size_t room)
{
    struct pollfd ready = {.fd = m->channel, .events = POLLIN};
    if (poll(&ready, 1, PATIENCE_MS) <= 0)
        give_up(m, "nothing came over its port");
    ssize_t length = read(m->channel, buffer, room);
    if (length <= 0)
        give_up(m, "its port closed");
    return (size_t)length;
}

// From fork to the agent's greeting, in ms. The machine runs on.
double boot_bare(machine *m, char *const *arguments)
{
    char greeting[GREETING];
    double began = now_ms();
    start_bare(m, arguments, -1);
    for (size_t have = 0; have < sizeof greeting;)
        have += read_some(m, greeting + have, sizeof greeting - have);
    double elapsed = now_ms() - began;
    if (memcmp(greeting, MAGIC, sizeof MAGIC - 1) != 0)
        give_up(m, "what came over its port is no greeting");
    return elapsed;
}

// Sends the guest one byte; see benches/inside.c.
void ask(machine *m, char question)
{
    if (write(m->channel, &question, 1) != 1)
        give_up(m, "its port takes nothing");
}

// The same arguments with another initramfs, and room for some more. The caller frees the vector.
char **with_initramfs(char *const *arguments, const char *initramfs)
{
    size_t count = 0;
    while (arguments[count])
        count++;
    char **copy = calloc(count + MORE_ARGUMENTS + 1, sizeof *copy);
    if (!copy)
        fail("out of memory");
    memcpy(copy, arguments, count * sizeof *copy);
    for (size_t i = 0; i + 1 < count; i++)
        if (strcmp(copy[i], "-initrd") == 0)
            copy[i + 1] = (char *)initramfs;
    return copy;
}

// MB/s that benches/inside.c brings through the port.
double raw_throughput(char *const *arguments, const char *initramfs, long long bytes)
{
    enum { ROOM = 262144 };
    machine m;
    char **changed = with_initramfs(arguments, initramfs);
    char *buffer = malloc(ROOM);
    if (!buffer)
        fail("out of memory");
    start_bare(&m, changed, -1);
    read_some(&m, buffer, 1);
    double began = now_ms();
    ask(&m, ASK_STREAM);
    long long left = bytes;
    while (left > 0)
        left -= (long long)read_some(&m, buffer, left < ROOM ? (size_t)left : ROOM);
    double elapsed = now_ms() - began;
    end_bare(&m);
    free(buffer);
    free(changed);
    return (double)bytes / 1e3 / elapsed;
}
