// A box's main process: started with it, its output readable, its end recorded and acted upon.
#include "check.h"

static boxlite_box_options *with_main(const char *script)
{
    boxlite_box_options *options;
    const char *argv[] = {"sh", "-c", script};
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_main(options, argv, 3, &error));
    return options;
}

static void start_box(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_start(box, &op, &error));
    wait_op(op);
}

static boxlite_exec *attach_main(boxlite_box *box, uint64_t from)
{
    boxlite_op *op;
    boxlite_exec *exec;
    OK(boxlite_box_attach_main(box, from, 0, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_exec(op, &exec, &error));
    boxlite_op_free(op);
    return exec;
}

static int32_t main_status(boxlite_box *box)
{
    boxlite_box_info *info = inspect(box);
    int32_t status = boxlite_box_info_main_status(info);
    boxlite_box_info_free(info);
    return status;
}

static void check_end(boxlite_box *box, int32_t code, int32_t signal)
{
    boxlite_box_info *info = inspect(box);
    CHECK(boxlite_box_info_main_status(info) == BOXLITE_MAIN_EXITED);
    CHECK(boxlite_box_info_main_code(info) == code && boxlite_box_info_main_signal(info) == signal);
    boxlite_box_info_free(info);
}

static void check_output(boxlite_exec *exec, const char *stdout_, const char *stderr_, int32_t code)
{
    bytes out = {0}, err = {0};
    int32_t got = finish(exec, &out, &err);
    if (got != code || strcmp(out.data ? (char *)out.data : "", stdout_) ||
        strcmp(err.data ? (char *)err.data : "", stderr_))
        FAIL("code %d, stdout '%s', stderr '%s'", (int)got, (char *)out.data, (char *)err.data);
    free(out.data);
    free(err.data);
}

static void the_boxs_own_command_ends_and_the_box_stops(boxlite_runtime *runtime)
{
    boxlite_box_options *options;
    const char *entrypoint[] = {"sh", "-c"};
    const char *cmd[] = {"n=$(cat /n || echo 0); echo $((n+1)) >/n; echo run $n; echo err >&2; exit $((7+n))"};
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_entrypoint(options, entrypoint, 2, &error));
    OK(boxlite_box_options_set_cmd(options, cmd, 1, &error));
    OK(boxlite_box_options_set_main(options, NULL, 0, &error));
    boxlite_box *box = create_box(runtime, options);
    CHECK(main_status(box) == BOXLITE_MAIN_NONE);
    for (int run = 0; run < 2; run++) {
        char wanted[32];
        start_box(box);
        boxlite_box_info *info = inspect(box);
        bool staged = false;
        for (size_t i = 0; i < boxlite_box_info_stage_count(info); i++)
            staged |= !strcmp(boxlite_box_info_stage_name(info, i), "main");
        CHECK(staged);
        boxlite_box_info_free(info);
        EVENTUALLY(status_of(box) == BOXLITE_BOX_STOPPED && count_machines() == 0);
        check_end(box, 7 + run, 0);
        info = inspect(box);
        CHECK(strstr(boxlite_box_info_error(info), run ? "code 8" : "code 7"));
        boxlite_box_info_free(info);
        // What it wrote in this run, from any offset, as often as one likes.
        snprintf(wanted, sizeof wanted, "run %d\n", run);
        check_output(attach_main(box, 0), wanted, run ? "err\n" : "cat: can't open '/n': No such file or directory\nerr\n", 7 + run);
        check_output(attach_main(box, 4), wanted + 4, run ? "err\n" : "cat: can't open '/n': No such file or directory\nerr\n", 7 + run);
        boxlite_op *op;
        OK(boxlite_box_attach_main(box, 100, 0, &op, &error));
        FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_INVALID_ARGUMENT, "beyond");
        boxlite_op_free(op);
    }
    remove_box(runtime, box);
}

