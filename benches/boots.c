// Cold boots, beside those of bare QEMU, and the memory of what was booted.
#include "boxes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// How long a machine is left alone before its memory is measured.
enum { SETTLE_MS = 500 };

static struct {
    samples boot, start, before_setup, setup, bare_boot;
    samples first_byte;
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
static double mib_of(const char *list, const char *name)
{
    const char *line = strstr(list, name);
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
    boxlite_box *box = create(runtime, image, true);
    double began = now_ms();
    start(box);
    double whole = now_ms() - began;
    boxlite_box_info *info = inspect(box);
    add_stages(info, whole);
    pause_ms(SETTLE_MS);
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
    pause_ms(SETTLE_MS);
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
    boxlite_box *box = create(runtime, image, true);
    start(box);
    run(box, argv, 2, &out);
    if (out.length == 0)
        fail("echo printed nothing");
    add(&seen.first_byte, out.first_byte - began);
    discard(runtime, box);
}

// Starts a box, notes how QEMU was started for it, and stops it. It stays, for the sake of its
// disk, which a bare machine has too and never mounts.
char **learn_arguments(boxlite_box *box, circumstances *under)
{
    start(box);
    boxlite_box_info *info = inspect(box);
    const char *accelerator = boxlite_box_info_accelerator(info);
    under->accelerator = strdup(accelerator ? accelerator : "unknown");
    char **arguments = arguments_of(child_of((pid_t)boxlite_box_info_pid(info)));
    boxlite_box_info_free(info);
    stop(box);
    return arguments;
}

void measure_boots(boxlite_runtime *runtime, const plan *p, char *const *arguments)
{
    add_table("cold boots, and what a box takes");
    add_figures(FIGURES, sizeof FIGURES / sizeof FIGURES[0]);
    for (int i = 0; i < p->runs; i++) {
        fprintf(stderr, "\rbench: boots %d/%d ", i + 1, p->runs);
        boot_box(runtime, p->image);
        boot_alone(arguments);
        echo_from_nothing(runtime, p->image);
    }
    fputc('\n', stderr);
}
