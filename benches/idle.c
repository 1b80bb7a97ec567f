// What an idle restored box has for itself, by what it is for, beside the bare restored machine:
// before its first command, and after.
#include "boxes.h"

#include <stdio.h>

enum {
    MACHINES = 5,
    // How long a machine is left alone before it is measured.
    SETTLE_MS = 1000,
};

// Of each kind, and of all together.
typedef samples accounts[MEMORY_KINDS + 1];

static accounts fresh, used, bare;
static samples supervisors;

static const char *const NAMES[MEMORY_KINDS + 1] = {
    [GUEST_MEMORY] = "  the guest's memory",
    [TRANSLATED_CODE] = "  translated code",
    [HEAP] = "  heap",
    [STACKS] = "  stacks",
    [LIBRARIES] = "  relocated program and libraries",
    [OTHER_MEMORY] = "  anonymous, other",
    [MEMORY_KINDS] = "QEMU, private and written to",
};

static void add_account(accounts to, account a)
{
    for (int i = 0; i < MEMORY_KINDS; i++)
        add(&to[i], a.written[i]);
    add(&to[MEMORY_KINDS], a.all);
}

static void look_at_box(boxlite_runtime *runtime, const char *image)
{
    const char *argv[] = {"echo", "hello"};
    output out = {0};
    boxlite_box *box = create(runtime, image, false);
    start(box);
    pause_ms(SETTLE_MS);
    boxlite_box_info *info = inspect(box);
    pid_t supervisor = (pid_t)boxlite_box_info_pid(info), qemu = child_of(supervisor);
    boxlite_box_info_free(info);
    add_account(fresh, account_of(qemu));
    add(&supervisors, account_of(supervisor).all);
    run(box, argv, 2, &out);
    pause_ms(SETTLE_MS);
    add_account(used, account_of(qemu));
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

static void add_row(const accounts ours, int i)
{
    add_figures(&(figure){NAMES[i], "MiB", &ours[i], "bare restore", &bare[i], NO_AIM, 0}, 1);
}

static void add_account_table(const char *title, const accounts ours)
{
    add_table(title);
    add_row(ours, MEMORY_KINDS);
    for (int i = 0; i < MEMORY_KINDS; i++)
        add_row(ours, i);
}

void measure_idle(boxlite_runtime *runtime, const plan *p, const template *t)
{
    add_account_table("memory of a fresh restored box", fresh);
    add_figures(&(figure){"supervisor, the same", "MiB", &supervisors, NULL, NULL, NO_AIM, 0}, 1);
    add_account_table("the same, after an echo", used);
    for (int i = 0; i < MACHINES; i++) {
        fprintf(stderr, "\rbench: memory %d/%d ", i + 1, MACHINES);
        look_at_box(runtime, p->image);
        look_at_bare(t);
    }
    fputc('\n', stderr);
}
