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

// What a byte that benches/inside.c gets as init asks for: the stream. Any other is returned.
#define ASK_STREAM 's'

// The most samples of one figure.
enum { MAX_SAMPLES = 10000 };

typedef struct {
    double *values;
    size_t count;
} samples;

// What an aim is of: the ratio of the medians, or the median.
typedef enum { NO_AIM, RATIO_AT_MOST, RATIO_AT_LEAST, VALUE_AT_MOST, VALUE_AT_LEAST } aim_kind;

// One line of the report. A figure without baseline has NULL there.
typedef struct {
    const char *name;
    const char *unit;
    const samples *measured;
    const char *baseline_name;
    const samples *baseline;
    aim_kind aim_kind;
    double aim;
} figure;

// How many different numbers of boxes may be started at once.
enum { MOST_CROWDS = 8 };

// What was asked for.
typedef struct {
    const char *image, *programs, *json;
    char initramfs[4096], home[64];
    int runs, starts, crowds;
    int crowd[MOST_CROWDS];
} plan;

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

// What a process has written to, and so has for itself, in MiB, by what it is for.
enum { GUEST_MEMORY, TRANSLATED_CODE, HEAP, STACKS, LIBRARIES, OTHER_MEMORY, MEMORY_KINDS };
typedef struct {
    double written[MEMORY_KINDS];
    double all;
} account;

// A QEMU that this program started itself.
typedef struct {
    pid_t pid;
    int monitor, channel, console;
} machine;

// The descriptor of the device state in a bare QEMU.
enum { STATE_FD = 6 };

// How many arguments more than a box's a bare machine may have.
enum { MORE_ARGUMENTS = 8 };

// What bare machines are restored from: two files, and QEMU's arguments.
typedef struct {
    int memory, state;
    char **arguments;
} template;

// report.c
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
double now_ms(void);
void pause_ms(long ms);
char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));
void add(samples *s, double value);
double quantile(const samples *s, size_t percent);
void add_table(const char *title);
void add_figures(const figure *figures, size_t count);
void report(const circumstances *under);
void write_json(const char *path, const circumstances *under);

// process.c
pid_t child_of(pid_t parent);
memory memory_of(pid_t pid);
account account_of(pid_t pid);
double available_memory(void);
char **arguments_of(pid_t pid);

// bare.c
_Noreturn void give_up(machine *m, const char *why);
int above_them(int descriptor);
void start_bare(machine *m, char *const *arguments, int state);
void ask(machine *m, char question);
size_t read_some(machine *m, void *buffer, size_t room);
char **with_initramfs(char *const *arguments, const char *initramfs);
double boot_bare(machine *m, char *const *arguments);
double raw_throughput(char *const *arguments, const char *initramfs, long long bytes);
void end_bare(machine *m);

// restore.c
template make_template(char *const *arguments, const char *initramfs, const char *directory);
double restore_bare(machine *m, const template *t);

#endif
