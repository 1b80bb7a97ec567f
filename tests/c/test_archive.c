// Boxes that are written into a file, and made of it again in a home that never had their image.
#include "program.h"
#include "snapshots.h"

// Where archives go, outside of any home.
static char place[64];

static const char *in_place(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", place, name);
    return path;
}

static boxlite_status try_export(boxlite_box *box, const char *path, const boxlite_export_options *options)
{
    boxlite_op *op;
    OK(boxlite_box_export(box, path, options, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, &error);
    boxlite_op_free(op);
    return status;
}

// Writes an archive, whose path is as it should be.
static void export(boxlite_box *box, const char *path, const boxlite_export_options *options, const char *wanted)
{
    boxlite_op *op;
    boxlite_text *written;
    OK(boxlite_box_export(box, path, options, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_text(op, &written, &error));
    boxlite_op_free(op);
    CHECK(!strcmp(boxlite_text_get(written), wanted));
    boxlite_text_free(written);
    CHECK(access(wanted, R_OK) == 0);
}

static boxlite_import_options *named(const char *name)
{
    boxlite_import_options *options;
    OK(boxlite_import_options_new(&options, &error));
    OK(boxlite_import_options_set_name(options, name, &error));
    return options;
}

static boxlite_status try_import(boxlite_runtime *runtime, const char *path, const boxlite_import_options *options,
                                 boxlite_box **box)
{
    boxlite_op *op;
    OK(boxlite_box_import(runtime, path, options, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, &error);
    if (status == BOXLITE_OK)
        OK(boxlite_op_take_box(op, box, &error));
    boxlite_op_free(op);
    return status;
}

static boxlite_box *import(boxlite_runtime *runtime, const char *path, const char *name)
{
    boxlite_box *box;
    boxlite_import_options *options = named(name);
    OK(try_import(runtime, path, options, &box));
    boxlite_import_options_free(options);
    CHECK(name ? !strcmp(boxlite_box_name(box), name) : !boxlite_box_name(box));
    CHECK(succeeds("qemu-img check -q '%s'", in_box(box, "disks/disk.qcow2")));
    return box;
}

static boxlite_box *make_source(boxlite_runtime *runtime)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "source", &error));
    OK(boxlite_box_options_set_memory_mib(options, 300, &error));
    OK(boxlite_box_options_set_disk_size_mib(options, 200, &error));
    OK(boxlite_box_options_add_env(options, "COLOUR", "blue", &error));
    OK(boxlite_box_options_add_label(options, "kind", "kept", &error));
    OK(boxlite_box_options_set_health_check(options, (const char *[]){"true"}, 1, 0, 0, 0, 0, &error));
    boxlite_box *box = create_box(runtime, options);
    // Holes, bytes that cannot be made smaller, a long name, links.
    PRINTS(box,
           "mkdir /tree && cd /tree && head -c 3000000 /dev/urandom > random && truncate -s 50M hole && "
           "ln -s random link && ln random hard && n=$(printf 'n%.0s' $(seq 250)) && echo long > $n && "
           "find . -type f | sort | xargs sha256sum > /sums && echo one > /state && cat /state",
           "one\n");
    stop(box);
    return box;
}

static void is_whole(boxlite_box *box, const char *state)
{
    char wanted[128];
    snprintf(wanted, sizeof wanted, "%s\nrandom\nblue\n", state);
    PRINTS(box, "cd /tree && sha256sum -c /sums > /dev/null && cat /state && readlink link && echo $COLOUR", wanted);
}

