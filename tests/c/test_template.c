// Templates of machines, without disks: when one is made, for whom, and when it goes.
#include "templates.h"

typedef struct {
    int began, done;
} preparation;

static void note(void *user_data, const boxlite_progress *step)
{
    preparation *p = user_data;
    const char *stage = boxlite_progress_stage(step);
    if (!stage)
        return;
    if (boxlite_progress_began(step)) {
        CHECK(!strcmp(stage, "preparing machine template"));
        CHECK(boxlite_progress_microseconds(step) == 0);
        p->began++;
    }
    if (!strcmp(stage, "template")) {
        CHECK(p->began == 1 && boxlite_progress_microseconds(step) > 0);
        p->done++;
    }
}

// Starts a box; whether it has told of a template that is being made, and that it was.
static preparation start_watched(boxlite_runtime *runtime, boxlite_box *box)
{
    preparation p = {0};
    boxlite_op *op;
    OK(boxlite_box_start(box, &op, &error));
    OK(boxlite_op_on_progress(op, note, &p, NULL, &error));
    DISPATCH_UNTIL(runtime, boxlite_op_is_done(op));
    dispatch_all(runtime);
    wait_op(op);
    return p;
}

static void the_first_start_makes_one_and_the_next_use_it(void)
{
    boxlite_runtime *runtime = open_without_disks();
    boxlite_box *first = new_box(runtime), *second = new_box(runtime);
    CHECK(templates_made(runtime) == 0 && count_templates("", NULL) == 0);

    preparation p = start_watched(runtime, first);
    CHECK(p.began == 1 && p.done == 1);
    CHECK(boot_of(first) == BOXLITE_BOOT_RESTORED);
    CHECK(templates_made(runtime) == 1 && count_templates("", NULL) == 1);

    p = start_watched(runtime, second);
    CHECK(p.began == 0 && p.done == 0);
    CHECK(boot_of(second) == BOXLITE_BOOT_RESTORED);
    PRINTS(first, "echo first", "first\n");
    PRINTS(second, "echo second", "second\n");
    stop_box(first);
    CHECK(boot_of(first) == BOXLITE_BOOT_UNKNOWN);
    CHECK(boot(first) == BOXLITE_BOOT_RESTORED);

    CHECK(templates_made(runtime) == 1 && count_templates("", NULL) == 1);
    CHECK(counter(runtime, BOXLITE_COUNTER_RESTORED_STARTS) == 3);
    CHECK(counter(runtime, BOXLITE_COUNTER_COLD_STARTS) == 0 && detours(runtime) == 0);
    remove_box(runtime, first);
    remove_box(runtime, second);
    close_runtime(runtime);
}

static void another_program_uses_it_too(void)
{
    for (int i = 0; i < 2; i++) {
        boxlite_runtime *runtime = open_without_disks();
        boxlite_box *box = new_box(runtime);
        CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
        CHECK(templates_made(runtime) == (i == 0) && detours(runtime) == 0);
        remove_box(runtime, box);
        if (i == 1)
            close_runtime(runtime);
        else
            boxlite_runtime_free(runtime);
    }
}

static void a_cold_boot_makes_none(void)
{
    boxlite_runtime *runtime = open_without_disks();
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_cold_boot(options, true, &error));
    boxlite_box *cold = create_box(runtime, options), *box = new_box(runtime);
    preparation p = start_watched(runtime, cold);
    CHECK(p.began == 0 && p.done == 0 && boot_of(cold) == BOXLITE_BOOT_COLD);
    CHECK(templates_made(runtime) == 0 && count_templates("", NULL) == 0);
    CHECK(counter(runtime, BOXLITE_COUNTER_COLD_STARTS) == 1);
    // Nor does it use one that is there.
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    stop_box(cold);
    CHECK(boot(cold) == BOXLITE_BOOT_COLD);
    CHECK(templates_made(runtime) == 1 && detours(runtime) == 0);
    CHECK(counter(runtime, BOXLITE_COUNTER_COLD_STARTS) == 2);
    remove_box(runtime, cold);
    remove_box(runtime, box);
    close_runtime(runtime);
}

static void is_of_size(boxlite_box *box, int cpus, long memory_mib)
{
    char wanted[16];
    snprintf(wanted, sizeof wanted, "%d\n", cpus);
    PRINTS(box, "nproc", wanted);
    PRINTS(box, "grep -c ^processor /proc/cpuinfo", wanted);
    char *kib = output_of(box, "sed -n 's/^MemTotal: *//p' /proc/meminfo");
    long mib = atol(kib) / 1024;
    // The kernel keeps some for itself.
    if (mib > memory_mib || mib < memory_mib * 8 / 10)
        FAIL("%ld MiB of %ld are there", mib, memory_mib);
    free(kib);
}

