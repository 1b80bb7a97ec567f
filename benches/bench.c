// Measures the library side by side with what it is made of.
//
//   bench IMAGE PROGRAMS JSON [RUNS]
//
// PROGRAMS holds what runs in the guests: `inside`, `inside.initramfs` and `noop`.
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
    samples exec_noop, spawn_noop, exec_true, spawn_true;
    samples stdout_rate, dd_rate, port_rate, pipe_rate;
    samples qemu_pss, qemu_private, supervisor_pss, supervisor_private, box_private;
    samples guest_used, agent_rss;
    samples bare_pss, bare_private;
} seen;

static const char BARE_BOOT[] = "bare QEMU to greeting";
static const char BARE_PRIVATE[] = "bare QEMU, private";

static const figure FIGURES[] = {
    {"cold boot to agent (stages)", "ms", &seen.boot, BARE_BOOT, &seen.bare_boot, RATIO_AT_MOST,
     1.15},
    {"box_start less setup", "ms", &seen.before_setup, BARE_BOOT, &seen.bare_boot, RATIO_AT_MOST,
     1.15},
    {"  setup stage (mount, identity)", "ms", &seen.setup, NULL, NULL, NO_AIM, 0},
    {"box_start, whole", "ms", &seen.start, BARE_BOOT, &seen.bare_boot, NO_AIM, 0},
    {"create+start+echo to first byte", "ms", &seen.first_byte, BARE_BOOT, &seen.bare_boot, NO_AIM,
     0},
    {"exec round trip, static no-op", "ms", &seen.exec_noop, "fork+exec in the guest",
     &seen.spawn_noop, VALUE_AT_MOST, 4},
    {"exec round trip, busybox true", "ms", &seen.exec_true, "fork+exec in the guest",
     &seen.spawn_true, NO_AIM, 0},
    {"stdout of an exec", "MB/s", &seen.stdout_rate, "raw port", &seen.port_rate, RATIO_AT_LEAST,
     0.6},
    {"stdout of busybox dd", "MB/s", &seen.dd_rate, "dd | cat in the guest", &seen.pipe_rate,
     NO_AIM, 0},
    {"memory of an idle box: QEMU, Pss", "MiB", &seen.qemu_pss, "bare QEMU, Pss", &seen.bare_pss,
     NO_AIM, 0},
    {"  QEMU, private", "MiB", &seen.qemu_private, BARE_PRIVATE, &seen.bare_private, NO_AIM, 0},
    {"  supervisor, Pss", "MiB", &seen.supervisor_pss, NULL, NULL, VALUE_AT_MOST, 6},
    {"  supervisor, private", "MiB", &seen.supervisor_private, NULL, NULL, NO_AIM, 0},
    {"  QEMU + supervisor, private", "MiB", &seen.box_private, BARE_PRIVATE, &seen.bare_private,
     NO_AIM, 0},
    {"  used in the guest, by the guest", "MiB", &seen.guest_used, NULL, NULL, NO_AIM, 0},
    {"  of it the agent, resident", "MiB", &seen.agent_rss, NULL, NULL, NO_AIM, 0},
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
    char text[4096];
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

static boxlite_exec *start_command(boxlite_box *box, const char *const *argv, size_t argc,
                                   bool has_stdin)
{
    boxlite_exec_options *options;
    boxlite_exec *exec;
    boxlite_op *op;
    MUST(boxlite_exec_options_new(argv, argc, &options, &error));
    MUST(boxlite_exec_options_set_stdin(options, has_stdin, &error));
    MUST(boxlite_box_exec(box, options, &op, &error));
    boxlite_exec_options_free(options);
    MUST(boxlite_op_wait(op, PATIENCE_MS, &error));
    MUST(boxlite_op_take_exec(op, &exec, &error));
    boxlite_op_free(op);
    return exec;
}

// Waits for a command's success; frees it.
static void end_command(boxlite_exec *exec, const char *name, output *out)
{
    int32_t code;
    output err = {0};
    MUST(boxlite_exec_on_stdout(exec, on_output, out, NULL, &error));
    MUST(boxlite_exec_on_stderr(exec, on_output, &err, NULL, &error));
    MUST(boxlite_exec_wait(exec, PATIENCE_MS, &code, &error));
    boxlite_exec_free(exec);
    if (code != 0)
        fail("%s ended with code %d: %s", name, (int)code, err.text);
}

static void run(boxlite_box *box, const char *const *argv, size_t argc, output *out)
{
    end_command(start_command(box, argv, argc, false), argv[0], out);
}

static void run_shell(boxlite_box *box, const char *script, output *out)
{
    const char *argv[] = {"/bin/sh", "-c", script};
    run(box, argv, 3, out);
}

// Copies a program from the host into the box's root directory.
static void install(boxlite_box *box, const char *directory, const char *name)
{
    char path[4096], script[128], block[65536];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    snprintf(script, sizeof script, "cat > /%s && chmod 755 /%s", name, name);
    const char *argv[] = {"/bin/sh", "-c", script};
    boxlite_exec *exec = start_command(box, argv, 3, true);
    FILE *file = fopen(path, "r");
    if (!file)
        fail("%s: %s", path, strerror(errno));
    for (size_t length; (length = fread(block, 1, sizeof block, file)) > 0;) {
        for (size_t sent = 0, written; sent < length; sent += written) {
            boxlite_status status =
                boxlite_exec_write(exec, (uint8_t *)block + sent, length - sent, &written, &error);
            if (status != BOXLITE_WOULD_BLOCK) {
                must(status, "boxlite_exec_write");
                continue;
            }
            boxlite_error_free(error);
            error = NULL;
            written = 0;
            nanosleep(&(struct timespec){0, 1000000}, NULL);
        }
    }
    fclose(file);
    MUST(boxlite_exec_close_stdin(exec, &error));
    output out = {0};
    end_command(exec, script, &out);
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

// The number behind a name in the text of a file of /proc, which has KiB there; in MiB.
static double mib_of(const char *text, const char *name)
{
    const char *line = strstr(text, name);
    if (!line)
        fail("the guest's /proc has no %s", name);
    return strtod(line + strlen(name), NULL) / 1024;
}

// What the guest thinks it uses, after all else was measured: asking takes memory too.
static void add_guest_memory(boxlite_box *box)
{
    output out = {0};
    run_shell(box, "cat /proc/meminfo /proc/1/smaps_rollup", &out);
    add(&seen.guest_used, mib_of(out.text, "MemTotal:") - mib_of(out.text, "MemAvailable:"));
    add(&seen.agent_rss, mib_of(out.text, "\nRss:"));
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
    add_guest_memory(box);
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
    output out = {0};
    double began = now_ms();
    boxlite_box *box = create(runtime, image);
    start(box);
    run(box, argv, 2, &out);
    if (out.length == 0)
        fail("echo printed nothing");
    add(&seen.first_byte, out.first_byte - began);
    discard(runtime, box);
}

// --- commands ------------------------------------------------------------------------------------

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

// --- the whole -----------------------------------------------------------------------------------

typedef struct {
    const char *image, *programs, *json;
    char port_initramfs[4096];
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
    install(box, p->programs, "inside");
    install(box, p->programs, "noop");
    for (int i = 0; i < ROUNDS; i++) {
        fprintf(stderr, "\rbench: commands %d/%d ", i + 1, ROUNDS);
        exec_often(box, "/noop", &seen.exec_noop);
        spawn_often(box, "/noop", &seen.spawn_noop);
        exec_often(box, "/bin/true", &seen.exec_true);
        spawn_often(box, "/bin/true", &seen.spawn_true);
        stream_all(box);
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
        fprintf(stderr, "usage: bench IMAGE PROGRAMS JSON [RUNS]\n");
        exit(2);
    }
    long runs = argc == 5 ? strtol(argv[4], NULL, 10) : DEFAULT_RUNS;
    if (runs < 1 || runs > MAX_SAMPLES)
        fail("RUNS must be 1 to %d, not %s", MAX_SAMPLES, argv[4]);
    plan p = {.image = argv[1], .programs = argv[2], .json = argv[3], .runs = (int)runs};
    snprintf(p.port_initramfs, sizeof p.port_initramfs, "%s/inside.initramfs", argv[2]);
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
