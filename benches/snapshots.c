// What a snapshot takes, beside what QEMU's own program takes for the same by hand, and whether it matters
// how much the disk holds.
#include "boxes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 10, SMALL_GIB = 1, LARGE_GIB = 20, DISK_GIB = 24, CLONES = 100, CLONE_ROUNDS = 3 };

static struct {
    samples small, large, small_restore, large_restore, by_hand, restore_by_hand;
    samples running, stopped, pause, no_pause;
    samples small_clone, large_clone, small_clones, large_clones, clones_by_hand;
} taken;

static const figure FIGURES[] = {
    {"create, 1 GiB on the disk", "ms", &taken.small, "by hand", &taken.by_hand, NO_AIM, 0},
    {"create, 20 GiB", "ms", &taken.large, "with 1 GiB", &taken.small, RATIO_AT_MOST, 2},
    {"restore, 1 GiB", "ms", &taken.small_restore, "by hand", &taken.restore_by_hand, NO_AIM, 0},
    {"restore, 20 GiB", "ms", &taken.large_restore, "with 1 GiB", &taken.small_restore, RATIO_AT_MOST, 2},
    {"clone, 1 GiB on the disk", "ms", &taken.small_clone, "create", &taken.small, NO_AIM, 0},
    {"clone, 20 GiB", "ms", &taken.large_clone, "with 1 GiB", &taken.small_clone, RATIO_AT_MOST, 2},
    {"100 clones, 20 GiB", "ms", &taken.large_clones, "by hand", &taken.clones_by_hand, VALUE_AT_MOST, 2000},
    {"100 clones, 1 GiB", "ms", &taken.small_clones, "20 GiB", &taken.large_clones, NO_AIM, 0},
    {"create while it runs", "ms", &taken.running, "stopped", &taken.stopped, NO_AIM, 0},
    {"longest gap in a writer's output", "ms", &taken.pause, "without", &taken.no_pause, VALUE_AT_MOST, 100},
};

static void host(char *command)
{
    if (system(command) != 0)
        fail("failed: %s", command);
    free(command);
}

static double snapshot(boxlite_box *box, const char *name)
{
    boxlite_op *op;
    double began = now_ms();
    MUST(boxlite_box_snapshot_create(box, name, &op, &error));
    finish(op, "snapshot");
    return now_ms() - began;
}

static double restore(boxlite_box *box, const char *name)
{
    boxlite_op *op;
    double began = now_ms();
    MUST(boxlite_box_snapshot_restore(box, name, &op, &error));
    finish(op, "restore");
    return now_ms() - began;
}

static void forget(boxlite_box *box, const char *name)
{
    boxlite_op *op;
    MUST(boxlite_box_snapshot_remove(box, name, &op, &error));
    finish(op, "remove a snapshot");
}

