// What runs inside the guests.
//
// As init, the raw port's machine: writes a marker byte, then answers each byte that it reads: with
// the same byte, or with data, as fast as it can.
// As a command of a box: writes as much to stdout, starts another program many times, or tells the
// time.
#include "bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char block[STREAM_WRITE];

static int open_port(void)
{
    int port;
    // The port appears when the device has announced it; nobody else tells when.
    while ((port = open("/dev/vport0p1", O_RDWR)) < 0)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    return port;
}

static void write_all(int to, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t written = write(to, data, length);
        if (written <= 0)
            exit(1);
        data += written;
        length -= (size_t)written;
    }
}

static void write_stream(int to)
{
    for (long long sent = 0; sent < STREAM_BYTES; sent += STREAM_WRITE)
        write_all(to, block, STREAM_WRITE);
}

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

// Whether a program was started and ended well.
static bool run(char *program)
{
    char *arguments[] = {program, NULL}, *environment[] = {NULL};
    int status;
    pid_t child = vfork();
    if (child == 0) {
        execve(program, arguments, environment);
        _exit(127);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

// Prints how long each of `count` runs of a program took, in ms.
static int spawn(char *program, int count)
{
    for (int i = 0; i < count; i++) {
        double began = now_us();
        if (!run(program))
            return 1;
        printf("%.3f\n", (now_us() - began) / 1e3);
    }
    return 0;
}

// As init: never returns, for that would be the machine's end.
static void serve(void)
{
    char question;
    if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) != 0)
        exit(1);
    int port = open_port();
    write_all(port, "!", 1);
    for (;;) {
        if (read(port, &question, 1) != 1)
            exit(1);
        if (question == ASK_STREAM)
            write_stream(port);
        else
            write_all(port, &question, 1);
    }
}

// For each line of stdin, the time of day in seconds.
static int tell_time(void)
{
    char line[64];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        printf("%lld.%09ld\n", (long long)now.tv_sec, now.tv_nsec);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (getpid() == 1)
        serve();
    if (argc == 2 && strcmp(argv[1], "clock") == 0)
        return tell_time();
    if (argc == 2 && strcmp(argv[1], "write") == 0) {
        write_stream(1);
        return 0;
    }
    if (argc == 4 && strcmp(argv[1], "spawn") == 0)
        return spawn(argv[2], atoi(argv[3]));
    fprintf(stderr, "usage: inside write | clock | spawn PROGRAM COUNT\n");
    return 2;
}
