// What the parts of the benchmark share: samples, the report, bare machines, memory.
#ifndef BENCH_H
#define BENCH_H

#define _GNU_SOURCE
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

// What goes through stdout, and through the raw port, each time: 1 GiB, in writes of this size.
#define STREAM_BYTES (1LL << 30)
enum { STREAM_WRITE = 65536 };

// The most samples of one figure.
enum { MAX_SAMPLES = 10000 };

typedef struct {
    double *values;
    size_t count;
} samples;

// What an aim is of.
typedef enum { NO_AIM, RATIO_AT_MOST, RATIO_AT_LEAST, VALUE_AT_MOST } aim_kind;

// One line of the report. A figure without baseline has NULL there.
typedef struct {
    const char *name;
    const char *unit;
    const samples *measured;
    const char *baseline_name;
    const samples *baseline;
    // The aim for the median, or for the ratio of the medians.
    aim_kind aim_kind;
    double aim;
} figure;

// Under what circumstances the figures came about.
typedef struct {
    const char *accelerator;
    long cores;
    double load;
    int runs;
} circumstances;

// Memory of a process, in MiB.
typedef struct {
    double pss;
    double private;
} memory;

// A QEMU that this program started itself.
typedef struct {
    pid_t pid;
    int monitor, channel, console;
} machine;

// report.c
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
double now_ms(void);
void add(samples *s, double value);
void report(const figure *figures, size_t count, const circumstances *under);
void write_json(const char *path, const figure *figures, size_t count, const circumstances *under);

// process.c
pid_t child_of(pid_t parent);
memory memory_of(pid_t pid);
char **arguments_of(pid_t pid);

// bare.c
double boot_bare(machine *m, char *const *arguments);
double raw_throughput(char *const *arguments, const char *initramfs, long long bytes);
void end_bare(machine *m);

#endif
