// The baseline of a restored box: QEMU alone, restored from a template of our own.
//
// The template is a machine with a box's arguments, but benches/inside.c as its init: booted once,
// stopped while that waits for a byte from its port, and saved. Its memory is a file that restored
// machines map privately; its device state is a file of its own. Both have no name.
#include "bench.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// Guards against hanging.
enum { PATIENCE_MS = 60000 };

// How long the guest is left alone before it is saved: what it does after an answer is done then.
enum { SETTLE_MS = 200 };

// --- QEMU's monitor ------------------------------------------------------------------------------

// Reads a line of the monitor; never ahead of its end.
static void read_line(machine *m, char *line, size_t room)
{
    struct pollfd ready = {.fd = m->monitor, .events = POLLIN};
    for (size_t length = 0; length + 1 < room; line[++length] = 0) {
        if (poll(&ready, 1, PATIENCE_MS) <= 0 || read(m->monitor, line + length, 1) != 1)
            give_up(m, "its monitor is silent");
        if (line[length] == '\n')
            return;
    }
}

// Reads the monitor up to a line that contains both texts.
static void await_line(machine *m, const char *one, const char *other)
{
    char line[65536] = "";
    do {
        read_line(m, line, sizeof line);
        if (strstr(line, "\"error\"") || strstr(line, "\"failed\""))
            give_up(m, line);
    } while (!strstr(line, one) || !strstr(line, other));
}

// Sends a command, with a descriptor unless that is negative, and waits for its success.
static void command(machine *m, const char *json, int descriptor)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof descriptor)];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof descriptor),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    struct iovec bytes = {.iov_base = (char *)json, .iov_len = strlen(json)};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
    if (descriptor >= 0) {
        memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
        message.msg_control = &control;
        message.msg_controllen = sizeof control.room;
    }
    if (sendmsg(m->monitor, &message, 0) != (ssize_t)bytes.iov_len)
        give_up(m, "its monitor takes nothing");
    await_line(m, "\"return\"", "");
}

#define NEGOTIATE "{\"execute\": \"qmp_capabilities\"}\n"
#define SET_CAPABILITIES                                                                           \
    "{\"execute\": \"migrate-set-capabilities\", \"arguments\": {\"capabilities\": ["              \
    "{\"capability\": \"x-ignore-shared\", \"state\": true}, "                                     \
    "{\"capability\": \"events\", \"state\": true}]}}\n"
#define RESTORE "{\"execute\": \"migrate-incoming\", \"arguments\": {\"uri\": \"fd:%d\"}}\n"

// Saves the state of the devices to a file; the memory is in its own already. The machine is not
// stopped by a command: it would be restored as one that waits to be continued.
static void save(machine *m, int state)
{
    await_line(m, "\"QMP\"", "");
    command(m, NEGOTIATE, -1);
    command(m, SET_CAPABILITIES, -1);
    // A number would only do for an incoming migration.
    command(m, "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"state\"}}\n", state);
    command(m, "{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"fd:state\"}}\n", -1);
    await_line(m, "\"MIGRATION\"", "\"completed\"");
}

// --- the template --------------------------------------------------------------------------------

// A file without a name in a directory.
static int nameless_file(const char *directory)
{
    return above_them(open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
}

// The value of an option that is in every box's arguments.
static char **value_of(char **arguments, const char *option)
{
    for (; *arguments; arguments++)
        if (strcmp(*arguments, option) == 0 && arguments[1])
            return arguments + 1;
    fail("a box's QEMU has no %s", option);
}

static void append(char **arguments, const char *option, const char *value)
{
    while (*arguments)
        arguments++;
    arguments[0] = (char *)option;
    arguments[1] = (char *)value;
}

// The arguments of a machine whose memory is the template's file.
static char **on_memory_file(const template *t, char *const *arguments, const char *initramfs,
                             bool shared)
{
    char **changed = with_initramfs(arguments, initramfs);
    char **kind = value_of(changed, "-machine");
    *kind = text("%s,memory-backend=ram", *kind);
    append(changed, "-object",
           text("memory-backend-file,id=ram,size=%s,mem-path=/proc/%d/fd/%d,share=%s",
                *value_of(changed, "-m"), (int)getpid(), t->memory, shared ? "on" : "off"));
    return changed;
}

// Boots a machine and saves it. The template is never freed: there is one.
template make_template(char *const *arguments, const char *initramfs, const char *directory)
{
    char marker;
    machine m;
    template t = {.memory = nameless_file(directory), .state = nameless_file(directory)};
    char **first = on_memory_file(&t, arguments, initramfs, true);
    start_bare(&m, first, -1);
    read_some(&m, &marker, 1);
    ask(&m, '?');
    read_some(&m, &marker, 1);
    pause_ms(SETTLE_MS);
    save(&m, t.state);
    end_bare(&m);
    free(first);
    t.arguments = on_memory_file(&t, arguments, initramfs, false);
    append(t.arguments, "-incoming", "defer");
    return t;
}

// From the start of QEMU to the guest's answer, in ms. The machine runs on.
double restore_bare(machine *m, const template *t)
{
    char path[64], answer;
    snprintf(path, sizeof path, "/proc/self/fd/%d", t->state);
    double began = now_ms();
    // Opened anew: each machine reads it from the beginning.
    int state = above_them(open(path, O_RDONLY | O_CLOEXEC));
    start_bare(m, t->arguments, state);
    // All that is to be said, in advance: nobody waits for QEMU's answers. It runs by itself.
    if (dprintf(m->monitor, NEGOTIATE SET_CAPABILITIES RESTORE, STATE_FD) < 0)
        give_up(m, "its monitor takes nothing");
    ask(m, '?');
    read_some(m, &answer, 1);
    double elapsed = now_ms() - began;
    close(state);
    return elapsed;
}
