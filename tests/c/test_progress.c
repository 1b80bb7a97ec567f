// The progress of operations: bytes of the image, then each stage and how long it took.
#include "check.h"

typedef struct {
    char stages[512];
    uint64_t microseconds, done, total;
} progress;

static void note(void *user_data, const boxlite_progress *step)
{
    progress *p = user_data;
    const char *stage = boxlite_progress_stage(step);
    if (stage) {
        strcat(strcat(p->stages, boxlite_progress_began(step) ? "begin " : ""), stage);
        strcat(p->stages, ",");
        p->microseconds += boxlite_progress_microseconds(step);
        CHECK(boxlite_progress_bytes_done(step) == 0 && boxlite_progress_bytes_total(step) == 0);
    } else {
        CHECK(boxlite_progress_bytes_done(step) >= p->done);
        p->done = boxlite_progress_bytes_done(step);
        p->total = boxlite_progress_bytes_total(step);
        CHECK(p->done <= p->total && boxlite_progress_microseconds(step) == 0);
    }
}

// Dispatches until an operation is done and there is no more to tell.
static void follow(boxlite_runtime *runtime, boxlite_op *op, progress *p)
{
    boxlite_status status;
    OK(boxlite_op_on_progress(op, note, p, NULL, &error));
    for (bool done = false; !done;) {
        done = boxlite_op_is_done(op);
        while ((status = boxlite_dispatch(runtime, 20, NULL, &error)) == BOXLITE_OK)
            ;
        CHECK(status == BOXLITE_TIMEOUT);
    }
    OK(boxlite_op_wait(op, 0, &error));
}

static void follow_start(boxlite_runtime *runtime, boxlite_box *box, const char *stages)
{
    boxlite_op *op;
    progress started = {0};
    OK(boxlite_box_start(box, &op, &error));
    follow(runtime, op, &started);
    if (strcmp(started.stages, stages))
        fprintf(stderr, "stages: %s\n", started.stages);
    CHECK(!strcmp(started.stages, stages));
    CHECK(started.total == 0 && started.microseconds > 0);
    boxlite_op_free(op);
}

static void stop_box(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_stop(box, 5000, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    boxlite_op_free(op);
}

static void make_cold(boxlite_runtime *runtime, boxlite_box **box)
{
    boxlite_box_options *options;
    boxlite_op *op;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_cold_boot(options, true, &error));
    OK(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, box, &error));
    boxlite_op_free(op);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box_options *options;
    boxlite_op *op;
    boxlite_box *box;

    progress made = {0};
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    follow(runtime, op, &made);
    CHECK(!strcmp(made.stages, "image,base disk,box,"));
    CHECK(made.total > 0 && made.done == made.total && made.microseconds > 0);
    OK(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);

    // The first start of a kind of machine makes its template, and that of a disk one that has it; the
    // next ones use it.
    follow_start(runtime, box,
                 "admission,configuration,spawn,supervisor,begin preparing disk template,begin preparing machine template,"
                 "template,disk template,restore,setup,");
    stop_box(box);
    follow_start(runtime, box, "admission,configuration,spawn,supervisor,restore,setup,");
    remove_box(runtime, box);

    make_cold(runtime, &box);
    follow_start(runtime, box, "admission,configuration,spawn,supervisor,machine,boot,setup,");
    remove_box(runtime, box);

    // What happened before anybody asked is told too.
    progress remembered = {0};
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    OK(boxlite_op_wait(op, 60000, &error));
    follow(runtime, op, &remembered);
    CHECK(!strcmp(remembered.stages, "image,base disk,box,"));
    OK(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
