// Operations, callbacks and handles in every order that a program may use them.
#include "check.h"
#include <poll.h>

static int destroyed;

static void destroy(void *user_data)
{
    (void)user_data;
    destroyed++;
}

typedef struct {
    boxlite_runtime *runtime;
    boxlite_exec *exec;
    bytes out;
    int done, busy;
} job;

static void on_output(void *user_data, const uint8_t *data, size_t length)
{
    job *j = user_data;
    int32_t code;
    append(&j->out, data, length);
    // A callback may call anything but dispatch and wait.
    j->busy += boxlite_dispatch(j->runtime, 0, NULL, NULL) == BOXLITE_BUSY;
    j->busy += boxlite_exec_wait(j->exec, 0, &code, NULL) == BOXLITE_BUSY;
}

static void on_exit_free(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    job *j = user_data;
    CHECK(code == 5 && signal == 0 && why == NULL);
    // Its own handle, from inside its own callback.
    boxlite_exec_free(j->exec);
    j->done = 1;
}

static void on_started(void *user_data, boxlite_op *op)
{
    job *j = user_data;
    OK(boxlite_op_take_exec(op, &j->exec, &error));
    boxlite_op_free(op);
    OK(boxlite_exec_on_stdout(j->exec, on_output, j, destroy, &error));
    OK(boxlite_exec_on_exit(j->exec, on_exit_free, j, destroy, &error));
}

static void an_event_loop_needs_nothing_but_the_descriptor(boxlite_runtime *runtime, boxlite_box *box)
{
    job j = {.runtime = runtime};
    boxlite_op *op;
    boxlite_exec_options *options = shell("echo one; sleep 0.2; echo two; exit 5");
    destroyed = 0;
    OK(boxlite_box_exec(box, options, &op, &error));
    boxlite_exec_options_free(options);
    OK(boxlite_op_on_complete(op, on_started, &j, destroy, &error));
    while (!j.done) {
        struct pollfd fd = {.fd = boxlite_event_fd(runtime), .events = POLLIN};
        CHECK(poll(&fd, 1, 60000) == 1);
        size_t left;
        do {
            left = 0;
            boxlite_status status = boxlite_dispatch(runtime, 0, &left, &error);
            CHECK(status == BOXLITE_OK || (status == BOXLITE_TIMEOUT && !error));
        } while (left);
    }
    CHECK(!strcmp((char *)j.out.data, "one\ntwo\n"));
    CHECK(j.busy == 4);
    CHECK(destroyed == 3);
    free(j.out.data);
}

