// Boxes that stop by themselves when nothing runs in them, and boxes that are removed when they stop.
#include "program.h"
#include <poll.h>

static boxlite_box *box_with(boxlite_runtime *runtime, uint64_t idle_s, bool auto_remove, bool checked)
{
    boxlite_box_options *options;
    const char *argv[] = {"true"};
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    if (idle_s)
        OK(boxlite_box_options_set_idle_stop_s(options, idle_s, &error));
    if (checked)
        OK(boxlite_box_options_set_health_check(options, argv, 1, 100, 0, 0, 0, &error));
    OK(boxlite_box_options_set_auto_remove(options, auto_remove, &error));
    return create_box(runtime, options);
}

static void start_box(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_start(box, &op, &error));
    wait_op(op);
}

static void one_without_a_command_stops_and_tells_why(boxlite_runtime *runtime)
{
    // Its health check is no use.
    boxlite_box *box = box_with(runtime, 1, false, true);
    PRINTS(box, "echo kept > /file; cat /file", "kept\n");
    EVENTUALLY(status_of(box) == BOXLITE_BOX_STOPPED && count_machines() == 0);
    boxlite_box_info *info = inspect(box);
    CHECK(strstr(boxlite_box_info_error(info), "nothing ran in the box for 1 s"));
    boxlite_box_info_free(info);
    // What it had written is there.
    PRINTS(box, "cat /file", "kept\n");
    remove_box(runtime, box);
}

static void one_with_a_command_stays_and_so_does_one_that_is_paused(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box *box = box_with(runtime, 1, false, false);
    boxlite_exec *exec = start(box, "sleep 3; echo still here");
    bytes out = {0}, err = {0};
    CHECK(finish(exec, &out, &err) == 0 && out.length && !strcmp((char *)out.data, "still here\n"));
    free(out.data);
    free(err.data);
    OK(boxlite_box_pause(box, &op, &error));
    wait_op(op);
    sleep_ms(2500);
    CHECK(status_of(box) == BOXLITE_BOX_PAUSED);
    OK(boxlite_box_resume(box, &op, &error));
    wait_op(op);
    EVENTUALLY(status_of(box) == BOXLITE_BOX_STOPPED);
    remove_box(runtime, box);
}

