// Many boxes started at the same moment. Each proves that it is up: by the output of a command.
#include "boxes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The aims: for any number of boxes, as if they were started one after the other.
#define SECONDS_EACH 0.15
#define MIB_EACH 34.0

// How long the boxes are left alone before their memory is measured.
enum { SETTLE_MS = 2000 };

// One of the boxes, and when its command had ended, from the common start.
typedef struct {
    boxlite_box *box;
    char word[32];
    double up_after;
    int *waiting;
    double began;
} member;

typedef struct {
    samples up, wall, each, p95, restored, pss, available;
} crowd;

// A report of its own for the first that failed; the others are only counted.
static void complain(const char *what, const char *detail)
{
    static bool complained;
    if (!complained)
        fprintf(stderr, "\nbench: a box among many: %s: %s\n", what, detail);
    complained = true;
}

static bool is_right(boxlite_op *op, const char *word)
{
    boxlite_output *out;
    if (boxlite_op_take_output(op, &out, &error) != BOXLITE_OK) {
        complain("its command failed", boxlite_error_message(error));
        boxlite_error_free(error);
        error = NULL;
        return false;
    }
    const char *printed = (const char *)boxlite_output_bytes(out, BOXLITE_STDOUT, NULL);
    bool right = boxlite_output_code(out) == 0 && strcmp(printed, word) == 0;
    if (!right)
        complain("its command printed", printed);
    boxlite_output_free(out);
    return right;
}

static void on_ran(void *user_data, boxlite_op *op)
{
    member *m = user_data;
    --*m->waiting;
    if (is_right(op, m->word))
        m->up_after = now_ms() - m->began;
    boxlite_op_free(op);
}

// Starts the box and a command in it, without waiting for either.
static void launch(member *m)
{
    boxlite_exec_options *options;
    boxlite_op *op;
    char word[32];
    snprintf(word, sizeof word, "%.*s", (int)strcspn(m->word, "\n"), m->word);
    const char *argv[] = {"echo", word};
    MUST(boxlite_exec_options_new(argv, 2, &options, &error));
    MUST(boxlite_box_run(m->box, options, sizeof m->word, &op, &error));
    boxlite_exec_options_free(options);
    MUST(boxlite_op_on_complete(op, on_ran, m, NULL, &error));
}

static void launch_all(boxlite_runtime *runtime, member *members, int count)
{
    int waiting = count;
    double began = now_ms();
    for (int i = 0; i < count; i++) {
        members[i].began = began;
        members[i].waiting = &waiting;
        launch(&members[i]);
    }
    while (waiting > 0)
        MUST(boxlite_dispatch(runtime, PATIENCE_MS, NULL, &error));
}

static void add_times(crowd *c, const member *members, int count)
{
    double last = 0;
    for (int i = 0; i < count; i++) {
        if (members[i].up_after == 0)
            continue;
        add(&c->each, members[i].up_after / 1e3);
        if (members[i].up_after > last)
            last = members[i].up_after;
    }
    add(&c->up, (double)c->each.count);
    if (c->each.count == 0)
        fail("none of %d boxes came up", count);
    add(&c->wall, last / 1e3);
    add(&c->p95, quantile(&c->each, 95));
}

// Memory of supervisors and QEMUs together, for each box; what several share counts once.
static void add_memory(crowd *c, const member *members, int count)
{
    double pss = 0;
    int from_template = 0;
    for (int i = 0; i < count; i++) {
        if (members[i].up_after == 0)
            continue;
        boxlite_box_info *info = inspect(members[i].box);
        pid_t supervisor = (pid_t)boxlite_box_info_pid(info);
        from_template += boxlite_box_info_boot(info) == BOXLITE_BOOT_RESTORED;
        boxlite_box_info_free(info);
        pss += memory_of(supervisor).pss + memory_of(child_of(supervisor)).pss;
    }
    add(&c->pss, pss / (double)c->each.count);
    add(&c->restored, from_template);
}

static void discard_all(boxlite_runtime *runtime, member *members, int count)
{
    boxlite_op **ops = calloc((size_t)count, sizeof(boxlite_op *));
    if (!ops)
        fail("out of memory");
    for (int i = 0; i < count; i++)
        MUST(boxlite_box_remove(runtime, boxlite_box_id(members[i].box), true, &ops[i], &error));
    for (int i = 0; i < count; i++) {
        finish(ops[i], "remove");
        boxlite_box_free(members[i].box);
    }
    free(ops);
}

static void start_crowd(boxlite_runtime *runtime, const char *image, int count, crowd *c)
{
    member *members = calloc((size_t)count, sizeof *members);
    if (!members)
        fail("out of memory");
    for (int i = 0; i < count; i++) {
        members[i].box = create(runtime, image, false);
        snprintf(members[i].word, sizeof members[i].word, "box-%d-of-%d\n", i, count);
    }
    double before = available_memory();
    launch_all(runtime, members, count);
    add_times(c, members, count);
    pause_ms(SETTLE_MS);
    add(&c->available, (before - available_memory()) / (double)c->each.count);
    add_memory(c, members, count);
    discard_all(runtime, members, count);
    free(members);
}

static void add_crowd_table(const crowd *c, int count)
{
    const figure figures[] = {
        {"up, by the output of a command", "", &c->up, NULL, NULL, VALUE_AT_LEAST, count},
        {"of them restored", "", &c->restored, NULL, NULL, NO_AIM, 0},
        {"until the last is up", "s", &c->wall, NULL, NULL, VALUE_AT_MOST, SECONDS_EACH * count},
        {"until each is up", "s", &c->each, NULL, NULL, NO_AIM, 0},
        {"until 95 of 100 are up", "s", &c->p95, NULL, NULL, NO_AIM, 0},
        {"QEMU + supervisor, Pss, each", "MiB", &c->pss, NULL, NULL, VALUE_AT_MOST, MIB_EACH},
        {"less available on the host, each", "MiB", &c->available, NULL, NULL, NO_AIM, 0},
    };
    add_table(text("%d boxes at once", count));
    add_figures(figures, sizeof figures / sizeof figures[0]);
}

void measure_many(boxlite_runtime *runtime, const plan *p)
{
    static crowd crowds[MOST_CROWDS];
    for (int i = 0; i < p->crowds; i++) {
        fprintf(stderr, "\rbench: many %d ", p->crowd[i]);
        start_crowd(runtime, p->image, p->crowd[i], &crowds[i]);
        add_crowd_table(&crowds[i], p->crowd[i]);
    }
    fputc('\n', stderr);
}
