// Operations: waited for, watched, cancelled, taken from and freed in every order.
#include "check.h"
#include <pthread.h>

// What callbacks saw.
typedef struct {
    boxlite_runtime *runtime;
    boxlite_op *op;
    int completed, progressed, destroyed;
    bool free_it, take_it;
    char stages[512];
    uint64_t bytes_done, bytes_total;
} witness;

static void on_complete(void *user_data, boxlite_op *op)
{
    witness *w = user_data;
    w->completed++;
    CHECK(op == w->op && boxlite_op_is_done(op));
    if (w->take_it) {
        boxlite_box *box;
        OK(boxlite_op_take_box(op, &box, &error));
        CHECK(*boxlite_box_id(box));
        boxlite_box_free(box);
    }
    if (w->free_it)
        boxlite_op_free(op);
}

static void on_progress(void *user_data, const boxlite_progress *progress)
{
    witness *w = user_data;
    const char *stage = boxlite_progress_stage(progress);
    w->progressed++;
    // Nothing comes after the end.
    CHECK(w->completed == 0);
    if (stage) {
        CHECK(boxlite_progress_bytes_total(progress) == 0);
        strcat(w->stages, stage);
        strcat(w->stages, ",");
    } else {
        CHECK(boxlite_progress_bytes_done(progress) >= w->bytes_done);
        CHECK(boxlite_progress_microseconds(progress) == 0);
        w->bytes_done = boxlite_progress_bytes_done(progress);
        w->bytes_total = boxlite_progress_bytes_total(progress);
    }
    if (w->free_it)
        boxlite_op_free(w->op);
}

static void destroy(void *user_data)
{
    ((witness *)user_data)->destroyed++;
}

static boxlite_op *get(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_get(runtime, boxlite_box_id(box), &op, &error));
    return op;
}

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

static void freed_while_under_way_the_work_goes_on(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box_options *options = named("goes-on");
    OK(boxlite_box_create(runtime, options, &op, &error));
    boxlite_op_free(op);
    boxlite_box_options_free(options);
    EVENTUALLY(exists(runtime, "goes-on"));
    remove_named(runtime, "goes-on");
}

static void a_result_is_taken_once_and_as_what_it_is(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_op *op = get(runtime, box);
    boxlite_box *taken = NULL, *again = NULL;
    boxlite_exec *exec = NULL;
    boxlite_box_info *info = NULL;
    boxlite_info_list *list = NULL;
    boxlite_output *output = NULL;
    OK(boxlite_op_wait(op, 60000, &error));
    FAILS(boxlite_op_take_exec(op, &exec, &error), BOXLITE_INVALID_STATE, "another type");
    FAILS(boxlite_op_take_info(op, &info, &error), BOXLITE_INVALID_STATE, "another type");
    FAILS(boxlite_op_take_info_list(op, &list, &error), BOXLITE_INVALID_STATE, "another type");
    FAILS(boxlite_op_take_output(op, &output, &error), BOXLITE_INVALID_STATE, "another type");
    OK(boxlite_op_take_box(op, &taken, &error));
    FAILS(boxlite_op_take_box(op, &again, &error), BOXLITE_INVALID_STATE, "taken already");
    FAILS(boxlite_op_take_exec(op, &exec, &error), BOXLITE_INVALID_STATE, "");
    CHECK(!exec && !info && !list && !output && !again);
    CHECK(!strcmp(boxlite_box_id(taken), boxlite_box_id(box)));
    // It has succeeded all the same.
    OK(boxlite_op_wait(op, 0, &error));
    boxlite_op_free(op);
    boxlite_box_free(taken);

    // A result that nobody takes.
    op = get(runtime, box);
    OK(boxlite_op_wait(op, 60000, &error));
    boxlite_op_free(op);

    // An operation without a result.
    OK(boxlite_box_start(box, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    FAILS(boxlite_op_take_box(op, &again, &error), BOXLITE_INVALID_STATE, "");
    boxlite_op_free(op);
    CHECK(!again);
}

static void a_failure_is_told_as_often_as_it_is_asked_for(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box *box = NULL;
    boxlite_exec *exec = NULL;
    OK(boxlite_box_get(runtime, "nobody", &op, &error));
    for (int i = 0; i < 2; i++) {
        FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_NOT_FOUND, "nobody");
        FAILS(boxlite_op_take_box(op, &box, &error), BOXLITE_NOT_FOUND, "nobody");
        FAILS(boxlite_op_take_exec(op, &exec, &error), BOXLITE_NOT_FOUND, "nobody");
    }
    CHECK(!box && !exec && boxlite_op_is_done(op));
    OK(boxlite_op_cancel(op, &error));
    FAILS(boxlite_op_wait(op, 0, &error), BOXLITE_NOT_FOUND, "nobody");
    boxlite_op_free(op);
}

static void stop(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_stop(box, 0, &op, &error));
    wait_op(op);
    EVENTUALLY(count_machines() == 0);
}

