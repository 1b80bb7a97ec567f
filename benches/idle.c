// What an idle restored box has for itself, by what it is for, beside the bare restored machine.
#include "boxes.h"

#include <stdio.h>

enum {
    MACHINES = 5,
    // How long a machine is left alone before it is measured.
    SETTLE_MS = 1000,
};

static samples ours[MEMORY_KINDS + 1], bare[MEMORY_KINDS + 1], supervisors;

static const char *const NAMES[MEMORY_KINDS + 1] = {
    [GUEST_MEMORY] = "  the guest's memory",
    [TRANSLATED_CODE] = "  translated code",
    [HEAP] = "  heap",
    [STACKS] = "  stacks",
    [LIBRARIES] = "  relocated program and libraries",
    [OTHER_MEMORY] = "  anonymous, other",
    [MEMORY_KINDS] = "QEMU, private and written to",
};

static void add_account(samples *to, account a)
{
    for (int i = 0; i < MEMORY_KINDS; i++)
        add(&to[i], a.written[i]);
    add(&to[MEMORY_KINDS], a.all);
}

static void look_at_box(boxlite_runtime *runtime, const char *image)
{
    boxlite_box *box = create(runtime, image, false);
    start(box);
    pause_ms(SETTLE_MS);
    boxlite_box_info *info = inspect(box);
    pid_t supervisor = (pid_t)boxlite_box_info_pid(info);
    boxlite_box_info_free(info);
    add_account(ours, account_of(child_of(supervisor)));
    add(&supervisors, account_of(supervisor).all);
    discard(runtime, box);
}

static void look_at_bare(const template *t)
{
    machine m;
    restore_bare(&m, t);
    pause_ms(SETTLE_MS);
    add_account(bare, account_of(m.pid));
    end_bare(&m);
}

static void add_row(int i)
{
    add_figures(&(figure){NAMES[i], "MiB", &ours[i], "bare restore", &bare[i], NO_AIM, 0}, 1);
}

void measure_idle(boxlite_runtime *runtime, const plan *p, const template *t)
{
    add_table("memory of an idle restored box");
    add_row(MEMORY_KINDS);
    for (int i = 0; i < MEMORY_KINDS; i++)
        add_row(i);
    add_figures(&(figure){"supervisor, the same", "MiB", &supervisors, NULL, NULL, NO_AIM, 0}, 1);
    for (int i = 0; i < MACHINES; i++) {
        fprintf(stderr, "\rbench: memory %d/%d ", i + 1, MACHINES);
        look_at_box(runtime, p->image);
        look_at_bare(t);
    }
    fputc('\n', stderr);
}
