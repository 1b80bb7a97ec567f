// Starts: from the creation of a box to the first byte of its first command, for each way in which
// its machine may come to be, beside bare QEMU booted and restored. All interleaved.
#include "boxes.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MOST_STAGES = 24 };

// The time of each stage, by name, in the order of their first appearance.
typedef struct {
    const char *names[MOST_STAGES];
    samples times[MOST_STAGES];
    size_t count;
} profile;

// One way to start a box.
typedef struct {
    boxlite_runtime *runtime;
    bool cold;
    // Not its first start: what is measured begins with the second.
    bool again;
    int32_t expected;
    samples first_byte;
    profile stages;
} way;

static way pooled = {.expected = BOXLITE_BOOT_POOLED};
static way pooled_for_any = {.expected = BOXLITE_BOOT_POOLED};
static way again = {.again = true, .expected = BOXLITE_BOOT_RESTORED};
static way restored = {.expected = BOXLITE_BOOT_RESTORED};
static way cold = {.cold = true, .expected = BOXLITE_BOOT_COLD};
static samples bare_restore, bare_boot;

static const char BARE_RESTORE[] = "bare restore to a byte";

static const figure FIGURES[] = {
    {"from a warm pool", "ms", &pooled.first_byte, BARE_RESTORE, &bare_restore, VALUE_AT_MOST, 30},
    {"from a pool for any image", "ms", &pooled_for_any.first_byte, BARE_RESTORE, &bare_restore,
     NO_AIM, 0},
    {"restored", "ms", &restored.first_byte, BARE_RESTORE, &bare_restore, VALUE_AT_MOST, 120},
    {"restored, beside bare QEMU", "ms", &restored.first_byte, BARE_RESTORE, &bare_restore,
     RATIO_AT_MOST, 1.5},
    {"restored, a second start", "ms", &again.first_byte, BARE_RESTORE, &bare_restore, NO_AIM, 0},
    {"cold", "ms", &cold.first_byte, "bare QEMU to greeting", &bare_boot, NO_AIM, 0},
};

static void add_stage(profile *p, const char *name, double ms)
{
    size_t i = 0;
    while (i < p->count && strcmp(p->names[i], name) != 0)
        i++;
    if (i == MOST_STAGES)
        fail("more stages than expected: %s", name);
    if (i == p->count)
        p->names[p->count++] = text("%s", name);
    add(&p->times[i], ms);
}

// Where the time went: create, each stage of the start, what is between them, the command.
static void add_profile(profile *p, const boxlite_box_info *info, const double at[4])
{
    double rest = at[2] - at[1];
    char name[64];
    add_stage(p, "create", at[1] - at[0]);
    for (size_t i = 0; i < boxlite_box_info_stage_count(info); i++) {
        double ms = (double)boxlite_box_info_stage_microseconds(info, i) / 1e3;
        snprintf(name, sizeof name, "start: %s", boxlite_box_info_stage_name(info, i));
        add_stage(p, name, ms);
        rest -= ms;
    }
    add_stage(p, "start: between the stages", rest);
    add_stage(p, "exec to its first byte", at[3] - at[2]);
    add_stage(p, "all", at[3] - at[0]);
}

static void start_one(way *w, const char *image)
{
    const char *argv[] = {"echo", "hello"};
    output out = {0};
    double at[4] = {now_ms()};
    boxlite_box *box = create(w->runtime, image, w->cold);
    if (w->again) {
        start(box);
        stop(box);
        at[0] = now_ms();
    }
    at[1] = now_ms();
    start(box);
    at[2] = now_ms();
    run(box, argv, 2, &out);
    at[3] = out.first_byte;
    if (strcmp(out.text, "hello\n") != 0)
        fail("echo printed \"%s\"", out.text);
    boxlite_box_info *info = inspect(box);
    if (boxlite_box_info_boot(info) != w->expected)
        fail("a box was started in another way: %d, not %d", (int)boxlite_box_info_boot(info),
             (int)w->expected);
    add(&w->first_byte, at[3] - at[0]);
    add_profile(&w->stages, info, at);
    boxlite_box_info_free(info);
    discard(w->runtime, box);
}

// Waits until the pool is full, and rests: nothing of it disturbs what is measured next.
static void await_pool(boxlite_runtime *runtime)
{
    double began = now_ms();
    while (boxlite_runtime_pool_ready(runtime) == 0) {
        if (now_ms() - began > PATIENCE_MS)
            fail("the pool stays empty");
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
}

static void start_alone(char *const *arguments, const template *bare)
{
    machine m;
    add(&bare_restore, restore_bare(&m, bare));
    end_bare(&m);
    add(&bare_boot, boot_bare(&m, arguments));
    end_bare(&m);
}

// A box whose start is not measured.
static void start_unseen(boxlite_runtime *runtime, const char *image)
{
    boxlite_box *box = create(runtime, image, false);
    start(box);
    discard(runtime, box);
}

static void add_profile_table(const char *title, const way *w)
{
    add_table(title);
    for (size_t i = 0; i < w->stages.count; i++)
        add_figures(&(figure){w->stages.names[i], "ms", &w->stages.times[i], NULL, NULL, NO_AIM, 0},
                    1);
}

void measure_starts(boxlite_runtime *runtime, const plan *p, char *const *arguments,
                    const template *bare)
{
    restored.runtime = again.runtime = cold.runtime = runtime;
    // The first restored box of a home makes the templates.
    start_unseen(runtime, p->image);
    pooled.runtime = open_runtime(p->home, 1, p->image);
    pooled_for_any.runtime = open_runtime(p->home, 1, NULL);
    for (int i = 0; i < p->starts; i++) {
        fprintf(stderr, "\rbench: starts %d/%d ", i + 1, p->starts);
        way *const pools[] = {&pooled, &pooled_for_any};
        for (int n = 0; n < 2; n++) {
            await_pool(pooled.runtime);
            await_pool(pooled_for_any.runtime);
            start_one(pools[n], p->image);
        }
        await_pool(pooled.runtime);
        await_pool(pooled_for_any.runtime);
        start_one(&restored, p->image);
        start_one(&again, p->image);
        start_one(&cold, p->image);
        start_alone(arguments, bare);
    }
    fputc('\n', stderr);
    add_table("create to first byte of an echo");
    add_figures(FIGURES, sizeof FIGURES / sizeof FIGURES[0]);
    add_profile_table("where a restored start's time goes", &restored);
    add_profile_table("where a start from the pool spends its time", &pooled);
    boxlite_runtime_free(pooled.runtime);
    boxlite_runtime_free(pooled_for_any.runtime);
}
