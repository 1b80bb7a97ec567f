// Snapshots that others are based on go, and what these need of them stays: of boxes that run, and that do
// not.
#include "program.h"
#include "snapshots.h"

static int links(boxlite_box *box)
{
    return atoi(word_of("qemu-img info -U --backing-chain '%s' | grep -c ^image", in_box(box, "disks/disk.qcow2")));
}

static void write_state(boxlite_box *box, const char *state)
{
    char script[512];
    // Something new, something changed, something away, and something like before.
    snprintf(script, sizeof script,
             "mkdir -p /tree && cd /tree && echo %s > state && head -c 300000 /dev/urandom > %s && "
             "head -c 20000 /dev/urandom > changed && rm -f gone-* && echo > gone-%s && "
             "find . -type f ! -name sums | sort | xargs sha256sum > sums && sync && cat state",
             state, state, state);
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%s\n", state);
    PRINTS(box, script, wanted);
}

static void has_state(boxlite_box *box, const char *state)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%s\ngone-%s\n", state, state);
    PRINTS(box, "cd /tree && sha256sum -c sums > /dev/null && cat state && ls -d gone-*", wanted);
}

static void whole(boxlite_box *box, const char *name)
{
    CHECK(succeeds("qemu-img check -q '%s'", in_box(box, name)));
}

static void restored(boxlite_box *box, const char *name)
{
    OK(try_restore(box, name));
    has_state(box, name);
    stop(box);
}

static bool is_gone(boxlite_box *box, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "snapshots/%s", name);
    boxlite_snapshot *snapshot = get_snapshot(box, name);
    CHECK(!snapshot == (access(in_box(box, path), F_OK) != 0));
    boxlite_snapshot_free(snapshot);
    return !snapshot;
}

static void of_a_box_that_does_not_run(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    const char *names[] = {"one", "two", "three", "four"};
    for (int i = 0; i < 4; i++) {
        write_state(box, names[i]);
        stop(box);
        make_snapshot(box, names[i]);
    }
    write_state(box, "now");
    stop(box);
    CHECK(links(box) == 6);
    // In the middle, at the bottom, and what the disk is on.
    OK(try_remove_snapshot(box, "two"));
    CHECK(is_gone(box, "two") && links(box) == 5);
    boxlite_snapshot *snapshot = get_snapshot(box, "three");
    CHECK(!strcmp(boxlite_snapshot_parent(snapshot), "one"));
    boxlite_snapshot_free(snapshot);
    OK(try_remove_snapshot(box, "one"));
    OK(try_remove_snapshot(box, "four"));
    CHECK(is_gone(box, "one") && is_gone(box, "four") && links(box) == 3);
    whole(box, "disks/disk.qcow2");
    whole(box, "snapshots/three/disk.qcow2");
    has_state(box, "now");
    stop(box);

    // Two are on it: it stays until one of them is gone.
    restored(box, "three");
    make_snapshot(box, "left");
    OK(try_restore(box, "three"));
    write_state(box, "right");
    stop(box);
    FAILS(try_remove_snapshot(box, "three"), BOXLITE_INVALID_STATE, "snapshots/left/disk.qcow2");
    CHECK(!is_gone(box, "three"));
    OK(try_remove_snapshot(box, "left"));
    OK(try_remove_snapshot(box, "three"));
    CHECK(!*snapshots_of(box) && links(box) == 2);
    has_state(box, "right");
    stop(box);

    // Another box is on it.
    boxlite_op *op;
    boxlite_box *clone;
    make_snapshot(box, "shared");
    OK(boxlite_box_clone(box, "shared", NULL, 1, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &clone, &error));
    boxlite_op_free(op);
    FAILS(try_remove_snapshot(box, "shared"), BOXLITE_INVALID_STATE, boxlite_box_id(clone));
    OK(try_restore(box, "shared"));
    remove_box(runtime, clone);
    OK(try_remove_snapshot(box, "shared"));
    has_state(box, "right");
    remove_box(runtime, box);
}

// Whether a machine has files open that are gone.
static bool has_gone_files(void)
{
    char command[256];
    snprintf(command, sizeof command,
             "for p in $(grep -l -s '%s' /proc/[0-9]*/cmdline | cut -d/ -f3); do "
             "ls -l /proc/$p/fd 2>/dev/null; done | grep -q 'qcow2 (deleted)'",
             home);
    return system(command) == 0;
}

