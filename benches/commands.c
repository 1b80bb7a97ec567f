// Commands and their output, beside what the guest and its port can do.
#include "boxes.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 5, EXECS_PER_ROUND = 60 };

static struct {
    samples exec_noop, spawn_noop, exec_true, spawn_true;
    samples stdout_rate, dd_rate, port_rate, pipe_rate;
} seen;

static const figure FIGURES[] = {
    {"exec round trip, static no-op", "ms", &seen.exec_noop, "fork+exec in the guest",
     &seen.spawn_noop, VALUE_AT_MOST, 4},
    {"exec round trip, busybox true", "ms", &seen.exec_true, "fork+exec in the guest",
     &seen.spawn_true, NO_AIM, 0},
    {"stdout of an exec", "MB/s", &seen.stdout_rate, "raw port", &seen.port_rate, RATIO_AT_LEAST,
     0.6},
    {"stdout of busybox dd", "MB/s", &seen.dd_rate, "dd | cat in the guest", &seen.pipe_rate,
     NO_AIM, 0},
};

static void exec_often(boxlite_box *box, const char *program, samples *times)
{
    for (int i = 0; i < EXECS_PER_ROUND; i++) {
        output out = {0};
        double began = now_ms();
        run(box, &program, 1, &out);
        add(times, now_ms() - began);
    }
}

// The same, done by a program in the guest.
static void spawn_often(boxlite_box *box, const char *program, samples *times)
{
    char count[16];
    snprintf(count, sizeof count, "%d", EXECS_PER_ROUND);
    const char *argv[] = {"/inside", "spawn", program, count};
    output out = {0};
    run(box, argv, 4, &out);
    char *at = out.text;
    for (int i = 0; i < EXECS_PER_ROUND; i++)
        add(times, strtod(at, &at));
}

static void stream(boxlite_box *box, const char *const *argv, size_t argc, samples *rates)
{
    output out = {0};
    double began = now_ms();
    run(box, argv, argc, &out);
    double elapsed = now_ms() - began;
    if (out.length != STREAM_BYTES)
        fail("%zu of %lld bytes of stdout arrived", out.length, STREAM_BYTES);
    add(rates, (double)STREAM_BYTES / 1e3 / elapsed);
}

// Another command into a pipe that stays in the guest: what any stdout costs there.
static void pipe_zeros(boxlite_box *box, const char *size, const char *count)
{
    char script[128];
    output out = {0};
    snprintf(script, sizeof script, "dd if=/dev/zero %s %s 2>/dev/null | cat >/dev/null", size,
             count);
    double began = now_ms();
    run_shell(box, script, &out);
    add(&seen.pipe_rate, (double)STREAM_BYTES / 1e3 / (now_ms() - began));
}

static void stream_all(boxlite_box *box)
{
    char size[32], count[32];
    snprintf(size, sizeof size, "bs=%d", STREAM_WRITE);
    snprintf(count, sizeof count, "count=%lld", STREAM_BYTES / STREAM_WRITE);
    const char *inside[] = {"/inside", "write"};
    const char *dd[] = {"dd", "if=/dev/zero", size, count};
    stream(box, inside, 2, &seen.stdout_rate);
    stream(box, dd, 4, &seen.dd_rate);
    pipe_zeros(box, size, count);
}

void measure_commands(boxlite_runtime *runtime, const plan *p, char *const *arguments)
{
    add_table("commands");
    add_figures(FIGURES, sizeof FIGURES / sizeof FIGURES[0]);
    boxlite_box *box = create(runtime, p->image, false);
    start(box);
    install(box, p->programs, "inside");
    install(box, p->programs, "noop");
    for (int i = 0; i < ROUNDS; i++) {
        fprintf(stderr, "\rbench: commands %d/%d ", i + 1, ROUNDS);
        exec_often(box, "/noop", &seen.exec_noop);
        spawn_often(box, "/noop", &seen.spawn_noop);
        exec_often(box, "/bin/true", &seen.exec_true);
        spawn_often(box, "/bin/true", &seen.spawn_true);
        stream_all(box);
        add(&seen.port_rate, raw_throughput(arguments, p->initramfs, STREAM_BYTES));
    }
    fputc('\n', stderr);
    discard(runtime, box);
}
