// Measures the library side by side with what it is made of.
//
//   bench IMAGE PROGRAMS JSON RUNS STARTS [MANY...]
//
// PROGRAMS holds what runs in the guests: `inside`, `inside.initramfs` and `noop`. RUNS is how many
// cold boots of each kind are looked at in detail, STARTS how many starts are compared, MANY how
// many boxes are started at the same time.
//
// Each figure stands beside a baseline from the same run: QEMU alone with a box's own arguments,
// booted or restored, the raw port, fork and exec inside the guest. A missed aim is reported, and
// is no failure.
//
// - boots.c, commands.c, starts.c, many.c, idle.c, clock.c, ends.c, snapshots.c: what is measured
// - bare.c, restore.c: QEMU alone; inside.c, noop.c: what runs in guests
// - boxes.c, process.c, report.c: the library's calls, /proc, and what comes of it all
//
// The measuring is done in a child; the parent waits for it and all it started, and removes the
// home, however the child ends.
#include "boxes.h"

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

// Limits that only guard against hanging.
enum { WHOLE_PATIENCE_S = 3600, CLEAN_UP_PATIENCE_S = 60 };

static volatile pid_t measuring;

static void measure(const plan *p)
{
    circumstances under = {.cores = sysconf(_SC_NPROCESSORS_ONLN), .runs = p->runs};
    if (getloadavg(&under.load, 1) != 1)
        under.load = -1;
    boxlite_runtime *runtime = open_runtime(p->home, 0, NULL);
    boxlite_box *model = create(runtime, p->image, true);
    char **arguments = learn_arguments(model, &under);
    template bare = make_template(arguments, p->initramfs, p->home);

    measure_starts(runtime, p, arguments, &bare);
    measure_many(runtime, p);
    measure_idle(runtime, p, &bare);
    measure_clocks(runtime, p);
    measure_ends(runtime, p);
    measure_boots(runtime, p, arguments);
    measure_commands(runtime, p, arguments);
    measure_snapshots(runtime, p);
    measure_archives(runtime, p);

    discard(runtime, model);
    boxlite_runtime_free(runtime);
    report(&under);
    write_json(p->json, &under);
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

static int read_number(const char *name, const char *number)
{
    long value = strtol(number, NULL, 10);
    if (value < 1 || value > MAX_SAMPLES)
        fail("%s must be 1 to %d, not %s", name, MAX_SAMPLES, number);
    return (int)value;
}

static plan read_plan(int argc, char **argv)
{
    if (argc < 6 || argc > 6 + MOST_CROWDS) {
        fprintf(stderr, "usage: bench IMAGE PROGRAMS JSON RUNS STARTS [MANY...]\n");
        exit(2);
    }
    plan p = {.image = argv[1], .programs = argv[2], .json = argv[3]};
    p.runs = read_number("RUNS", argv[4]);
    p.starts = read_number("STARTS", argv[5]);
    for (int i = 6; i < argc; i++)
        p.crowd[p.crowds++] = read_number("MANY", argv[i]);
    snprintf(p.initramfs, sizeof p.initramfs, "%s/inside.initramfs", argv[2]);
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