// What it was, in another home: disk, options, image configuration; and it is another box.
static void it_comes_back_elsewhere(boxlite_box *source)
{
    export(source, place, NULL, in_place("source.boxlite"));
    export(source, in_place("a/b/c.boxlite"), NULL, in_place("a/b/c.boxlite"));
    FAILS(try_export(source, place, NULL), BOXLITE_ALREADY_EXISTS, "source.boxlite exists already");

    char own[64];
    snprintf(own, sizeof own, "%s", home);
    *home = 0;
    boxlite_runtime *other = open_runtime();
    boxlite_box *box = import(other, in_place("source.boxlite"), "source");
    CHECK(strcmp(boxlite_box_id(box), boxlite_box_id(source)));
    boxlite_box_info *info = inspect(box);
    CHECK(boxlite_box_info_memory_mib(info) == 300);
    CHECK(!strcmp(boxlite_box_info_label(info, "kind"), "kept"));
    // Where the image lies on this host is nobody else's business.
    CHECK(!strcmp(boxlite_box_info_image(info), "busybox"));
    boxlite_box_info_free(info);
    is_whole(box, "one");
    PRINTS(box, "df -m / | awk 'NR == 2 { print ($2 > 150 && $2 <= 200) }'", "1\n");
    stop(box);
    // Its name is taken now; it can have another, and none.
    boxlite_box *more;
    FAILS(try_import(other, in_place("source.boxlite"), NULL, &more), BOXLITE_ALREADY_EXISTS, "source");
    boxlite_box *nameless = import(other, in_place("source.boxlite"), NULL);
    export(nameless, place, NULL, in_place("box.boxlite"));
    CHECK(count_boxes(other) == 2);
    boxlite_box_free(nameless);
    boxlite_box_free(box);
    close_runtime(other);
    strcpy(home, own);
}

// All snapshots, each gone back to.
static void with_all_snapshots(boxlite_runtime *runtime, boxlite_box *source)
{
    boxlite_export_options *options;
    char name[256] = "";
    memset(name, 'x', 255);
    make_snapshot(source, "one");
    PRINTS(source, "echo two > /state; cat /state", "two\n");
    stop(source);
    make_snapshot(source, name);
    OK(try_restore(source, "one"));
    PRINTS(source, "echo branch > /state; cat /state", "branch\n");
    stop(source);
    make_snapshot(source, "branch of \xc3\xa9");
    PRINTS(source, "echo now > /state; cat /state", "now\n");
    stop(source);
    OK(boxlite_export_options_new(&options, &error));
    OK(boxlite_export_options_set_with_snapshots(options, true, &error));
    export(source, in_place("all"), options, in_place("all"));
    OK(boxlite_export_options_set_snapshot(options, "one", &error));
    FAILS(try_export(source, in_place("both"), options), BOXLITE_INVALID_ARGUMENT, "with_snapshots");
    boxlite_export_options_free(options);

    boxlite_box *box = import(runtime, in_place("all"), "all");
    char wanted[1024];
    snprintf(wanted, sizeof wanted, "one %s branch of \xc3\xa9 ", name);
    CHECK(!strcmp(snapshots_of(box), wanted));
    boxlite_snapshot *snapshot = get_snapshot(box, name);
    CHECK(!strcmp(boxlite_snapshot_parent(snapshot), "one"));
    boxlite_snapshot_free(snapshot);
    is_whole(box, "now");
    stop(box);
    OK(try_restore(box, name));
    is_whole(box, "two");
    stop(box);
    OK(try_restore(box, "branch of \xc3\xa9"));
    is_whole(box, "branch");
    stop(box);
    remove_box(runtime, box);
}

