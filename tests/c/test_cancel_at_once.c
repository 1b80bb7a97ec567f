// An operation that has completed as cancelled has left nothing, not even for a moment.
#include "check.h"

static boxlite_box_options *named(const char *name)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, name, &error));
    return options;
}

int main(void)
{
    enum { TRIES = 60 };
    boxlite_runtime *runtime = open_runtime();
    int cancelled = 0;
    for (int i = 0; i < TRIES; i++) {
        boxlite_op *op;
        boxlite_box_options *options = named("cancelled");
        OK(boxlite_box_create(runtime, options, &op, &error));
        nanosleep(&(struct timespec){0, i * 250000}, NULL);
        OK(boxlite_op_cancel(op, &error));
        boxlite_status status = boxlite_op_wait(op, 60000, NULL);
        boxlite_op_free(op);
        CHECK(status == BOXLITE_CANCELLED || status == BOXLITE_OK);
        if (status == BOXLITE_CANCELLED) {
            cancelled++;
            CHECK(count_boxes(runtime) == 0);
            // The name is free.
            OK(boxlite_box_create(runtime, options, &op, &error));
            wait_op(op);
        }
        boxlite_box_options_free(options);
        OK(boxlite_box_remove(runtime, "cancelled", true, &op, &error));
        wait_op(op);
    }
    CHECK(cancelled > 0);
    close_runtime(runtime);
    return 0;
}