// While a process writes numbered records, each synced before the next.
static void of_a_box_that_runs(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    const char *names[] = {"one", "two", "three", "four", "five"};
    for (int i = 0; i < 5; i++) {
        write_state(box, names[i]);
        make_snapshot(box, names[i]);
    }
    boxlite_exec *writer = start(box, "n=0; while [ ! -e /enough ]; do n=$((n + 1)); echo $n >> /records; sync /records; "
                                      "done; echo $n > /count");
    write_state(box, "now");
    CHECK(links(box) == 7);
    OK(try_remove_snapshot(box, "three"));
    CHECK(is_gone(box, "three") && links(box) == 6);
    has_state(box, "now");
    OK(try_remove_snapshot(box, "one"));
    OK(try_remove_snapshot(box, "five"));
    CHECK(is_gone(box, "one") && is_gone(box, "five") && links(box) == 4);
    CHECK(!has_gone_files());
    // All goes on from there.
    make_snapshot(box, "six");
    OK(try_remove_snapshot(box, "four"));
    CHECK(links(box) == 4);
    boxlite_op *op;
    boxlite_box *clone;
    OK(boxlite_box_clone(box, NULL, NULL, 1, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &clone, &error));
    boxlite_op_free(op);
    has_state(clone, "now");
    FAILS(try_remove_snapshot(box, "none"), BOXLITE_NOT_FOUND, "none");
    CHECK(!has_gone_files());
    PRINTS(box, "touch /enough; while [ ! -e /count ]; do sleep 0.1; done; seq $(cat /count) | cmp - /records && echo all", "all\n");
    int32_t code;
    OK(boxlite_exec_wait(writer, 60000, &code, &error));
    boxlite_exec_free(writer);
    has_state(box, "now");
    stop(box);
    stop(clone);
    whole(box, "disks/disk.qcow2");
    whole(box, "snapshots/two/disk.qcow2");
    whole(box, "snapshots/six/disk.qcow2");
    CHECK(!strcmp(snapshots_of(box), "two six "));
    has_state(box, "now");
    stop(box);
    restored(box, "two");
    OK(try_restore(box, "six"));
    PRINTS(box, "cat /tree/state", "now\n");
    remove_box(runtime, box);
    has_state(clone, "now");
    remove_box(runtime, clone);
}

// A snapshot whose only dependent the running disk is not on.
static void beside_the_disk_that_runs(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    write_state(box, "below");
    make_snapshot(box, "below");
    write_state(box, "above");
    make_snapshot(box, "above");
    stop(box);
    OK(try_restore(box, "below"));
    make_snapshot(box, "root");
    OK(try_restore(box, "above"));
    write_state(box, "now");
    FAILS(try_remove_snapshot(box, "below"), BOXLITE_INVALID_STATE, "root");
    OK(try_remove_snapshot(box, "root"));
    OK(try_remove_snapshot(box, "below"));
    has_state(box, "now");
    stop(box);
    restored(box, "above");
    remove_box(runtime, box);
}

// Stopped in the middle of a merge: the snapshot has gone, or is still there.
static void stopped_meanwhile(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    boxlite_op *op;
    PRINTS(box, "head -c 60000000 /dev/urandom > /large; sync; sha256sum /large > /sum; sync; echo done", "done\n");
    make_snapshot(box, "large");
    PRINTS(box, "echo more > /more; sync; cat /more", "more\n");
    OK(boxlite_box_snapshot_remove(box, "large", &op, &error));
    stop(box);
    boxlite_status status = boxlite_op_wait(op, 60000, NULL);
    boxlite_op_free(op);
    whole(box, "disks/disk.qcow2");
    CHECK(is_gone(box, "large") == (status == BOXLITE_OK));
    PRINTS(box, "sha256sum -c /sum > /dev/null && cat /more", "more\n");
    stop(box);
    if (!is_gone(box, "large"))
        OK(try_remove_snapshot(box, "large"));
    CHECK(links(box) == 2);
    PRINTS(box, "sha256sum -c /sum > /dev/null && cat /more", "more\n");
    remove_box(runtime, box);
}

