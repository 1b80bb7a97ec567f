// Measures the library side by side with what it is made of.
//
//   bench IMAGE PORT_INITRAMFS JSON [RUNS]
//
// Each figure stands beside a baseline from the same run: QEMU alone with a box's own arguments,
// the raw port, fork and exec inside the guest. A missed aim is reported, and is no failure.
//
// The measuring is done in a child; the parent waits for it and all it started, and removes the
// home, however the child ends.
#include "bench.h"

#include <boxlite.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Limits that only guard against hanging.
enum { PATIENCE_MS = 120000, WHOLE_PATIENCE_S = 3600, CLEAN_UP_PATIENCE_S = 60 };

enum {
    DEFAULT_RUNS = 10,
    // How long a machine is left alone before its memory is measured.
    SETTLE_MS = 500,
    ROUNDS = 5,
    EXECS_PER_ROUND = 60,
    LOOPS_PER_ROUND = 300,
    BLOCK = 65536,
    BLOCKS = STREAM_BYTES / BLOCK,
};

static boxlite_error *error;
static volatile pid_t measuring;

// A call that must succeed.
static void must(boxlite_status status, const char *what)
{
    if (status != BOXLITE_OK)
        fail("%s: %s: %s", what, boxlite_status_name(status), boxlite_error_message(error));
}
#define MUST(call) must((call), #call)

static void finish(boxlite_op *op, const char *what)
{
    must(boxlite_op_wait(op, PATIENCE_MS, &error), what);
    boxlite_op_free(op);
}

// --- what is measured ----------------------------------------------------------------------------

static struct {
    samples boot, start, before_setup, setup, bare_boot;
    samples first_byte;
    samples exec, loop;
    samples stdout_rate, port_rate, pipe_rate;
    samples qemu_pss, qemu_private, supervisor_pss, supervisor_private, box_private;
    samples bare_pss, bare_private;
} seen;

static const figure FIGURES[] = {
    {"cold boot to agent (stages)", "ms", &seen.boot, "bare QEMU to greeting", &seen.bare_boot,
     1.15, false},
    {"box_start less setup", "ms", &seen.before_setup, "bare QEMU to greeting", &seen.bare_boot,
     1.15, false},
    {"  setup stage (mount, identity)", "ms", &seen.setup, NULL, NULL, 0, false},
    {"box_start, whole", "ms", &seen.start, "bare QEMU to greeting", &seen.bare_boot, 0, false},
    {"create+start+echo to first byte", "ms", &seen.first_byte, "bare QEMU to greeting",
     &seen.bare_boot, 0, false},
    {"exec round trip of true", "ms", &seen.exec, "fork+exec in the guest", &seen.loop, 0, false},
    {"stdout of an exec", "MB/s", &seen.stdout_rate, "raw port", &seen.port_rate, 0.6, true},
    {"stdout of an exec", "MB/s", &seen.stdout_rate, "dd | cat in the guest", &seen.pipe_rate, 0,
     true},
    {"memory of an idle box: QEMU, Pss", "MiB", &seen.qemu_pss, "bare QEMU, Pss", &seen.bare_pss, 0,
     false},
    {"  QEMU, private", "MiB", &seen.qemu_private, "bare QEMU, private", &seen.bare_private, 0,
     false},
    {"  supervisor, Pss", "MiB", &seen.supervisor_pss, NULL, NULL, 0, false},
    {"  supervisor, private", "MiB", &seen.supervisor_private, NULL, NULL, 0, false},
    {"  QEMU + supervisor, private", "MiB", &seen.box_private, "bare QEMU, private",
     &seen.bare_private, 0, false},
};
enum { FIGURE_COUNT = sizeof FIGURES / sizeof FIGURES[0] };

// --- boxes and commands --------------------------------------------------------------------------

static boxlite_runtime *open_runtime(const char *home)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime;
    MUST(boxlite_runtime_options_new(&options, &error));
    MUST(boxlite_runtime_options_set_home(options, home, &error));
    MUST(boxlite_runtime_open(options, &runtime, &error));
    boxlite_runtime_options_free(options);
    return runtime;
}