// A box that never runs, whose disk holds so much.
static boxlite_box *with_data(boxlite_runtime *runtime, const plan *p, int gib)
{
    boxlite_box_options *options;
    boxlite_op *op;
    boxlite_box *box;
    MUST(boxlite_box_options_new(p->image, &options, &error));
    MUST(boxlite_box_options_set_disk_size_mib(options, DISK_GIB << 10, &error));
    MUST(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    MUST(boxlite_op_wait(op, PATIENCE_MS, &error));
    MUST(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    for (int i = 0; i < gib; i++) {
        fprintf(stderr, "\rbench: snapshots: a disk of %d GiB, %d ", gib, i + 1);
        host(text("qemu-io -c 'write -q -P 7 %dG 1G' %s/boxes/%s/disks/disk.qcow2", i + 2, p->home,
                  boxlite_box_id(box)));
    }
    return box;
}

// The disk gets another name, and an overlay takes its place.
static double by_hand(const plan *p, const char *id)
{
    char *command = text("cd %s/boxes/%s/disks && mv disk.qcow2 kept.qcow2 && "
                         "qemu-img create -q -f qcow2 -b kept.qcow2 -F qcow2 disk.qcow2 && sync -f disk.qcow2",
                         p->home, id);
    double began = now_ms();
    host(command);
    double elapsed = now_ms() - began;
    host(text("cd %s/boxes/%s/disks && mv kept.qcow2 disk.qcow2", p->home, id));
    return elapsed;
}

static double restore_by_hand(const plan *p, const char *id)
{
    char *command = text("cd %s/boxes/%s/disks && qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 new.qcow2 && "
                         "sync -f new.qcow2 && mv new.qcow2 other.qcow2",
                         p->home, id);
    double began = now_ms();
    host(command);
    double elapsed = now_ms() - began;
    host(text("rm %s/boxes/%s/disks/other.qcow2", p->home, id));
    return elapsed;
}

// Makes clones of a box that was written to, and removes them.
static double clones(boxlite_runtime *runtime, const plan *p, boxlite_box *box, int count)
{
    boxlite_op *op;
    host(text("qemu-io -c 'write -q 1M 64k' %s/boxes/%s/disks/disk.qcow2", p->home, boxlite_box_id(box)));
    double began = now_ms();
    MUST(boxlite_box_clone(box, NULL, NULL, (size_t)count, &op, &error));
    MUST(boxlite_op_wait(op, PATIENCE_MS, &error));
    double elapsed = now_ms() - began;
    for (int i = 0; i < count; i++) {
        boxlite_box *clone;
        MUST(boxlite_op_take_box(op, &clone, &error));
        discard(runtime, clone);
    }
    boxlite_op_free(op);
    return elapsed;
}

static double clones_by_hand(const plan *p, const char *id)
{
    char *command = text("cd %s/boxes/%s/disks && for i in `seq %d`; do mkdir c$i && "
                         "qemu-img create -q -f qcow2 -b ../disk.qcow2 -F qcow2 c$i/disk.qcow2; done && sync -f .",
                         p->home, id, CLONES);
    double began = now_ms();
    host(command);
    double elapsed = now_ms() - began;
    host(text("rm -r %s/boxes/%s/disks/c*", p->home, id));
    return elapsed;
}

static void whatever_it_holds(boxlite_runtime *runtime, const plan *p)
{
    for (int large = 0; large < 2; large++) {
        boxlite_box *box = with_data(runtime, p, large ? LARGE_GIB : SMALL_GIB);
        for (int i = 0; i < ROUNDS; i++) {
            if (!large) {
                add(&taken.by_hand, by_hand(p, boxlite_box_id(box)));
                add(&taken.restore_by_hand, restore_by_hand(p, boxlite_box_id(box)));
            }
            char *name = text("s%d", i);
            add(large ? &taken.large : &taken.small, snapshot(box, name));
            add(large ? &taken.large_restore : &taken.small_restore, restore(box, name));
            free(name);
            add(large ? &taken.large_clone : &taken.small_clone, clones(runtime, p, box, 1));
        }
        for (int i = 0; i < CLONE_ROUNDS; i++) {
            add(large ? &taken.large_clones : &taken.small_clones, clones(runtime, p, box, CLONES));
            if (!large)
                add(&taken.clones_by_hand, clones_by_hand(p, boxlite_box_id(box)));
        }
        discard(runtime, box);
    }
}

// When a writer was heard last, and the longest it was not.
static double heard, longest;

static void on_line(void *user_data, const uint8_t *data, size_t length)
{
    (void)user_data, (void)data, (void)length;
    double now = now_ms(), gap = now - heard;
    longest = gap > longest ? gap : longest;
    heard = now;
}

// Listens to a writer, during a snapshot if there is a name; returns the longest gap.
static double listen(boxlite_runtime *runtime, boxlite_box *box, const char *name)
{
    boxlite_op *op = NULL;
    double until = now_ms() + 500;
    heard = now_ms();
    longest = 0;
    if (name)
        MUST(boxlite_box_snapshot_create(box, name, &op, &error));
    double began = now_ms();
    while (now_ms() < until || (op && !boxlite_op_is_done(op))) {
        boxlite_status status = boxlite_dispatch(runtime, 20, NULL, &error);
        if (status != BOXLITE_OK && status != BOXLITE_TIMEOUT)
            must(status, "dispatch");
        if (op && boxlite_op_is_done(op) && began > 0) {
            add(&taken.running, now_ms() - began);
            began = 0;
        }
    }
    if (op)
        finish(op, "snapshot");
    return longest;
}

static void while_it_runs(boxlite_runtime *runtime, const plan *p)
{
    const char *argv[] = {"sh", "-c", "while :; do echo >> /file; echo; done"};
    boxlite_box *box = create(runtime, p->image, false);
    start(box);
    boxlite_exec *exec = start_command(box, argv, 3, false);
    MUST(boxlite_exec_on_stdout(exec, on_line, NULL, NULL, &error));
    for (int i = 0; i < ROUNDS; i++) {
        char *name = text("r%d", i);
        add(&taken.no_pause, listen(runtime, box, NULL));
        add(&taken.pause, listen(runtime, box, name));
        free(name);
    }
    boxlite_exec_free(exec);
    stop(box);
    for (int i = 0; i < ROUNDS; i++) {
        add(&taken.stopped, snapshot(box, "again"));
        restore(box, "r9");
        forget(box, "again");
    }
    discard(runtime, box);
}

void measure_snapshots(boxlite_runtime *runtime, const plan *p)
{
    add_table("snapshots");
    add_figures(FIGURES, sizeof FIGURES / sizeof *FIGURES);
    while_it_runs(runtime, p);
    whatever_it_holds(runtime, p);
    fputc('\n', stderr);
}