// The box is stopped before: a command takes as long as its start.
static void before_completion_there_is_nothing_to_take(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_op *op;
    boxlite_exec *exec = NULL;
    boxlite_exec_options *options = shell("echo ran > /ran");
    stop(box);
    OK(boxlite_box_exec(box, options, &op, &error));
    FAILS(boxlite_op_take_exec(op, &exec, &error), BOXLITE_INVALID_STATE, "not completed");
    CHECK(!exec && !boxlite_op_is_done(op));
    CHECK(boxlite_op_wait(op, 0, &error) == BOXLITE_TIMEOUT);
    CHECK(boxlite_error_code(error) == BOXLITE_TIMEOUT && boxlite_error_is_retryable(error));
    boxlite_error_free(error);
    error = NULL;

    // Cancelled, twice: nothing of it is left.
    OK(boxlite_op_cancel(op, &error));
    OK(boxlite_op_cancel(op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_CANCELLED, "cancelled");
    FAILS(boxlite_op_take_exec(op, &exec, &error), BOXLITE_CANCELLED, "cancelled");
    CHECK(!exec && boxlite_op_is_done(op));
    boxlite_op_free(op);
    boxlite_exec_options_free(options);
    EVENTUALLY(count_machines() == 0);
    PRINTS(box, "[ -e /ran ] || echo never", "never\n");

    // After completion there is nothing to cancel.
    op = get(runtime, box);
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_cancel(op, &error));
    OK(boxlite_op_wait(op, 0, &error));
    boxlite_box *taken;
    OK(boxlite_op_take_box(op, &taken, &error));
    boxlite_box_free(taken);
    boxlite_op_free(op);
}

static void *wait_for(void *op)
{
    return (void *)(intptr_t)boxlite_op_wait(op, 60000, NULL);
}

static void *dispatch_for_ever(void *user_data)
{
    witness *w = user_data;
    while (__atomic_load_n(&w->completed, __ATOMIC_ACQUIRE) == 0)
        CHECK(boxlite_dispatch(w->runtime, 100, NULL, NULL) != BOXLITE_BUSY);
    return NULL;
}

static void count_completion(void *user_data, boxlite_op *op)
{
    (void)op;
    __atomic_add_fetch(&((witness *)user_data)->completed, 1, __ATOMIC_ACQ_REL);
}

// From four threads, while nobody dispatches or another thread does.
static void many_may_wait(boxlite_runtime *runtime, boxlite_box *box)
{
    for (int round = 0; round < 2; round++) {
        boxlite_op *op;
        pthread_t threads[4], dispatcher;
        witness w = {.runtime = runtime};
        stop(box);
        OK(boxlite_box_start(box, &op, &error));
        OK(boxlite_op_on_complete(op, count_completion, &w, destroy, &error));
        if (round == 1)
            CHECK(pthread_create(&dispatcher, NULL, dispatch_for_ever, &w) == 0);
        for (int i = 0; i < 4; i++)
            CHECK(pthread_create(&threads[i], NULL, wait_for, op) == 0);
        for (int i = 0; i < 4; i++) {
            void *status;
            pthread_join(threads[i], &status);
            CHECK((intptr_t)status == BOXLITE_OK);
        }
        if (round == 1)
            pthread_join(dispatcher, NULL);
        else
            CHECK(w.completed == 0);
        DISPATCH_UNTIL(runtime, w.completed == 1);
        dispatch_all(runtime);
        CHECK(w.completed == 1 && w.destroyed == 1);
        boxlite_op_free(op);
        CHECK(w.destroyed == 1);
    }
}