static boxlite_box *create(boxlite_runtime *runtime, const char *image)
{
    boxlite_box_options *options;
    boxlite_box *box;
    boxlite_op *op;
    MUST(boxlite_box_options_new(image, &options, &error));
    MUST(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    MUST(boxlite_op_wait(op, PATIENCE_MS, &error));
    MUST(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    return box;
}

static void start(boxlite_box *box)
{
    boxlite_op *op;
    MUST(boxlite_box_start(box, &op, &error));
    finish(op, "start");
}

static boxlite_box_info *inspect(boxlite_box *box)
{
    boxlite_box_info *info;
    boxlite_op *op;
    MUST(boxlite_box_inspect(box, &op, &error));
    MUST(boxlite_op_wait(op, PATIENCE_MS, &error));
    MUST(boxlite_op_take_info(op, &info, &error));
    boxlite_op_free(op);
    return info;
}

static void discard(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_op *op;
    MUST(boxlite_box_remove(runtime, boxlite_box_id(box), true, &op, &error));
    finish(op, "remove");
    boxlite_box_free(box);
}

// What came out of a command.
typedef struct {
    double first_byte;
    size_t length;
    char text[256];
} output;

static void on_output(void *user_data, const uint8_t *data, size_t length)
{
    output *o = user_data;
    if (o->length == 0)
        o->first_byte = now_ms();
    if (o->length < sizeof o->text - 1) {
        size_t room = sizeof o->text - 1 - o->length;
        memcpy(o->text + o->length, data, length < room ? length : room);
    }
    o->length += length;
}

// Runs a command to its end.
static void run(boxlite_box *box, const char *const *argv, size_t argc, output *out, output *err)
{
    boxlite_exec_options *options;
    boxlite_exec *exec;
    boxlite_op *op;
    int32_t code;
    MUST(boxlite_exec_options_new(argv, argc, &options, &error));
    MUST(boxlite_box_exec(box, options, &op, &error));
    boxlite_exec_options_free(options);
    MUST(boxlite_op_wait(op, PATIENCE_MS, &error));
    MUST(boxlite_op_take_exec(op, &exec, &error));
    boxlite_op_free(op);
    MUST(boxlite_exec_on_stdout(exec, on_output, out, NULL, &error));
    MUST(boxlite_exec_on_stderr(exec, on_output, err, NULL, &error));
    MUST(boxlite_exec_wait(exec, PATIENCE_MS, &code, &error));
    boxlite_exec_free(exec);
    if (code != 0)
        fail("%s ended with code %d: %s", argv[0], (int)code, err->text);
}

// --- boots and memory ----------------------------------------------------------------------------

static void settle(void)
{
    nanosleep(&(struct timespec){0, SETTLE_MS * 1000000L}, NULL);
}

static void add_stages(const boxlite_box_info *info, double whole)
{
    double boot = 0, setup = 0;
    for (size_t i = 0; i < boxlite_box_info_stage_count(info); i++) {
        double ms = (double)boxlite_box_info_stage_microseconds(info, i) / 1e3;
        if (strcmp(boxlite_box_info_stage_name(info, i), "setup") == 0)
            setup += ms;
        else
            boot += ms;
    }
    add(&seen.boot, boot);
    add(&seen.setup, setup);
    add(&seen.start, whole);
    add(&seen.before_setup, whole - setup);
}

static void boot_box(boxlite_runtime *runtime, const char *image)
{
    boxlite_box *box = create(runtime, image);
    double began = now_ms();
    start(box);
    double whole = now_ms() - began;
    boxlite_box_info *info = inspect(box);
    add_stages(info, whole);
    settle();
    pid_t supervisor = (pid_t)boxlite_box_info_pid(info);
    memory s = memory_of(supervisor), q = memory_of(child_of(supervisor));
    add(&seen.supervisor_pss, s.pss);
    add(&seen.supervisor_private, s.private);
    add(&seen.qemu_pss, q.pss);
    add(&seen.qemu_private, q.private);
    add(&seen.box_private, q.private + s.private);
    boxlite_box_info_free(info);
    discard(runtime, box);
}

static void boot_alone(char *const *arguments)
{
    machine m;
    add(&seen.bare_boot, boot_bare(&m, arguments));
    settle();
    memory q = memory_of(m.pid);
    add(&seen.bare_pss, q.pss);
    add(&seen.bare_private, q.private);
    end_bare(&m);
}

static void echo_from_nothing(boxlite_runtime *runtime, const char *image)
{
    const char *argv[] = {"echo", "hello"};
    output out = {0}, err = {0};
    double began = now_ms();
    boxlite_box *box = create(runtime, image);
    start(box);
    run(box, argv, 2, &out, &err);
    if (out.length == 0)
        fail("echo printed nothing");
    add(&seen.first_byte, out.first_byte - began);
    discard(runtime, box);
}

// --- commands ------------------------------------------------------------------------------------

static void exec_true(boxlite_box *box)
{
    const char *argv[] = {"/bin/true"};
    for (int i = 0; i < EXECS_PER_ROUND; i++) {
        output out = {0}, err = {0};
        double began = now_ms();
        run(box, argv, 1, &out, &err);
        add(&seen.exec, now_ms() - began);
    }
}

// How many seconds a script takes in the guest, by the guest's own clock, which shows hundredths.
static double seconds_inside(boxlite_box *box, const char *script)
{
    const char *argv[] = {"/bin/busybox", "time", "-f", "%e", "/bin/sh", "-c", script};
    output out = {0}, err = {0};
    run(box, argv, 7, &out, &err);
    double seconds = strtod(err.text, NULL);
    if (seconds <= 0)
        fail("the guest's time printed '%s'", err.text);
    return seconds;
}

// The same as exec_true(), done by a shell in the guest.
static void loop_true(boxlite_box *box)
{
    char script[128];
    snprintf(script, sizeof script, "i=0; while [ $i -lt %d ]; do /bin/true; i=$((i+1)); done",
             LOOPS_PER_ROUND);
    add(&seen.loop, seconds_inside(box, script) * 1e3 / LOOPS_PER_ROUND);
}

static void stream_zeros(boxlite_box *box)
{
    char size[32], count[32];
    snprintf(size, sizeof size, "bs=%d", BLOCK);
    snprintf(count, sizeof count, "count=%d", BLOCKS);
    const char *argv[] = {"dd", "if=/dev/zero", size, count};
    output out = {0}, err = {0};
    double began = now_ms();
    run(box, argv, 4, &out, &err);
    double elapsed = now_ms() - began;
    if (out.length != STREAM_BYTES)
        fail("%zu of %d bytes of stdout arrived", out.length, STREAM_BYTES);
    add(&seen.stdout_rate, STREAM_BYTES / 1e3 / elapsed);
}

// The same command into a pipe that stays in the guest: what any stdout costs there.
static void pipe_zeros(boxlite_box *box)
{
    char script[128];
    snprintf(script, sizeof script,
             "dd if=/dev/zero bs=%d count=%d 2>/dev/null | cat >/dev/null", BLOCK, BLOCKS);
    add(&seen.pipe_rate, STREAM_BYTES / 1e6 / seconds_inside(box, script));
}

// --- the whole -----------------------------------------------------------------------------------

typedef struct {
    const char *image, *port_initramfs, *json;
    int runs;
    char home[64];
} plan;

// Starts a box, notes how QEMU was started for it, and stops it. It stays, for the sake of its
// disk, which a bare machine has too and never mounts.
static char **learn_arguments(boxlite_box *box, circumstances *under)
{
    boxlite_op *op;
    start(box);
    boxlite_box_info *info = inspect(box);
    const char *accelerator = boxlite_box_info_accelerator(info);
    under->accelerator = strdup(accelerator ? accelerator : "unknown");
    char **arguments = arguments_of(child_of((pid_t)boxlite_box_info_pid(info)));
    boxlite_box_info_free(info);
    MUST(boxlite_box_stop(box, 5000, &op, &error));
    finish(op, "stop");
    return arguments;
}

static void measure_boots(boxlite_runtime *runtime, const plan *p, char *const *arguments)
{
    for (int i = 0; i < p->runs; i++) {
        fprintf(stderr, "\rbench: boots %d/%d ", i + 1, p->runs);
        boot_box(runtime, p->image);
        boot_alone(arguments);
        echo_from_nothing(runtime, p->image);
    }
}

static void measure_commands(boxlite_runtime *runtime, const plan *p, char *const *arguments)
{
    boxlite_box *box = create(runtime, p->image);
    start(box);
    for (int i = 0; i < ROUNDS; i++) {
        fprintf(stderr, "\rbench: commands %d/%d ", i + 1, ROUNDS);
        exec_true(box);
        loop_true(box);
        stream_zeros(box);
        pipe_zeros(box);
        add(&seen.port_rate, raw_throughput(arguments, p->port_initramfs, STREAM_BYTES));
    }
    fputc('\n', stderr);
    discard(runtime, box);
}

static void measure(const plan *p)
{
    circumstances under = {.cores = sysconf(_SC_NPROCESSORS_ONLN), .runs = p->runs};
    if (getloadavg(&under.load, 1) != 1)
        under.load = -1;
    boxlite_runtime *runtime = open_runtime(p->home);
    boxlite_box *model = create(runtime, p->image);
    char **arguments = learn_arguments(model, &under);

    measure_boots(runtime, p, arguments);
    measure_commands(runtime, p, arguments);

    discard(runtime, model);
    boxlite_runtime_free(runtime);
    report(FIGURES, FIGURE_COUNT, &under);
    write_json(p->json, FIGURES, FIGURE_COUNT, &under);
}

static void pass_on(int signal)
{
    (void)signal;
    kill(measuring, SIGKILL);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

// Waits for the measuring process and, being their new parent, for all it has left behind.
static int await_all(void)
{
    int status, result = 1;
    pid_t ended;
    while ((ended = wait(&status)) > 0 || errno == EINTR) {
        if (ended == measuring) {
            result = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
            alarm(CLEAN_UP_PATIENCE_S);
        }
    }
    alarm(0);
    return result;
}

static plan read_plan(int argc, char **argv)
{
    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: bench IMAGE PORT_INITRAMFS JSON [RUNS]\n");
        exit(2);
    }
    long runs = argc == 5 ? strtol(argv[4], NULL, 10) : DEFAULT_RUNS;
    if (runs < 1 || runs > MAX_SAMPLES)
        fail("RUNS must be 1 to %d, not %s", MAX_SAMPLES, argv[4]);
    plan p = {.image = argv[1], .port_initramfs = argv[2], .json = argv[3], .runs = (int)runs};
    strcpy(p.home, "/tmp/boxlite-bench-XXXXXX");
    if (!mkdtemp(p.home))
        fail("mkdtemp: %s", strerror(errno));
    return p;
}

int main(int argc, char **argv)
{
    plan p = read_plan(argc, argv);
    setenv("BOXLITE_ACCELERATOR", "tcg", 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t parent = getpid();
    measuring = fork();
    if (measuring < 0)
        fail("fork: %s", strerror(errno));
    if (measuring == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            return 1;
        alarm(WHOLE_PATIENCE_S);
        measure(&p);
        return 0;
    }
    for (const int *s = (const int[]){SIGINT, SIGTERM, SIGHUP, 0}; *s; s++)
        signal(*s, pass_on);
    int result = await_all();
    if (nftw(p.home, remove_entry, 32, FTW_DEPTH | FTW_PHYS) != 0)
        fail("%s could not be removed: %s", p.home, strerror(errno));
    return result;
}