// All processors work at the same time, and all the memory can be written and read.
static void each_shape_has_its_own(void)
{
    boxlite_runtime *runtime = open_without_disks();
    struct {
        uint32_t cpus, memory_mib;
    } shapes[] = {{1, 512}, {2, 512}, {1, 768}, {2, 128}};
    boxlite_box *boxes[4];
    for (uint64_t i = 0; i < 4; i++) {
        boxes[i] = shaped_box(runtime, shapes[i].cpus, shapes[i].memory_mib);
        CHECK(boot(boxes[i]) == BOXLITE_BOOT_RESTORED);
        CHECK(templates_made(runtime) == i + 1 && count_templates("", NULL) == (int)i + 1);
    }
    for (int i = 0; i < 4; i++)
        is_of_size(boxes[i], (int)shapes[i].cpus, shapes[i].memory_mib);
    PRINTS(boxes[1], "for i in 0 1; do taskset -c $i sh -c 'sed -n \"s/^Cpus_allowed_list:.//p\" /proc/self/status' & wait $!; done", "0\n1\n");
    // More than the other shapes have, with marks all over it.
    PRINTS(boxes[2],
           "mkdir /m && mount -t tmpfs -o size=640m none /m && cd /m && "
           "for i in 0 1 2 3 4 5; do (echo mark $i; dd if=/dev/zero bs=1M count=100) >>file 2>/dev/null; done; "
           "for i in 0 1 2 3 4 5; do dd if=file bs=1 skip=$((i * 104857607)) count=7 2>/dev/null; done",
           "mark 0\nmark 1\nmark 2\nmark 3\nmark 4\nmark 5\n");
    for (int i = 0; i < 4; i++) {
        stop_box(boxes[i]);
        CHECK(boot(boxes[i]) == BOXLITE_BOOT_RESTORED);
        remove_box(runtime, boxes[i]);
    }
    CHECK(templates_made(runtime) == 4 && detours(runtime) == 0);
    close_runtime(runtime);
}

static void an_old_one_is_made_anew(void)
{
    boxlite_runtime_options *options;
    OK(boxlite_runtime_options_new(&options, &error));
    FAILS(boxlite_runtime_options_set_template_age_s(options, 0, &error), BOXLITE_INVALID_ARGUMENT, "template_age_s");
    boxlite_runtime_options_free(options);

    boxlite_runtime *runtime = open_limited(1, 0);
    boxlite_box *box = new_box(runtime);
    warnings w = {""};
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED && templates_made(runtime) == 1);
    stop_box(box);
    sleep_ms(3000);
    listen_to_warnings(runtime, &w);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED && templates_made(runtime) == 2);
    dispatch_all(runtime);
    CHECK(detours(runtime) == 1 && strstr(w.text, "too old"));
    CHECK(count_templates("", NULL) == 1);
    remove_box(runtime, box);
    boxlite_runtime_free(runtime);

    // Another program may be content with the same template.
    runtime = open_limited(3600, 0);
    box = new_box(runtime);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED && templates_made(runtime) == 0);
    remove_box(runtime, box);
    close_runtime(runtime);
}

static void what_takes_too_much_space_goes_unless_it_is_used(void)
{
    boxlite_runtime *runtime = open_limited(0, 1);
    boxlite_box *used = shaped_box(runtime, 1, 256), *idle = shaped_box(runtime, 1, 320);
    boxlite_box *third = shaped_box(runtime, 1, 384);
    char of_used[256];
    CHECK(boot(used) == BOXLITE_BOOT_RESTORED && count_templates("", of_used) == 1);
    CHECK(boot(idle) == BOXLITE_BOOT_RESTORED && count_templates("", NULL) == 2);
    stop_box(idle);
    CHECK(boot(third) == BOXLITE_BOOT_RESTORED && count_templates("", NULL) == 2);
    char path[400];
    snprintf(path, sizeof path, "%s/templates/%s/ram", home, of_used);
    CHECK(access(path, F_OK) == 0);
    CHECK(templates_made(runtime) == 3);

    // What went is made again, and what was kept is good still.
    CHECK(boot(idle) == BOXLITE_BOOT_RESTORED && templates_made(runtime) == 4);
    stop_box(used);
    CHECK(boot(used) == BOXLITE_BOOT_RESTORED && templates_made(runtime) == 4);
    CHECK(detours(runtime) == 0);
    CHECK(count_templates(".new", NULL) == 0 && count_templates(".old", NULL) == 0);
    remove_box(runtime, used);
    remove_box(runtime, idle);
    remove_box(runtime, third);
    close_runtime(runtime);
}

int main(void)
{
    the_first_start_makes_one_and_the_next_use_it();
    another_program_uses_it_too();
    a_cold_boot_makes_none();
    each_shape_has_its_own();
    an_old_one_is_made_anew();
    what_takes_too_much_space_goes_unless_it_is_used();
    return 0;
}