static bool exists(boxlite_runtime *runtime, const char *id)
{
    char path[256];
    boxlite_op *op;
    OK(boxlite_box_get(runtime, id, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, NULL);
    boxlite_op_free(op);
    CHECK(status == BOXLITE_OK || status == BOXLITE_NOT_FOUND);
    // Its rows go first, then its files.
    snprintf(path, sizeof path, "%s/boxes/%s", home, id);
    return status == BOXLITE_OK || access(path, F_OK) == 0;
}

static void one_that_is_not_to_stay_goes_when_it_stops(boxlite_runtime *runtime)
{
    boxlite_op *op;
    char id[64];
    // By a stop.
    boxlite_box *box = box_with(runtime, 0, true, false);
    snprintf(id, sizeof id, "%s", boxlite_box_id(box));
    // One that does not run is not stopped.
    OK(boxlite_box_stop(box, 1000, &op, &error));
    wait_op(op);
    CHECK(exists(runtime, id));
    start_box(box);
    boxlite_box_info *info = inspect(box);
    CHECK(boxlite_box_info_auto_remove(info));
    boxlite_box_info_free(info);
    OK(boxlite_box_stop(box, 1000, &op, &error));
    wait_op(op);
    CHECK(!exists(runtime, id));
    OK(boxlite_box_start(box, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_NOT_FOUND, id);
    boxlite_op_free(op);
    boxlite_box_free(box);
    // By itself.
    box = box_with(runtime, 1, true, false);
    snprintf(id, sizeof id, "%s", boxlite_box_id(box));
    start_box(box);
    EVENTUALLY(!exists(runtime, id));
    boxlite_box_free(box);
    // One that fails stays, to be looked at.
    box = box_with(runtime, 0, true, false);
    snprintf(id, sizeof id, "%s", boxlite_box_id(box));
    start_box(box);
    boxlite_exec_free(start(box, "echo c > /proc/sysrq-trigger"));
    EVENTUALLY(status_of(box) == BOXLITE_BOX_FAILED);
    CHECK(exists(runtime, id));
    remove_box(runtime, box);
}

// A program that starts such a box and is killed.
static void dies(void)
{
    start_box(box_with(open_runtime(), 0, true, false));
    CHECK(write(1, "x", 1) == 1);
    pause();
}

static int32_t status_of_only(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_info_list *list;
    OK(boxlite_box_list(runtime, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_info_list(op, &list, &error));
    boxlite_op_free(op);
    CHECK(boxlite_info_list_count(list) == 1);
    int32_t status = boxlite_box_info_status(boxlite_info_list_get(list, 0));
    boxlite_info_list_free(list);
    return status;
}

static void one_whose_program_died_stays(boxlite_runtime *runtime)
{
    int ends[2];
    char byte;
    make_pipe(ends);
    pid_t child = start_program("dies", -1, ends[1]);
    close(ends[1]);
    CHECK(read(ends[0], &byte, 1) == 1);
    close(ends[0]);
    kill(child, SIGKILL);
    wait_killed(child);
    EVENTUALLY(status_of_only(runtime) == BOXLITE_BOX_STOPPED);
    CHECK(count_machines() == 0);
}

// Another program that looks, all the time, until its standard input ends: whatever goes meanwhile, a list is
// a list.
static void lists(void)
{
    boxlite_runtime *runtime = open_runtime();
    struct pollfd input = {.fd = 0, .events = POLLIN};
    int count = 0;
    for (; poll(&input, 1, 0) == 0; count++) {
        boxlite_op *op;
        boxlite_info_list *list;
        OK(boxlite_box_list(runtime, &op, &error));
        OK(boxlite_op_wait(op, 60000, &error));
        OK(boxlite_op_take_info_list(op, &list, &error));
        boxlite_op_free(op);
        for (size_t i = 0; i < boxlite_info_list_count(list); i++) {
            int32_t status = boxlite_box_info_status(boxlite_info_list_get(list, i));
            CHECK(status != BOXLITE_BOX_FAILED && status != BOXLITE_BOX_PAUSED);
        }
        boxlite_info_list_free(list);
        if (count == 0)
            CHECK(write(1, "x", 1) == 1);
    }
    CHECK(count > 10);
    boxlite_runtime_free(runtime);
}

static void nobody_who_looks_is_disturbed(boxlite_runtime *runtime)
{
    int out[2], in[2];
    char byte;
    make_pipe(out);
    make_pipe(in);
    pid_t child = start_program("lists", in[0], out[1]);
    CHECK(close(in[0]) == 0 && close(out[1]) == 0 && read(out[0], &byte, 1) == 1);
    for (int i = 0; i < 8; i++) {
        boxlite_op *op;
        char id[64];
        boxlite_box *box = box_with(runtime, 0, true, false);
        snprintf(id, sizeof id, "%s", boxlite_box_id(box));
        start_box(box);
        OK(boxlite_box_stop(box, 0, &op, &error));
        wait_op(op);
        CHECK(!exists(runtime, id));
        boxlite_box_free(box);
    }
    CHECK(close(in[1]) == 0 && close(out[0]) == 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv)
{
    (void)argc;
    be_program(argv, (program[]){{"dies", dies}, {"lists", lists}, {NULL, NULL}});
    boxlite_runtime *runtime = open_runtime();
    one_without_a_command_stops_and_tells_why(runtime);
    one_with_a_command_stays_and_so_does_one_that_is_paused(runtime);
    one_that_is_not_to_stay_goes_when_it_stops(runtime);
    nobody_who_looks_is_disturbed(runtime);
    one_whose_program_died_stays(runtime);
    close_runtime(runtime);
    return 0;
}
