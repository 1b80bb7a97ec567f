// A box that stands still, and goes on: its processes notice nothing but the time.
#include "program.h"

static void operate(boxlite_status (*what)(boxlite_box *, boxlite_op **, boxlite_error **), boxlite_box *box)
{
    boxlite_op *op;
    OK(what(box, &op, &error));
    wait_op(op);
}

static void refused(boxlite_status (*what)(boxlite_box *, boxlite_op **, boxlite_error **), boxlite_box *box)
{
    boxlite_op *op;
    OK(what(box, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_INVALID_STATE, "does not run");
    boxlite_op_free(op);
}

// How many lines a command has written so far; all that there is, is taken.
static int lines(boxlite_exec *exec, int so_far)
{
    uint8_t buffer[4096];
    size_t length;
    while (boxlite_exec_read(exec, BOXLITE_STDOUT, buffer, sizeof buffer, &length, NULL) == BOXLITE_OK && length)
        for (size_t i = 0; i < length; i++)
            so_far += buffer[i] == '\n';
    return so_far;
}

static void nothing_runs_in_a_paused_box(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    refused(boxlite_box_pause, box);
    refused(boxlite_box_resume, box);
    boxlite_exec *exec = start(box, "while :; do echo; usleep 10000; done");
    int count = 0, before;
    EVENTUALLY((count = lines(exec, count)) > 3);
    for (int round = 0; round < 3; round++) {
        operate(boxlite_box_pause, box);
        CHECK(status_of(box) == BOXLITE_BOX_PAUSED && count_machines() == 1);
        operate(boxlite_box_pause, box);
        // What was on its way arrives; then there is nothing, however long it takes.
        sleep_ms(300);
        before = count = lines(exec, count);
        sleep_ms(500);
        CHECK((count = lines(exec, count)) == before);

        boxlite_op *op;
        boxlite_exec_options *options = shell("true");
        OK(boxlite_box_exec(box, options, &op, &error));
        boxlite_exec_options_free(options);
        FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_INVALID_STATE, "paused");
        boxlite_op_free(op);

        operate(boxlite_box_resume, box);
        CHECK(status_of(box) == BOXLITE_BOX_RUNNING);
        operate(boxlite_box_resume, box);
        EVENTUALLY((count = lines(exec, count)) > before + 3);
    }
    boxlite_exec_free(exec);
    remove_box(runtime, box);
}

// Its clock is the host's again.
static void it_knows_what_time_it_is(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo up", "up\n");
    operate(boxlite_box_pause, box);
    sleep_ms(3000);
    operate(boxlite_box_resume, box);
    time_t before = time(NULL);
    char *text = output_of(box, "date +%s");
    time_t guest = atol(text), after = time(NULL);
    free(text);
    // Only the whole second is told.
    if (guest < before - 1 || guest > after + 1)
        FAIL("the box has %ld, the host had %ld to %ld", (long)guest, (long)before, (long)after);
    remove_box(runtime, box);
}

static void it_is_stopped_and_removed_as_any(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box *box = new_box(runtime);
    boxlite_exec *exec = start(box, "trap 'echo bye; exit 3' TERM; echo kept > /file; echo set; while :; do sleep 0.1; done");
    uint8_t byte;
    size_t length;
    boxlite_status read;
    EVENTUALLY((read = boxlite_exec_read(exec, BOXLITE_STDOUT, &byte, 1, &length, NULL), read == BOXLITE_OK));
    operate(boxlite_box_pause, box);
    OK(boxlite_box_stop(box, 60000, &op, &error));
    wait_op(op);
    int32_t code;
    OK(boxlite_exec_wait(exec, 60000, &code, &error));
    CHECK(code == 3 && status_of(box) == BOXLITE_BOX_STOPPED);
    boxlite_exec_free(exec);
    PRINTS(box, "cat /file", "kept\n");
    operate(boxlite_box_pause, box);
    remove_box(runtime, box);
    EVENTUALLY(count_machines() == 0);
}

// Another program finds it paused, and has it go on.
static void resume_it(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_op *op;
    boxlite_box *box;
    OK(boxlite_box_get(runtime, "shared", &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    CHECK(status_of(box) == BOXLITE_BOX_PAUSED);
    operate(boxlite_box_resume, box);
    CHECK(status_of(box) == BOXLITE_BOX_RUNNING);
    PRINTS(box, "echo resumed", "resumed\n");
    boxlite_box_free(box);
    boxlite_runtime_free(runtime);
}

static void another_program_resumes_it(boxlite_runtime *runtime)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "shared", &error));
    boxlite_box *box = create_box(runtime, options);
    PRINTS(box, "echo up", "up\n");
    operate(boxlite_box_pause, box);
    wait_done(start_program("resume_it", -1, -1));
    CHECK(status_of(box) == BOXLITE_BOX_RUNNING);
    PRINTS(box, "echo on", "on\n");
    remove_box(runtime, box);
}

// It could not end in time, and would be cut off.
static void one_that_is_being_stopped_is_not_paused(boxlite_runtime *runtime)
{
    boxlite_op *op, *stop;
    boxlite_box *box = new_box(runtime), *same;
    boxlite_runtime *other = open_runtime();
    boxlite_exec *exec = start(box, "trap 'sleep 3; exit' TERM; touch /waits; while :; do sleep 0.1; done");
    PRINTS(box, "until test -e /waits; do sleep 0.1; done; echo waits", "waits\n");
    OK(boxlite_box_get(other, boxlite_box_id(box), &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &same, &error));
    boxlite_op_free(op);
    PRINTS(same, "echo connected", "connected\n");
    OK(boxlite_box_stop(box, 30000, &stop, &error));
    boxlite_status paused;
    do {
        OK(boxlite_box_pause(same, &op, &error));
        paused = boxlite_op_wait(op, 60000, &error);
        boxlite_op_free(op);
    } while (paused == BOXLITE_OK);
    CHECK(paused == BOXLITE_INVALID_STATE && strstr(boxlite_error_message(error), "being stopped"));
    boxlite_error_free(error);
    error = NULL;
    wait_op(stop);
    CHECK(status_of(box) == BOXLITE_BOX_STOPPED);
    boxlite_exec_free(exec);
    boxlite_box_free(same);
    boxlite_runtime_free(other);
    remove_box(runtime, box);
}

static const program programs[] = {{"resume_it", resume_it}, {NULL, NULL}};

int main(int argc, char **argv)
{
    (void)argc;
    be_program(argv, programs);
    boxlite_runtime *runtime = open_runtime();
    nothing_runs_in_a_paused_box(runtime);
    it_knows_what_time_it_is(runtime);
    it_is_stopped_and_removed_as_any(runtime);
    another_program_resumes_it(runtime);
    one_that_is_being_stopped_is_not_paused(runtime);
    close_runtime(runtime);
    return 0;
}