// A box that runs, as it is at one moment; or one of its snapshots.
static void while_it_runs(boxlite_runtime *runtime, boxlite_box *source)
{
    boxlite_export_options *options;
    boxlite_exec *exec = start(source, "cat");
    PRINTS(source, "echo before > /state; sync; cat /state", "before\n");
    boxlite_exec *writer = start(source, "n=0; while n=$((n+1)); do echo $n >> /lines; sync; done");
    PRINTS(source, "until test -s /lines; do usleep 1000; done; echo some", "some\n");
    export(source, in_place("running"), NULL, in_place("running"));
    PRINTS(source, "echo after > /state; sync; cat /state", "after\n");
    boxlite_exec_free(writer);
    FAILS(try_export(source, in_place("running"), NULL), BOXLITE_ALREADY_EXISTS, "exists already");
    export(source, in_place("a/b/running"), NULL, in_place("a/b/running"));
    boxlite_box *then = import(runtime, in_place("running"), "then");
    PRINTS(then, "cat /state; awk '$1 != NR { exit 1 }' /lines && echo all", "before\nall\n");
    stop(then);
    remove_box(runtime, then);
    OK(boxlite_export_options_new(&options, &error));
    OK(boxlite_export_options_set_snapshot(options, "one", &error));
    export(source, in_place("one"), options, in_place("one"));
    FAILS(boxlite_export_options_set_snapshot(options, "a/b", &error), BOXLITE_INVALID_ARGUMENT, "a/b");
    OK(boxlite_export_options_set_snapshot(options, "none", &error));
    FAILS(try_export(source, in_place("none"), options), BOXLITE_NOT_FOUND, "no snapshot 'none'");
    boxlite_export_options_free(options);
    CHECK(access(in_place("none"), F_OK) != 0);
    boxlite_exec_free(exec);
    stop(source);
    boxlite_box *box = import(runtime, in_place("one"), "one");
    is_whole(box, "one");
    stop(box);
    remove_box(runtime, box);
}

typedef struct {
    boxlite_op *op;
    uint64_t done, total;
    bool cancel;
} course;

static void on_progress(void *user_data, const boxlite_progress *progress)
{
    course *c = user_data;
    if (boxlite_progress_bytes_total(progress) == 0)
        return;
    CHECK(boxlite_progress_bytes_done(progress) >= c->done);
    c->done = boxlite_progress_bytes_done(progress);
    c->total = boxlite_progress_bytes_total(progress);
    if (c->cancel)
        OK(boxlite_op_cancel(c->op, &error));
}

static boxlite_status follow(boxlite_runtime *runtime, course *c)
{
    OK(boxlite_op_on_progress(c->op, on_progress, c, NULL, &error));
    while (!boxlite_op_is_done(c->op))
        (void)boxlite_dispatch(runtime, 20, NULL, NULL);
    dispatch_all(runtime);
    boxlite_status status = boxlite_op_wait(c->op, 0, &error);
    boxlite_op_free(c->op);
    return status;
}

// How far it is is told, and it can be given up: nothing is left then.
static void it_is_followed_and_cancelled(boxlite_runtime *runtime, boxlite_box *source)
{
    course c = {0};
    OK(boxlite_box_export(source, in_place("followed"), NULL, &c.op, &error));
    OK(follow(runtime, &c));
    CHECK(c.total > 3000000 && c.done == c.total);
    c = (course){0};
    OK(boxlite_box_import(runtime, in_place("followed"), NULL, &c.op, &error));
    FAILS(follow(runtime, &c), BOXLITE_ALREADY_EXISTS, "source");
    CHECK(c.total > 0 && c.done == c.total);

    // At once, or in the middle of much.
    boxlite_box *large = new_box(runtime);
    CHECK(succeeds("head -c 100000000 /dev/urandom > %s", in_place("random")));
    char command[2048];
    snprintf(command, sizeof command, "qemu-io -c 'write -q -s %s 1G 100000000' '%%s'", in_place("random"));
    CHECK(succeeds(command, in_box(large, "disks/disk.qcow2")));
    export(large, in_place("large"), NULL, in_place("large"));
    const char *before = word_of("find '%s' | sort | sha256sum", home);
    size_t boxes = count_boxes(runtime);
    for (int i = 0; i < 4; i++) {
        boxlite_import_options *options = named("cancelled");
        c = (course){.cancel = i % 2};
        if (i < 2)
            OK(boxlite_box_export(large, in_place("cancelled"), NULL, &c.op, &error));
        else
            OK(boxlite_box_import(runtime, in_place("large"), options, &c.op, &error));
        boxlite_import_options_free(options);
        if (!c.cancel)
            OK(boxlite_op_cancel(c.op, &error));
        FAILS(follow(runtime, &c), BOXLITE_CANCELLED, "cancelled");
        CHECK(access(in_place("cancelled"), F_OK) != 0);
    }
    CHECK(count_boxes(runtime) == boxes);
    CHECK(!strcmp(word_of("find '%s' | sort | sha256sum", home), before));
    remove_box(runtime, large);
}