static void completion_is_told_once(boxlite_runtime *runtime, boxlite_box *box)
{
    // Set after completion, and dispatched: once.
    witness a = {0}, b = {0};
    boxlite_op *op = a.op = b.op = get(runtime, box);
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_on_complete(op, on_complete, &a, destroy, &error));
    CHECK(a.completed == 0);
    DISPATCH_UNTIL(runtime, a.completed == 1);
    CHECK(a.destroyed == 1);
    // Who asks again is told again; nobody else is.
    OK(boxlite_op_on_complete(op, on_complete, &b, destroy, &error));
    DISPATCH_UNTIL(runtime, b.completed == 1);
    dispatch_all(runtime);
    CHECK(a.completed == 1 && b.completed == 1 && b.destroyed == 1);
    boxlite_op_free(op);

    // Replaced before it was called.
    a = b = (witness){0};
    op = a.op = b.op = get(runtime, box);
    OK(boxlite_op_on_complete(op, on_complete, &a, destroy, &error));
    OK(boxlite_op_on_complete(op, on_complete, &b, destroy, &error));
    CHECK(a.destroyed == 1 && b.destroyed == 0);
    DISPATCH_UNTIL(runtime, b.completed == 1);
    dispatch_all(runtime);
    CHECK(a.completed == 0 && b.completed == 1 && b.destroyed == 1);
    boxlite_op_free(op);

    // Removed before it was called, also when it was due.
    for (int waits = 0; waits < 2; waits++) {
        a = (witness){0};
        op = a.op = get(runtime, box);
        OK(boxlite_op_on_complete(op, on_complete, &a, destroy, &error));
        if (waits)
            OK(boxlite_op_wait(op, 60000, &error));
        OK(boxlite_op_on_complete(op, NULL, NULL, NULL, &error));
        CHECK(a.destroyed == 1);
        OK(boxlite_op_wait(op, 60000, &error));
        dispatch_all(runtime);
        CHECK(a.completed == 0 && a.destroyed == 1);
        boxlite_op_free(op);
    }

    // Freed before it was called, also when it was due.
    for (int waits = 0; waits < 2; waits++) {
        a = (witness){0};
        op = a.op = get(runtime, box);
        OK(boxlite_op_on_complete(op, on_complete, &a, destroy, &error));
        if (waits)
            OK(boxlite_op_wait(op, 60000, &error));
        boxlite_op_free(op);
        CHECK(a.destroyed == 1);
        sleep_ms(20);
        dispatch_all(runtime);
        CHECK(a.completed == 0 && a.destroyed == 1);
    }

    // Result taken and operation freed inside its own callback.
    a = (witness){.take_it = true, .free_it = true};
    a.op = get(runtime, box);
    OK(boxlite_op_on_complete(a.op, on_complete, &a, destroy, &error));
    DISPATCH_UNTIL(runtime, a.completed == 1);
    dispatch_all(runtime);
    CHECK(a.completed == 1 && a.destroyed == 1);

    // With another handle left, the operation stays.
    a = (witness){.free_it = true};
    a.op = get(runtime, box);
    CHECK(boxlite_op_ref(a.op) == a.op);
    OK(boxlite_op_on_complete(a.op, on_complete, &a, destroy, &error));
    DISPATCH_UNTIL(runtime, a.completed == 1);
    OK(boxlite_op_wait(a.op, 0, &error));
    boxlite_op_free(a.op);
}

