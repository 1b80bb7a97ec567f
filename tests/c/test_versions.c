// A program with a later version of the library finds a box that this one left: it can stop it, and
// is told that it can do nothing else. It speaks the protocol itself, byte by byte.
#include "check.h"
#include <sys/socket.h>
#include <sys/un.h>

enum { VERSION = 1 };

static int connect_to(boxlite_box *box)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/boxes/%s/sockets/supervisor.sock", home,
                          boxlite_box_id(box));
    CHECK(length > 0 && (size_t)length < sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = 60}; // only guards against hanging
    CHECK(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static void say(int fd, const char *message, uint8_t length)
{
    uint8_t frame[4 + 255] = {0, 0, 0, length};
    memcpy(frame + 4, message, length);
    CHECK(write(fd, frame, 4u + length) == 4 + length);
}

// The next message; its first byte tells which it is. 0 at the end.
static size_t hear(int fd, char *message, size_t capacity)
{
    uint8_t head[4];
    ssize_t n = recv(fd, head, 4, MSG_WAITALL);
    if (n == 0)
        return 0;
    CHECK(n == 4 && !head[0] && !head[1]);
    size_t length = (size_t)head[2] << 8 | head[3];
    CHECK(length < capacity && recv(fd, message, length, MSG_WAITALL) == (ssize_t)length);
    message[length] = 0;
    return length;
}

enum { RUNNING = 2 << 3 | 2, RESPONSE = 3 << 3 | 2, ENDED = 7 << 3 | 2 };

static boxlite_box *running_box(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_detach(options, true, &error));
    boxlite_box *box = create_box(runtime, options);
    OK(boxlite_box_start(box, &op, &error));
    wait_op(op);
    return box;
}

static void a_later_version_may_stop_the_box_and_nothing_else(boxlite_runtime *runtime)
{
    char message[4096];
    size_t length;
    boxlite_box *box = running_box(runtime);
    int fd = connect_to(box);
    // Attach { version }.
    say(fd, (char[]){1 << 3 | 2, 2, 1 << 3, VERSION + 1}, 4);
    CHECK(hear(fd, message, sizeof message) && message[0] == RUNNING);
    CHECK(message[2] == 1 << 3 && message[3] == VERSION);
    // Request { id 5, Pause }, and one that no version knows.
    say(fd, (char[]){3 << 3 | 2, 4, 1 << 3, 5, 10 << 3 | 2, 0}, 6);
    length = hear(fd, message, sizeof message);
    CHECK(length && message[0] == RESPONSE && memmem(message, length, "protocol version 1", 18));
    say(fd, (char[]){3 << 3 | 2, 5, 1 << 3, 6, (char)(900 << 3 | 2 | 0x80), 900 >> 4, 0}, 7);
    length = hear(fd, message, sizeof message);
    CHECK(length && message[0] == RESPONSE && memmem(message, length, "protocol version 1", 18));
    PRINTS(box, "echo unharmed", "unharmed\n");
    // Request { id 7, Shutdown { grace_ms 100 } }.
    say(fd, (char[]){3 << 3 | 2, 6, 1 << 3, 7, 7 << 3 | 2, 2, 1 << 3, 100}, 8);
    char last = 0;
    while ((length = hear(fd, message, sizeof message)))
        last = message[0];
    CHECK(last == ENDED);
    close(fd);
    EVENTUALLY(status_of(box) == BOXLITE_BOX_STOPPED && count_machines() == 0);
    remove_box(runtime, box);
}

// The same without a word on the version is the same version: the requests above are right.
static void the_same_version_is_served(boxlite_runtime *runtime)
{
    char message[4096];
    size_t length;
    boxlite_box *box = running_box(runtime);
    int fd = connect_to(box);
    say(fd, (char[]){1 << 3 | 2, 2, 1 << 3, VERSION}, 4);
    CHECK(hear(fd, message, sizeof message) && message[0] == RUNNING);
    say(fd, (char[]){3 << 3 | 2, 4, 1 << 3, 5, 10 << 3 | 2, 0}, 6);
    do
        length = hear(fd, message, sizeof message);
    while (length && message[0] != RESPONSE);
    CHECK(length == 4 && message[2] == 1 << 3 && message[3] == 5);
    EVENTUALLY(status_of(box) == BOXLITE_BOX_PAUSED);
    close(fd);
    remove_box(runtime, box);
}

// A test that fails must not leave a machine that outlives it.
static void leave_nothing(void)
{
    if (*home)
        signal_machines(SIGKILL);
}

int main(void)
{
    atexit(leave_nothing);
    boxlite_runtime *runtime = open_runtime();
    a_later_version_may_stop_the_box_and_nothing_else(runtime);
    the_same_version_is_served(runtime);
    close_runtime(runtime);
    return 0;
}
