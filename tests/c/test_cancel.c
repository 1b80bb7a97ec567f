// Operations that are cancelled at any moment: what they had half done is undone.
#include "check.h"

static boxlite_box_options *named(const char *name)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, name, &error));
    return options;
}

static bool exists(boxlite_runtime *runtime, const char *name)
{
    boxlite_op *op;
    OK(boxlite_box_get(runtime, name, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, NULL);
    CHECK(status == BOXLITE_OK || status == BOXLITE_NOT_FOUND);
    boxlite_op_free(op);
    return status == BOXLITE_OK;
}

static void remove_named(boxlite_runtime *runtime, const char *name)
{
    boxlite_op *op;
    OK(boxlite_box_remove(runtime, name, true, &op, &error));
    wait_op(op);
}

static void stop(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_stop(box, 0, &op, &error));
    wait_op(op);
    EVENTUALLY(count_machines() == 0);
}

// A start that is cancelled at any moment: no machine, and the box starts again.
static void a_cancelled_start_leaves_no_machine(boxlite_box *box)
{
    int cancelled = 0;
    for (int i = 0; i < 8; i++) {
        boxlite_op *op;
        stop(box);
        OK(boxlite_box_start(box, &op, &error));
        sleep_ms(i * 40);
        OK(boxlite_op_cancel(op, &error));
        boxlite_status status = boxlite_op_wait(op, 60000, NULL);
        boxlite_op_free(op);
        CHECK(status == BOXLITE_CANCELLED || status == BOXLITE_OK);
        if (status == BOXLITE_CANCELLED) {
            cancelled++;
            EVENTUALLY(count_machines() == 0);
        }
        // At once: the end of the cancelled one is waited for.
        OK(boxlite_box_start(box, &op, &error));
        wait_op(op);
    }
    CHECK(cancelled > 0);
    PRINTS(box, "echo works", "works\n");
}

// Cancelled at any moment: a box that is said to be cancelled does not stay.
static void a_cancelled_creation_leaves_no_box(boxlite_runtime *runtime)
{
    enum { TRIES = 60 };
    int cancelled = 0;
    size_t before = count_boxes(runtime);
    for (int i = 0; i < TRIES; i++) {
        boxlite_op *op;
        char name[32];
        snprintf(name, sizeof name, "cancelled-%d", i);
        boxlite_box_options *options = named(name);
        OK(boxlite_box_create(runtime, options, &op, &error));
        boxlite_box_options_free(options);
        // From the first moment to beyond the end of a creation whose disk is there already.
        nanosleep(&(struct timespec){0, i * 250000}, NULL);
        OK(boxlite_op_cancel(op, &error));
        boxlite_status status = boxlite_op_wait(op, 60000, &error);
        boxlite_op_free(op);
        if (status != BOXLITE_CANCELLED && status != BOXLITE_OK)
            FAIL("try %d: %s: %s", i, boxlite_status_name(status), boxlite_error_message(error));
        boxlite_error_free(error);
        error = NULL;
        CHECK(status != BOXLITE_OK || exists(runtime, name));
        if (status == BOXLITE_CANCELLED)
            cancelled++;
        else
            remove_named(runtime, name);
    }
    CHECK(cancelled > 0);
    // What is half done may still be being undone.
    EVENTUALLY(count_boxes(runtime) == before);
    char command[256];
    snprintf(command, sizeof command, "test $(ls %s/boxes | wc -l) = %zu", home, before);
    EVENTUALLY(system(command) == 0);
    CHECK(count_boxes(runtime) == before);
}

// A stop that is cancelled is waited for by nobody, and comes to its end all the same.
static void a_cancelled_stop_goes_on(boxlite_box *box)
{
    for (int i = 0; i < 5; i++) {
        boxlite_op *op;
        boxlite_exec *exec = start(box, "trap '' TERM; sleep 1000");
        OK(boxlite_box_stop(box, 500, &op, &error));
        EVENTUALLY(status_of(box) == BOXLITE_BOX_STOPPING);
        OK(boxlite_op_cancel(op, &error));
        FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_CANCELLED, "");
        boxlite_op_free(op);
        EVENTUALLY(status_of(box) == BOXLITE_BOX_STOPPED && count_machines() == 0);
        boxlite_exec_free(exec);
        PRINTS(box, "echo again", "again\n");
    }
}

// Whether a removal has begun: the box is being stopped, or is gone already.
static bool is_going(boxlite_box *box)
{
    boxlite_op *op;
    boxlite_box_info *info;
    OK(boxlite_box_inspect(box, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, NULL);
    CHECK(status == BOXLITE_OK || status == BOXLITE_NOT_FOUND);
    bool going = status == BOXLITE_NOT_FOUND;
    if (!going) {
        OK(boxlite_op_take_info(op, &info, &error));
        going = boxlite_box_info_status(info) != BOXLITE_BOX_RUNNING;
        boxlite_box_info_free(info);
    }
    boxlite_op_free(op);
    return going;
}

// And so does a removal, which is a stop first.
static void a_cancelled_removal_goes_on(boxlite_runtime *runtime)
{
    for (int i = 0; i < 5; i++) {
        boxlite_op *op;
        boxlite_box *box = create_box(runtime, named("removed"));
        PRINTS(box, "echo up", "up\n");
        OK(boxlite_box_remove(runtime, "removed", true, &op, &error));
        EVENTUALLY(is_going(box));
        OK(boxlite_op_cancel(op, &error));
        boxlite_status status = boxlite_op_wait(op, 60000, NULL);
        CHECK(status == BOXLITE_CANCELLED || status == BOXLITE_OK);
        boxlite_op_free(op);
        EVENTUALLY(!exists(runtime, "removed"));
        boxlite_box_free(box);
    }
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    a_cancelled_start_leaves_no_machine(box);
    a_cancelled_creation_leaves_no_box(runtime);
    a_cancelled_stop_goes_on(box);
    remove_box(runtime, box);
    a_cancelled_removal_goes_on(runtime);
    close_runtime(runtime);
    return 0;
}