static void operations_complete_once_and_give_their_result_once(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_op *op;
    boxlite_box_info *info;
    boxlite_exec *exec;
    OK(boxlite_box_inspect(box, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    FAILS(boxlite_op_take_exec(op, &exec, &error), BOXLITE_INVALID_STATE, "another type");
    OK(boxlite_op_take_info(op, &info, &error));
    FAILS(boxlite_op_take_info(op, &info, &error), BOXLITE_INVALID_STATE, "taken already");
    CHECK(boxlite_box_info_status(info) == BOXLITE_BOX_RUNNING);
    CHECK(boxlite_box_info_cpus(info) == 1 && boxlite_box_info_memory_mib(info) == 512);
    CHECK(boxlite_box_info_disk_size_mib(info) == 10240 && boxlite_box_info_pid(info) > 0);
    CHECK(!strcmp(boxlite_box_info_id(info), boxlite_box_id(box)) && !boxlite_box_info_name(info));
    CHECK(!strcmp(boxlite_box_info_accelerator(info), "tcg") || !strcmp(boxlite_box_info_accelerator(info), "kvm"));
    CHECK(strstr(boxlite_box_info_image(info), "busybox") && strchr(boxlite_box_info_created_at(info), 'T'));
    size_t stages = boxlite_box_info_stage_count(info);
    CHECK(stages >= 5 && !strcmp(boxlite_box_info_stage_name(info, 0), "admission"));
    CHECK(boxlite_box_info_stage_microseconds(info, 3) > 0);
    CHECK(!boxlite_box_info_stage_name(info, stages) && !boxlite_box_info_stage_microseconds(info, stages));
    boxlite_box_info_free(info);
    // Cancelled after completion: no effect.
    OK(boxlite_op_cancel(op, &error));
    OK(boxlite_op_wait(op, 0, &error));
    boxlite_op_free(op);

    // Freed while under way: the work goes on, the result is dropped, user data is not forgotten.
    destroyed = 0;
    boxlite_exec_options *options = shell("echo > /tmp/ran");
    OK(boxlite_box_exec(box, options, &op, &error));
    OK(boxlite_op_on_complete(op, on_started, NULL, destroy, &error));
    boxlite_op_free(op);
    CHECK(destroyed == 1);
    PRINTS(box, "while [ ! -e /tmp/ran ]; do sleep 0.05; done; echo ran", "ran\n");
    boxlite_exec_options_free(options);

    // Refused with its user data: destroyed at once.
    CHECK(boxlite_op_on_complete(NULL, on_started, NULL, destroy, NULL) == BOXLITE_INVALID_ARGUMENT);
    CHECK(boxlite_exec_on_stdout(NULL, on_output, NULL, destroy, NULL) == BOXLITE_INVALID_ARGUMENT);
    CHECK(destroyed == 3);

    // A wait that is too short, then one that is not.
    exec = start(box, "sleep 0.5; exit 9");
    int32_t code = -2;
    FAILS(boxlite_exec_wait(exec, 1, &code, &error), BOXLITE_TIMEOUT, "running");
    OK(boxlite_exec_wait(exec, 60000, &code, &error));
    CHECK(code == 9);
    OK(boxlite_exec_wait(exec, 0, &code, &error));
    boxlite_exec_free(exec);
    (void)runtime;
}

static void a_cancelled_creation_leaves_nothing(boxlite_runtime *runtime)
{
    boxlite_box_options *options;
    boxlite_op *op;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_disk_size_mib(options, 777, &error));
    OK(boxlite_box_options_set_name(options, "cancelled", &error));
    OK(boxlite_box_create(runtime, options, &op, &error));
    OK(boxlite_op_cancel(op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, &error);
    CHECK(status == BOXLITE_CANCELLED || status == BOXLITE_OK);
    boxlite_error_free(error);
    boxlite_op_free(op);
    boxlite_box_options_free(options);
}

static void a_start_that_is_cancelled_ends_its_machine(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box *box = new_box(runtime);
    int machines = count_machines();
    OK(boxlite_box_start(box, &op, &error));
    EVENTUALLY(count_machines() > machines);
    OK(boxlite_op_cancel(op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, &error);
    boxlite_error_free(error);
    boxlite_op_free(op);
    if (status == BOXLITE_CANCELLED)
        EVENTUALLY(count_machines() == machines);
    EVENTUALLY(boxlite_box_start(box, &op, &error) == BOXLITE_OK &&
               (status = boxlite_op_wait(op, 60000, NULL), boxlite_op_free(op), status == BOXLITE_OK));
    remove_box(runtime, box);
}

static void handles_keep_what_they_came_from(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    boxlite_exec *exec = start(box, "echo still here");
    boxlite_box_free(box);
    boxlite_runtime_free(runtime);
    bytes out = {0}, err = {0};
    CHECK(finish(exec, &out, &err) == 0 && !strcmp((char *)out.data, "still here\n"));
    free(out.data);
}

static void stopping_is_orderly(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_op *op;
    bytes out = {0};
    boxlite_exec *exec = start(box, "trap 'echo terminated; exit 0' TERM; echo ready; while :; do sleep 0.1; done");
    OK(boxlite_exec_on_stdout(exec, append, &out, NULL, &error));
    while (out.length == 0)
        (void)boxlite_dispatch(runtime, 100, NULL, NULL);
    OK(boxlite_box_remove(runtime, boxlite_box_id(box), false, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_INVALID_STATE, "running");
    boxlite_op_free(op);
    OK(boxlite_box_stop(box, 10000, &op, &error));
    wait_op(op);
    int32_t code;
    OK(boxlite_exec_wait(exec, 60000, &code, &error));
    CHECK(code == 0 && !strcmp((char *)out.data, "ready\nterminated\n"));
    boxlite_exec_free(exec);
    free(out.data);
    // Stopping what does not run is fine.
    OK(boxlite_box_stop(box, 0, &op, &error));
    wait_op(op);
}

int main(void)
{
    CHECK(!strcmp(boxlite_version(), BOXLITE_VERSION));
    CHECK(!strcmp(boxlite_status_name(BOXLITE_BUSY), "BOXLITE_BUSY"));
    CHECK(!strcmp(boxlite_status_name(12345), "BOXLITE_UNKNOWN"));
    CHECK(boxlite_event_fd(NULL) == -1 && !boxlite_op_is_done(NULL));
    boxlite_op_free(NULL);
    boxlite_box_free(NULL);
    boxlite_exec_free(NULL);
    boxlite_runtime_free(NULL);
    boxlite_error_free(NULL);

    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    an_event_loop_needs_nothing_but_the_descriptor(runtime, box);
    operations_complete_once_and_give_their_result_once(runtime, box);
    a_cancelled_creation_leaves_nothing(runtime);
    a_start_that_is_cancelled_ends_its_machine(runtime);
    handles_keep_what_they_came_from();
    stopping_is_orderly(runtime, box);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