static void a_box_may_stay_when_it_was_killed(boxlite_runtime *runtime)
{
    boxlite_box_options *options = with_main("echo up; kill -9 $$");
    OK(boxlite_box_options_set_main_exit(options, BOXLITE_MAIN_EXIT_STAY, &error));
    boxlite_box *box = create_box(runtime, options);
    start_box(box);
    EVENTUALLY(main_status(box) == BOXLITE_MAIN_EXITED);
    check_end(box, 137, 9);
    CHECK(status_of(box) == BOXLITE_BOX_RUNNING);
    check_output(attach_main(box, 0), "up\n", "", 137);
    PRINTS(box, "echo still here", "still here\n");
    boxlite_op *op;
    boxlite_exec_list *execs;
    OK(boxlite_box_list_execs(box, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_exec_list(op, &execs, &error));
    boxlite_op_free(op);
    CHECK(boxlite_exec_list_count(execs) == 1 && boxlite_exec_info_is_main(boxlite_exec_list_get(execs, 0)));
    boxlite_exec_list_free(execs);
    remove_box(runtime, box);
}

static void a_stop_asks_it_to_end_and_its_last_words_are_kept(boxlite_runtime *runtime)
{
    boxlite_op *op;
    bytes out = {0}, err = {0};
    int32_t code;
    boxlite_box *box =
        create_box(runtime, with_main("exec 2>/dev/null; trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done"));
    start_box(box);
    boxlite_exec *exec = attach_main(box, 0);
    CHECK(boxlite_exec_id(exec) > 0);
    OK(boxlite_exec_on_stdout(exec, append, &out, NULL, &error));
    OK(boxlite_exec_on_stderr(exec, append, &err, NULL, &error));
    DISPATCH_UNTIL(runtime, out.length == 6);
    CHECK(main_status(box) == BOXLITE_MAIN_RUNNING);
    OK(boxlite_box_stop(box, 20000, &op, &error));
    wait_op(op);
    OK(boxlite_exec_wait(exec, 60000, &code, &error));
    CHECK(code == 5 && !strcmp((char *)out.data, "ready\nbye\n") && boxlite_exec_offset(exec, BOXLITE_STDOUT) == 10);
    boxlite_exec_free(exec);
    free(out.data);
    free(err.data);
    check_end(box, 5, 0);
    check_output(attach_main(box, 6), "bye\n", "", 5);
    remove_box(runtime, box);
}

// More than any window, of a box that is gone before most of it was read.
static void much_output_of_a_box_that_ends_is_read_to_its_last_byte(boxlite_runtime *runtime)
{
    boxlite_box_options *options = with_main("seq 200000");
    OK(boxlite_box_options_set_spool_bytes(options, 4 << 20, &error));
    boxlite_box *box = create_box(runtime, options);
    start_box(box);
    boxlite_exec *exec = attach_main(box, 0);
    EVENTUALLY(status_of(box) == BOXLITE_BOX_STOPPED);
    bytes out = {0}, err = {0};
    CHECK(finish(exec, &out, &err) == 0);
    check_numbers(&out, 200000);
    free(out.data);
    free(err.data);
    remove_box(runtime, box);
}

static void one_that_cannot_be_run_fails_the_start(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box_options *options;
    const char *argv[] = {"no-such-thing"};
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_main(options, argv, 1, &error));
    boxlite_box *box = create_box(runtime, options);
    OK(boxlite_box_start(box, &op, &error));
    FAILS(boxlite_op_wait(op, 120000, &error), BOXLITE_EXECUTION, "no-such-thing");
    boxlite_op_free(op);
    boxlite_box_info *info = inspect(box);
    CHECK(boxlite_box_info_status(info) == BOXLITE_BOX_FAILED && strstr(boxlite_box_info_error(info), "no-such-thing"));
    CHECK(boxlite_box_info_main_status(info) == BOXLITE_MAIN_NONE && boxlite_box_info_main_code(info) == -1);
    boxlite_box_info_free(info);
    EVENTUALLY(count_machines() == 0);
    remove_box(runtime, box);
}

static void an_end_that_nobody_saw_is_not_made_up(boxlite_runtime *runtime)
{
    int32_t code;
    bytes out = {0};
    boxlite_box *box = create_box(runtime, with_main("echo before; exec sleep 1000"));
    start_box(box);
    boxlite_exec *exec = attach_main(box, 0);
    OK(boxlite_exec_on_stdout(exec, append, &out, NULL, &error));
    DISPATCH_UNTIL(runtime, out.length == 7);
    boxlite_exec_free(exec);
    free(out.data);
    CHECK(signal_machines(SIGKILL) == 1);
    EVENTUALLY(status_of(box) == BOXLITE_BOX_FAILED);
    CHECK(main_status(box) == BOXLITE_MAIN_LOST);
    out = (bytes){0};
    exec = attach_main(box, 0);
    OK(boxlite_exec_on_stdout(exec, append, &out, NULL, &error));
    FAILS(boxlite_exec_wait(exec, 60000, &code, &error), BOXLITE_STOPPED, "cut off");
    CHECK(!strcmp((char *)out.data, "before\n"));
    boxlite_exec_free(exec);
    free(out.data);
    remove_box(runtime, box);
}

// It may be over before its box was let go of.
static void a_short_one_of_a_detached_box_is_a_start_all_the_same(boxlite_runtime *runtime)
{
    const char *argv[] = {"true"};
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_detach(options, true, &error));
    OK(boxlite_box_options_set_main(options, argv, 1, &error));
    boxlite_box *box = create_box(runtime, options);
    for (int i = 0; i < 5; i++) {
        start_box(box);
        EVENTUALLY(status_of(box) == BOXLITE_BOX_STOPPED);
        check_end(box, 0, 0);
    }
    remove_box(runtime, box);
}

static void a_box_has_none_unless_asked(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box *box = new_box(runtime);
    start_box(box);
    CHECK(main_status(box) == BOXLITE_MAIN_NONE);
    OK(boxlite_box_attach_main(box, 0, 0, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_INVALID_STATE, "no main process");
    boxlite_op_free(op);
    remove_box(runtime, box);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    the_boxs_own_command_ends_and_the_box_stops(runtime);
    a_box_may_stay_when_it_was_killed(runtime);
    a_stop_asks_it_to_end_and_its_last_words_are_kept(runtime);
    much_output_of_a_box_that_ends_is_read_to_its_last_byte(runtime);
    one_that_cannot_be_run_fails_the_start(runtime);
    an_end_that_nobody_saw_is_not_made_up(runtime);
    a_short_one_of_a_detached_box_is_a_start_all_the_same(runtime);
    a_box_has_none_unless_asked(runtime);
    close_runtime(runtime);
    return 0;
}
