// What the examples share: ending when a call fails, and steps that are taken blocking.
#include <boxlite.h>
#include <stdio.h>
#include <stdlib.h>

static boxlite_error *error;

// Ends the program if a call failed; the boxes that it runs end with it.
static inline void check(boxlite_status status)
{
    if (status == BOXLITE_OK)
        return;
    fprintf(stderr, "%s: %s\n", boxlite_status_name(status), boxlite_error_message(error));
    boxlite_error_free(error);
    exit(125);
}

// Waits for an operation that has no result, and frees it.
static inline void finish(boxlite_op *op)
{
    check(boxlite_op_wait(op, -1, &error));
    boxlite_op_free(op);
}

// Makes a box from an image: a disk, which nothing runs on yet.
static inline boxlite_box *make_box(boxlite_runtime *runtime, const char *image, uint32_t mib)
{
    boxlite_box_options *options;
    boxlite_box *box;
    boxlite_op *op;

    check(boxlite_box_options_new(image, &options, &error));
    check(boxlite_box_options_set_memory_mib(options, mib, &error));
    check(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    check(boxlite_op_wait(op, -1, &error));
    check(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    return box;
}

// Removes a box, also one that runs, and frees its handle.
static inline void remove_box(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_op *op;

    check(boxlite_box_remove(runtime, boxlite_box_id(box), true, &op, &error));
    finish(op);
    boxlite_box_free(box);
}
