// Handles are counted, keep alive what they came from, and may be freed in any order.
#include "check.h"
#include <pthread.h>

typedef struct {
    int calls, destroyed;
    bytes got;
} witness;

static void destroy(void *user_data)
{
    ((witness *)user_data)->destroyed++;
}

static void on_stdout(void *user_data, const uint8_t *data, size_t length)
{
    witness *w = user_data;
    w->calls++;
    append(&w->got, data, length);
}

static void on_complete(void *user_data, boxlite_op *op)
{
    CHECK(boxlite_op_is_done(op));
    ((witness *)user_data)->calls++;
}

static void null_has_no_handles(void)
{
    CHECK(!boxlite_runtime_ref(NULL) && !boxlite_box_ref(NULL) && !boxlite_exec_ref(NULL) && !boxlite_op_ref(NULL));
}

// Handles of each kind, freed in an order of their own. The machine is there until the last.
static void any_order_will_do(const char *order)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    boxlite_exec *exec = start(box, "exec sleep 1000");
    boxlite_op *op;
    OK(boxlite_box_inspect(box, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    for (const char *next = order; *next; next++) {
        switch (*next) {
        case 'r':
            CHECK(boxlite_runtime_ref(runtime) == runtime);
            boxlite_runtime_free(runtime);
            CHECK(boxlite_event_fd(runtime) >= 0);
            boxlite_runtime_free(runtime);
            break;
        case 'b':
            CHECK(boxlite_box_ref(box) == box);
            boxlite_box_free(box);
            CHECK(strlen(boxlite_box_id(box)) == 26);
            boxlite_box_free(box);
            break;
        case 'e':
            CHECK(boxlite_exec_ref(exec) == exec);
            boxlite_exec_free(exec);
            CHECK(boxlite_exec_message(exec) == NULL);
            boxlite_exec_free(exec);
            break;
        case 'o':
            CHECK(boxlite_op_ref(op) == op);
            boxlite_op_free(op);
            CHECK(boxlite_op_is_done(op));
            boxlite_op_free(op);
            break;
        }
        if (next[1]) {
            sleep_ms(30);
            CHECK(count_machines() == 1);
        }
    }
    EVENTUALLY(count_machines() == 0);
    // The box is still known, and stopped.
    runtime = open_runtime();
    CHECK(count_boxes(runtime) == 1);
    close_runtime(runtime);
}

static void an_exec_needs_neither_box_nor_runtime(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    boxlite_exec_options *options = shell("read x; echo $x; exec sleep 1000");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    boxlite_exec *exec = start_with(box, options);
    boxlite_runtime_free(runtime);
    boxlite_box_free(box);
    size_t written;
    uint8_t data[10];
    size_t length;
    boxlite_op *op;
    int32_t code;
    OK(boxlite_exec_write(exec, (const uint8_t *)"hello\n", 6, &written, &error));
    EVENTUALLY(boxlite_exec_read(exec, BOXLITE_STDOUT, data, sizeof data, &length, NULL) == BOXLITE_OK);
    CHECK(length == 6 && !memcmp(data, "hello\n", 6));
    OK(boxlite_exec_signal(exec, SIGTERM, &op, &error));
    // Its operation needs not even the exec.
    CHECK(boxlite_exec_ref(exec) == exec);
    boxlite_exec_free(exec);
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_exec_on_stdout(exec, NULL, NULL, NULL, &error));
    OK(boxlite_exec_wait(exec, 60000, &code, &error));
    CHECK(code == 128 + SIGTERM);
    boxlite_exec_free(exec);
    CHECK(count_machines() == 1);
    boxlite_op_free(op);
    EVENTUALLY(count_machines() == 0);
    close_runtime(open_runtime());
}

static void a_box_needs_neither_operation_nor_runtime(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_op *op;
    boxlite_box_options *options;
    boxlite_box *box;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    boxlite_runtime_free(runtime);
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    PRINTS(box, "echo alone", "alone\n");
    boxlite_box_free(box);
    EVENTUALLY(count_machines() == 0);
    close_runtime(open_runtime());
}

static void callbacks_stay_until_the_last_handle(boxlite_runtime *runtime, boxlite_box *box)
{
    witness w = {0};
    boxlite_exec_options *options = shell("while read x; do echo $x; done");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    boxlite_exec *exec = start_with(box, options);
    size_t written;
    OK(boxlite_exec_on_stdout(exec, on_stdout, &w, destroy, &error));
    for (int i = 0; i < 3; i++)
        CHECK(boxlite_exec_ref(exec) == exec);
    for (int i = 0; i < 3; i++) {
        boxlite_exec_free(exec);
        CHECK(w.destroyed == 0);
        OK(boxlite_exec_write(exec, (const uint8_t *)"line\n", 5, &written, &error));
        DISPATCH_UNTIL(runtime, w.got.length == 5 * (size_t)(i + 1));
    }
    int calls = w.calls;
    OK(boxlite_exec_write(exec, (const uint8_t *)"last\n", 5, &written, &error));
    boxlite_exec_free(exec);
    CHECK(w.destroyed == 1);
    PRINTS(box, "sleep 0.2; echo x", "x\n");
    dispatch_all(runtime);
    CHECK(w.calls == calls && w.destroyed == 1);
    free(w.got.data);

    w = (witness){0};
    boxlite_op *op;
    OK(boxlite_box_inspect(box, &op, &error));
    OK(boxlite_op_on_complete(op, on_complete, &w, destroy, &error));
    boxlite_op_free(boxlite_op_ref(op));
    CHECK(w.destroyed == 0);
    DISPATCH_UNTIL(runtime, w.calls == 1);
    CHECK(w.destroyed == 1);
    boxlite_op_free(op);
    CHECK(w.destroyed == 1);
}

typedef struct {
    boxlite_runtime *runtime;
    boxlite_box *box;
    boxlite_exec *exec;
    boxlite_op *op;
} all;

static void *count_up_and_down(void *user_data)
{
    all *a = user_data;
    for (int i = 0; i < 5000; i++) {
        boxlite_runtime *runtime = boxlite_runtime_ref(a->runtime);
        boxlite_box *box = boxlite_box_ref(a->box);
        boxlite_exec *exec = boxlite_exec_ref(a->exec);
        boxlite_op *op = boxlite_op_ref(a->op);
        boxlite_runtime_free(runtime);
        boxlite_op_free(op);
        boxlite_box_free(box);
        boxlite_exec_free(exec);
    }
    return NULL;
}

static void threads_may_share_handles(boxlite_runtime *runtime, boxlite_box *box)
{
    pthread_t threads[4];
    witness w = {0};
    all a = {.runtime = runtime, .box = box, .exec = start(box, "echo shared")};
    OK(boxlite_exec_on_stdout(a.exec, on_stdout, &w, destroy, &error));
    OK(boxlite_box_inspect(box, &a.op, &error));
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, count_up_and_down, &a) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK(w.destroyed == 0);
    OK(boxlite_exec_wait(a.exec, 60000, NULL, &error));
    CHECK(!strcmp((char *)w.got.data, "shared\n"));
    wait_op(a.op);
    boxlite_exec_free(a.exec);
    CHECK(w.destroyed == 1);
    free(w.got.data);
}

int main(void)
{
    null_has_no_handles();
    const char *orders[] = {"rbeo", "oebr", "ebro", "bore"};
    for (int i = 0; i < 4; i++)
        any_order_will_do(orders[i]);
    an_exec_needs_neither_box_nor_runtime();
    a_box_needs_neither_operation_nor_runtime();
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    callbacks_stay_until_the_last_handle(runtime, box);
    threads_may_share_handles(runtime, box);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