static void progress_tells_each_stage(boxlite_runtime *runtime, boxlite_box *box)
{
    witness w = {0};
    stop(box);
    OK(boxlite_box_start(box, &w.op, &error));
    OK(boxlite_op_on_progress(w.op, on_progress, &w, destroy, &error));
    OK(boxlite_op_on_complete(w.op, on_complete, &w, destroy, &error));
    DISPATCH_UNTIL(runtime, w.completed == 1);
    if (strcmp(w.stages, "admission,configuration,spawn,supervisor,restore,setup,") != 0)
        FAIL("stages: %s", w.stages);
    CHECK(w.progressed == 6 && w.destroyed == 1);
    boxlite_op_free(w.op);
    CHECK(w.destroyed == 2);

    // Asked for after the end: as far as it is remembered, which here is all.
    w = (witness){0};
    stop(box);
    OK(boxlite_box_start(box, &w.op, &error));
    OK(boxlite_op_wait(w.op, 60000, &error));
    OK(boxlite_op_on_progress(w.op, on_progress, &w, destroy, &error));
    dispatch_all(runtime);
    CHECK(!strcmp(w.stages, "admission,configuration,spawn,supervisor,restore,setup,"));
    OK(boxlite_op_on_progress(w.op, NULL, NULL, NULL, &error));
    CHECK(w.destroyed == 1);
    boxlite_op_free(w.op);

    // A new base disk: bytes up to their total, beside the stages.
    w = (witness){0};
    boxlite_box_options *options = named("progress");
    OK(boxlite_box_options_set_disk_size_mib(options, 900, &error));
    OK(boxlite_box_create(runtime, options, &w.op, &error));
    boxlite_box_options_free(options);
    OK(boxlite_op_on_progress(w.op, on_progress, &w, destroy, &error));
    OK(boxlite_op_on_complete(w.op, on_complete, &w, destroy, &error));
    DISPATCH_UNTIL(runtime, w.completed == 1);
    if (strcmp(w.stages, "image,base disk,box,") != 0)
        FAIL("stages: %s", w.stages);
    CHECK(w.bytes_total > 0 && w.bytes_done == w.bytes_total);
    boxlite_op_free(w.op);
    CHECK(w.destroyed == 2);
    remove_named(runtime, "progress");

    // Freed inside its own progress callback: never called again, and the box starts all the same.
    w = (witness){.free_it = true};
    stop(box);
    OK(boxlite_box_start(box, &w.op, &error));
    OK(boxlite_op_on_progress(w.op, on_progress, &w, destroy, &error));
    OK(boxlite_op_on_complete(w.op, on_complete, &w, destroy, &error));
    DISPATCH_UNTIL(runtime, w.progressed == 1);
    PRINTS(box, "echo started", "started\n");
    dispatch_all(runtime);
    CHECK(w.progressed == 1 && w.completed == 0 && w.destroyed == 2);
}

// How it ended can be asked for inside the callback, where nobody may wait.
static void note_status(void *user_data, boxlite_op *op)
{
    boxlite_status *ended = user_data;
    *ended = boxlite_op_status(op, NULL);
    CHECK(boxlite_op_wait(op, 0, NULL) == BOXLITE_BUSY);
}

static void its_status_is_told_without_waiting(boxlite_runtime *runtime, boxlite_box *box)
{
    enum { UNASKED = 1000 };
    boxlite_op *op;
    boxlite_exec *exec = start(box, "trap '' TERM; sleep 1000");
    OK(boxlite_box_stop(box, 2000, &op, &error));
    FAILS(boxlite_op_status(op, &error), BOXLITE_WOULD_BLOCK, "under way");
    boxlite_status ended = UNASKED;
    OK(boxlite_op_on_complete(op, note_status, &ended, NULL, &error));
    DISPATCH_UNTIL(runtime, ended != UNASKED);
    CHECK(ended == BOXLITE_OK && boxlite_op_status(op, &error) == BOXLITE_OK && !error);
    boxlite_op_free(op);
    boxlite_exec_free(exec);

    OK(boxlite_box_remove(runtime, "nobody", false, &op, &error));
    ended = UNASKED;
    OK(boxlite_op_on_complete(op, note_status, &ended, NULL, &error));
    DISPATCH_UNTIL(runtime, ended != UNASKED);
    CHECK(ended == BOXLITE_NOT_FOUND);
    FAILS(boxlite_op_status(op, &error), BOXLITE_NOT_FOUND, "nobody");
    boxlite_op_free(op);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    freed_while_under_way_the_work_goes_on(runtime);
    a_result_is_taken_once_and_as_what_it_is(runtime, box);
    a_failure_is_told_as_often_as_it_is_asked_for(runtime);
    before_completion_there_is_nothing_to_take(runtime, box);
    many_may_wait(runtime, box);
    completion_is_told_once(runtime, box);
    progress_tells_each_stage(runtime, box);
    its_status_is_told_without_waiting(runtime, box);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