// A running box that is removed meanwhile: its archive is whole, or there is none, and the box is gone.
static void of_a_box_that_goes(boxlite_runtime *runtime)
{
    int whole = 0;
    for (int i = 0; i < 6; i++) {
        boxlite_op *op;
        size_t boxes = count_boxes(runtime);
        const char *bases = word_of("ls '%s/bases' | sha256sum", home);
        boxlite_box *box = new_box(runtime);
        PRINTS(box, "head -c 20000000 /dev/urandom > /data; sha256sum /data > /sum; sync; echo written", "written\n");
        OK(boxlite_box_export(box, in_place("going"), NULL, &op, &error));
        // At one moment or another.
        sleep_ms(i * 40);
        remove_box(runtime, box);
        boxlite_status status = boxlite_op_wait(op, 60000, NULL);
        boxlite_op_free(op);
        CHECK(count_boxes(runtime) == boxes);
        CHECK(!strcmp(word_of("ls '%s/bases' | sha256sum", home), bases));
        if (status != BOXLITE_OK) {
            CHECK(status == BOXLITE_NOT_FOUND || status == BOXLITE_STORAGE || status == BOXLITE_STOPPED);
            CHECK(access(in_place("going"), F_OK) != 0);
            continue;
        }
        whole++;
        box = import(runtime, in_place("going"), "going");
        PRINTS(box, "sha256sum -c /sum", "/data: OK\n");
        remove_box(runtime, box);
        CHECK(unlink(in_place("going")) == 0);
    }
    CHECK(whole > 0);
}

static void what_is_none(boxlite_runtime *runtime, boxlite_box *source)
{
    boxlite_box *box;
    FAILS(try_export(source, "", NULL), BOXLITE_INVALID_ARGUMENT, "path");
    FAILS(try_export(source, "/proc/none/x", NULL), BOXLITE_STORAGE, "/proc/none");
    FAILS(try_import(runtime, in_place("nowhere"), NULL, &box), BOXLITE_NOT_FOUND, "nowhere");
    FAILS(try_import(runtime, place, NULL, &box), BOXLITE_INVALID_ARGUMENT, "no file");
    FAILS(try_import(runtime, image("busybox.docker"), NULL, &box), BOXLITE_INVALID_ARGUMENT, "no archive of a box");
    boxlite_import_options *options;
    OK(boxlite_import_options_new(&options, &error));
    FAILS(boxlite_import_options_set_name(options, "a b", &error), BOXLITE_INVALID_ARGUMENT, "a b");
    OK(boxlite_import_options_set_trusted(options, true, &error));
    OK(try_import(runtime, in_place("box.boxlite"), options, &box));
    boxlite_import_options_free(options);
    boxlite_box_info *info = inspect(box);
    CHECK(!strcmp(boxlite_box_info_image(info), "busybox"));
    boxlite_box_info_free(info);
    remove_box(runtime, box);
}

int main(void)
{
    strcpy(place, "/tmp/boxlite-test-archives-XXXXXX");
    CHECK(mkdtemp(place));
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *source = make_source(runtime);
    it_comes_back_elsewhere(source);
    with_all_snapshots(runtime, source);
    while_it_runs(runtime, source);
    it_is_followed_and_cancelled(runtime, source);
    of_a_box_that_goes(runtime);
    what_is_none(runtime, source);
    boxlite_box_free(source);
    close_runtime(runtime);
    CHECK(succeeds("rm -r '%s'", place));
    return 0;
}