static void scribble(boxlite_box *box, int at)
{
    char command[128];
    snprintf(command, sizeof command, "qemu-io -c 'write -q -P %d %dM 64k' '%%s'", at, 100 + at);
    CHECK(succeeds(command, in_box(box, "disks/disk.qcow2")));
}

static bool has_scribbles(boxlite_box *box, int count)
{
    for (int at = 1; at <= count; at++) {
        char command[128];
        snprintf(command, sizeof command, "qemu-io -r -c 'read -q -P %d %dM 64k' '%%s' | grep -q . && exit 1; true", at, 100 + at);
        if (!succeeds(command, in_box(box, "disks/disk.qcow2")))
            return false;
    }
    return true;
}

// What clones have left behind is merged when there is too much of it; what has a name is kept.
static void chains_stay_short(boxlite_runtime *runtime)
{
    enum { ROUNDS = 70 };
    boxlite_box *box = new_box(runtime);
    make_snapshot(box, "first");
    for (int at = 1; at <= ROUNDS; at++) {
        boxlite_op *op;
        boxlite_box *clone;
        scribble(box, at);
        if (at == 30)
            make_snapshot(box, "named");
        OK(boxlite_box_clone(box, NULL, NULL, 1, &op, &error));
        OK(boxlite_op_wait(op, 60000, &error));
        OK(boxlite_op_take_box(op, &clone, &error));
        boxlite_op_free(op);
        remove_box(runtime, clone);
        CHECK(links(box) <= 64);
    }
    CHECK(links(box) < ROUNDS / 2 && has_scribbles(box, ROUNDS));
    whole(box, "disks/disk.qcow2");
    OK(try_restore(box, "named"));
    CHECK(has_scribbles(box, 30) && !has_scribbles(box, 31));
    OK(try_remove_snapshot(box, "first"));
    PRINTS(box, "echo works", "works\n");
    stop(box);

    // Names enough, and nothing that could be merged.
    char name[16] = "n0";
    int count = 0;
    for (; links(box) < 64; snprintf(name, sizeof name, "n%d", count)) {
        scribble(box, ++count);
        OK(try_snapshot(box, name));
    }
    FAILS(try_snapshot(box, name), BOXLITE_RESOURCE_EXHAUSTED, "remove snapshots that are not needed");
    CHECK(links(box) == 64 && has_scribbles(box, count));
    OK(try_remove_snapshot(box, "n7"));
    OK(try_snapshot(box, name));
    CHECK(has_scribbles(box, count));
    remove_box(runtime, box);
}

// The same while it runs: what of it takes least is merged, and only when it must be.
static void of_running_boxes_too(boxlite_runtime *runtime)
{
    enum { ROUNDS = 66 };
    boxlite_box *box = new_box(runtime);
    char script[128];
    for (int at = 1; at <= ROUNDS; at++) {
        boxlite_op *op;
        boxlite_box *clone;
        snprintf(script, sizeof script, "echo %d >> /rounds; sync; tail -n 1 /rounds", at);
        char wanted[16];
        snprintf(wanted, sizeof wanted, "%d\n", at);
        PRINTS(box, script, wanted);
        OK(boxlite_box_clone(box, NULL, NULL, 1, &op, &error));
        OK(boxlite_op_wait(op, 60000, &error));
        OK(boxlite_op_take_box(op, &clone, &error));
        boxlite_op_free(op);
        remove_box(runtime, clone);
    }
    CHECK(links(box) == 64);
    OK(try_snapshot(box, "last"));
    CHECK(links(box) == 64);
    PRINTS(box, "wc -l < /rounds", "66\n");
    stop(box);
    whole(box, "disks/disk.qcow2");
    OK(try_restore(box, "last"));
    PRINTS(box, "wc -l < /rounds", "66\n");
    remove_box(runtime, box);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    of_a_box_that_does_not_run(runtime);
    of_a_box_that_runs(runtime);
    beside_the_disk_that_runs(runtime);
    stopped_meanwhile(runtime);
    chains_stay_short(runtime);
    of_running_boxes_too(runtime);
    close_runtime(runtime);
    return 0;
}
