// The init of the raw port's machine: writes a marker byte and then data, as fast as it can.
#include "bench.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

// 32 KiB is the most that the port's driver takes at once.
enum { CHUNK = 32768 };

static char chunk[CHUNK];

static int open_port(void)
{
    int port;
    // The port appears when the device has announced it; nobody else tells when.
    while ((port = open("/dev/vport0p1", O_RDWR)) < 0)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    return port;
}

static void write_all(int port, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t written = write(port, data, length);
        if (written > 0) {
            data += written;
            length -= (size_t)written;
        }
    }
}

int main(void)
{
    if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) != 0)
        return 1;
    int port = open_port();
    write_all(port, "!", 1);
    for (int sent = 0; sent < STREAM_BYTES; sent += CHUNK)
        write_all(port, chunk, CHUNK);
    for (;;)
        pause();
}
