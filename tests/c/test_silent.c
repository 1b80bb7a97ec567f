// Parts of a box that stop answering: whoever waits is told who it is, nobody waits for ever, and the box
// can be stopped and started again.
#include "program.h"

static pid_t machine_pid(void)
{
    char command[256], line[64];
    snprintf(command, sizeof command, "grep -lz %s /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3", home);
    FILE *pipe = popen(command, "r");
    CHECK(pipe && fgets(line, sizeof line, pipe));
    pclose(pipe);
    return (pid_t)atoi(line);
}

static pid_t supervisor_pid(boxlite_box *box)
{
    boxlite_box_info *info = inspect(box);
    pid_t pid = (pid_t)boxlite_box_info_pid(info);
    boxlite_box_info_free(info);
    CHECK(pid > 0);
    return pid;
}

// A command is not started, and the error names who is silent.
static void starts_nothing(boxlite_box *box, const char *who)
{
    boxlite_op *op;
    boxlite_exec_options *options = shell("true");
    OK(boxlite_box_exec(box, options, &op, &error));
    boxlite_exec_options_free(options);
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_TIMEOUT, who);
    boxlite_op_free(op);
}

// Who only looks, also from another program, is told without a machine or agent that would have to answer.
static void can_be_looked_at(boxlite_box *box)
{
    boxlite_op *op;
    boxlite_box *same;
    boxlite_exec_list *execs;
    boxlite_runtime *other = open_runtime();
    CHECK(count_boxes(other) == 1);
    OK(boxlite_box_get(other, boxlite_box_id(box), &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &same, &error));
    boxlite_op_free(op);
    CHECK(status_of(same) == BOXLITE_BOX_RUNNING);
    OK(boxlite_box_list_execs(same, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_exec_list(op, &execs, &error));
    boxlite_op_free(op);
    boxlite_exec_list_free(execs);
    boxlite_box_free(same);
    boxlite_runtime_free(other);
}

// One that was stopped for a while and goes on is as it was.
static void a_machine_that_stands_still_is_noticed_and_goes_on(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo up", "up\n");
    pid_t machine = machine_pid();
    CHECK(kill(machine, SIGSTOP) == 0);
    starts_nothing(box, "virtual machine's process does not answer");
    can_be_looked_at(box);
    CHECK(kill(machine, SIGCONT) == 0);
    boxlite_status started;
    do {
        boxlite_op *op;
        boxlite_exec_options *options = shell("true");
        OK(boxlite_box_exec(box, options, &op, &error));
        boxlite_exec_options_free(options);
        started = boxlite_op_wait(op, 60000, NULL);
        boxlite_op_free(op);
    } while (started == BOXLITE_TIMEOUT);
    PRINTS(box, "echo on", "on\n");

    // One that stays so is cut off by a stop.
    CHECK(kill(machine, SIGSTOP) == 0);
    starts_nothing(box, "does not answer");
    boxlite_op *op;
    OK(boxlite_box_stop(box, 0, &op, &error));
    CHECK(boxlite_op_wait(op, 120000, NULL) != BOXLITE_OK);
    boxlite_op_free(op);
    EVENTUALLY(count_machines() == 0);
    CHECK(status_of(box) == BOXLITE_BOX_FAILED);
    PRINTS(box, "echo again", "again\n");
    remove_box(runtime, box);
}

static void a_supervisor_that_stands_still_is_noticed_and_killed_by_a_stop(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo kept > /file; sync; echo up", "up\n");
    pid_t supervisor = supervisor_pid(box);
    CHECK(kill(supervisor, SIGSTOP) == 0);
    char who[64];
    snprintf(who, sizeof who, "supervisor (process %d) does not answer", (int)supervisor);
    starts_nothing(box, who);
    boxlite_op *op;
    OK(boxlite_box_stop(box, 0, &op, &error));
    FAILS(boxlite_op_wait(op, 120000, &error), BOXLITE_TIMEOUT, "cut off");
    boxlite_op_free(op);
    EVENTUALLY(count_machines() == 0 && kill(supervisor, 0) != 0);
    CHECK(status_of(box) == BOXLITE_BOX_FAILED);
    PRINTS(box, "cat /file", "kept\n");
    remove_box(runtime, box);
}

// A program that comes later hears nothing of such a supervisor at all.
static void a_newcomer_can_stop_it_too(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box *box = new_box(runtime), *same;
    PRINTS(box, "echo kept > /file; sync; echo up", "up\n");
    pid_t supervisor = supervisor_pid(box);
    boxlite_runtime *other = open_runtime();
    OK(boxlite_box_get(other, boxlite_box_id(box), &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &same, &error));
    boxlite_op_free(op);
    CHECK(kill(supervisor, SIGSTOP) == 0);
    OK(boxlite_box_stop(same, 0, &op, &error));
    FAILS(boxlite_op_wait(op, 120000, &error), BOXLITE_TIMEOUT, "cut off");
    boxlite_op_free(op);
    EVENTUALLY(count_machines() == 0 && kill(supervisor, 0) != 0);
    EVENTUALLY(status_of(same) == BOXLITE_BOX_FAILED && status_of(box) == BOXLITE_BOX_FAILED);
    PRINTS(same, "cat /file", "kept\n");
    boxlite_box_free(same);
    boxlite_runtime_free(other);
    remove_box(runtime, box);
}

// Whatever was asked of a machine that did not answer has failed, also if the machine does it later.
static void a_pause_that_nobody_answered_is_undone(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo up", "up\n");
    pid_t machine = machine_pid();
    CHECK(kill(machine, SIGSTOP) == 0);
    boxlite_op *op;
    for (int i = 0; i < 2; i++) {
        OK(boxlite_box_pause(box, &op, &error));
        FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_TIMEOUT, "does not answer");
        boxlite_op_free(op);
        // Its supervisor has given up on it when it answers this.
        OK(boxlite_box_metrics(box, &op, &error));
        wait_op(op);
    }
    CHECK(kill(machine, SIGCONT) == 0);
    boxlite_exec *exec;
    for (boxlite_status started = BOXLITE_TIMEOUT; started == BOXLITE_TIMEOUT;) {
        boxlite_exec_options *options = shell("echo on > /on; sync");
        OK(boxlite_box_exec(box, options, &op, &error));
        boxlite_exec_options_free(options);
        started = boxlite_op_wait(op, 60000, NULL);
        if (started == BOXLITE_OK) {
            OK(boxlite_op_take_exec(op, &exec, &error));
            OK(boxlite_exec_wait(exec, 60000, NULL, &error));
            boxlite_exec_free(exec);
        }
        boxlite_op_free(op);
    }
    PRINTS(box, "cat /on", "on\n");
    CHECK(status_of(box) == BOXLITE_BOX_RUNNING);
    // And it still takes orders.
    OK(boxlite_box_pause(box, &op, &error));
    wait_op(op);
    CHECK(status_of(box) == BOXLITE_BOX_PAUSED);
    OK(boxlite_box_resume(box, &op, &error));
    wait_op(op);
    PRINTS(box, "cat /on", "on\n");
    remove_box(runtime, box);
}

// A box whose processes try to end or stop process 1 goes on.
static void nobody_inside_stops_the_agent(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "kill -9 1; kill -STOP 1; kill -TERM 1; kill -INT 1; echo there", "there\n");
    PRINTS(box, "echo still", "still\n");
    remove_box(runtime, box);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    a_machine_that_stands_still_is_noticed_and_goes_on(runtime);
    a_supervisor_that_stands_still_is_noticed_and_killed_by_a_stop(runtime);
    a_newcomer_can_stop_it_too(runtime);
    a_pause_that_nobody_answered_is_undone(runtime);
    nobody_inside_stops_the_agent(runtime);
    close_runtime(runtime);
    return 0;
}
