// The baselines: QEMU alone, started with the very arguments of a box.
//
// Only the program that talks to it differs: no library, no supervisor, no protocol beyond the
// greeting.
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
enum { MONITOR_FD = 3, CHANNEL_FD = 4, CONSOLE_FD = 5, ABOVE_THEM = 10 };

// Guards against hanging.
enum { PATIENCE_MS = 60000 };

// See protocol/src/handshake.rs.
enum { GREETING = 16 };
static const char MAGIC[] = "boxlite\x1a";

// A pair of connected sockets; theirs is out of the way of the descriptors it will be copied to.
static void connect_pair(int *ours, int *theirs)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        fail("socketpair: %s", strerror(errno));
    *ours = ends[0];
    *theirs = fcntl(ends[1], F_DUPFD_CLOEXEC, ABOVE_THEM);
    close(ends[1]);
    if (*theirs < 0)
        fail("F_DUPFD_CLOEXEC: %s", strerror(errno));
}

// In the child of a program with threads: only calls that are safe there.
static _Noreturn void become(char *const *arguments, const int theirs[3], pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null = open("/dev/null", O_RDONLY);
    if (getppid() == parent && null >= 0 && dup2(null, 0) >= 0
        && dup2(theirs[0], MONITOR_FD) >= 0 && dup2(theirs[1], CHANNEL_FD) >= 0
        && dup2(theirs[2], CONSOLE_FD) >= 0)
        execv(arguments[0], arguments);
    _exit(127);
}

static void start_bare(machine *m, char *const *arguments)
{
    int theirs[3];
    connect_pair(&m->monitor, &theirs[0]);
    connect_pair(&m->channel, &theirs[1]);
    connect_pair(&m->console, &theirs[2]);
    pid_t parent = getpid();
    m->pid = fork();
    if (m->pid < 0)
        fail("fork: %s", strerror(errno));
    if (m->pid == 0)
        become(arguments, theirs, parent);
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

// Tells what the guest's console said, and gives up.
static _Noreturn void give_up(machine *m, const char *why)
{
    char text[4096];
    ssize_t length = recv(m->console, text, sizeof text - 1, MSG_DONTWAIT);
    text[length > 0 ? length : 0] = 0;
    end_bare(m);
    fail("bare QEMU: %s; its console: %s", why, text);
}

// Reads what there is from the channel, with a limit on waiting.
static size_t read_some(machine *m, void *buffer, size_t room)
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
    start_bare(m, arguments);
    for (size_t have = 0; have < sizeof greeting;)
        have += read_some(m, greeting + have, sizeof greeting - have);
    double elapsed = now_ms() - began;
    if (memcmp(greeting, MAGIC, sizeof MAGIC - 1) != 0)
        give_up(m, "what came over its port is no greeting");
    return elapsed;
}

// The same arguments with another initramfs. The caller frees the vector.
static char **with_initramfs(char *const *arguments, const char *initramfs)
{
    size_t count = 0;
    while (arguments[count])
        count++;
    char **copy = calloc(count + 1, sizeof *copy);
    if (!copy)
        fail("out of memory");
    memcpy(copy, arguments, count * sizeof *copy);
    for (size_t i = 0; i + 1 < count; i++)
        if (strcmp(copy[i], "-initrd") == 0)
            copy[i + 1] = (char *)initramfs;
    return copy;
}

// MB/s that benches/inside.c brings through the port: a marker byte, then `bytes` of data.
double raw_throughput(char *const *arguments, const char *initramfs, long long bytes)
{
    enum { ROOM = 262144 };
    machine m;
    char **changed = with_initramfs(arguments, initramfs);
    char *buffer = malloc(ROOM);
    if (!buffer)
        fail("out of memory");
    start_bare(&m, changed);
    long long left = bytes + 1 - (long long)read_some(&m, buffer, 1);
    double began = now_ms();
    while (left > 0)
        left -= (long long)read_some(&m, buffer, left < ROOM ? (size_t)left : ROOM);
    double elapsed = now_ms() - began;
    end_bare(&m);
    free(buffer);
    free(changed);
    return (double)bytes / 1e3 / elapsed;
}
