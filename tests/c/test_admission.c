// A box that the host cannot hold is refused before it starts, and nothing changes.
#include "check.h"

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    // A tebibyte: more than any host that runs this has to spare.
    boxlite_box_options *options;
    boxlite_op *op;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_memory_mib(options, 1048576, &error));
    boxlite_box *huge = create_box(runtime, options);
    OK(boxlite_box_start(huge, &op, &error));
    CHECK(boxlite_op_wait(op, 60000, &error) == BOXLITE_RESOURCE_EXHAUSTED);
    CHECK(strstr(boxlite_error_message(error), "the host has"));
    CHECK(strstr(boxlite_error_message(error), "give the box less memory"));
    CHECK(strcmp(boxlite_error_object(error), "memory") == 0);
    CHECK(boxlite_error_errno(error) == ENOMEM);
    CHECK(boxlite_error_is_retryable(error));
    boxlite_error_free(error);
    boxlite_op_free(op);
    CHECK(status_of(huge) == BOXLITE_BOX_CONFIGURED);
    CHECK(count_machines() == 0);
    remove_box(runtime, huge);

    // One that the host can hold is let in.
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo let in", "let in\n");
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
