// A forked child that lives on, with copies of every descriptor: it holds up nothing.
#include "check.h"

static pid_t fork_sleeper(void)
{
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        // Nothing but a copy of its parent.
        for (;;)
            pause();
    }
    return child;
}

static void end(pid_t child)
{
    int status;
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    boxlite_op *op;

    // Forked while the box is being started: the change of its state is over when it is over.
    OK(boxlite_box_start(box, &op, &error));
    EVENTUALLY(count_machines() == 1);
    pid_t child = fork_sleeper();
    wait_op(op);
    OK(boxlite_box_stop(box, 0, &op, &error));
    wait_op(op);
    OK(boxlite_box_start(box, &op, &error));
    wait_op(op);
    PRINTS(box, "echo again", "again\n");
    end(child);

    // Forked while it runs: its end comes with the last handle.
    boxlite_exec *exec = start(box, "exec sleep 1000");
    child = fork_sleeper();
    boxlite_exec_free(exec);
    boxlite_box_free(box);
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_machines() == 0);
    runtime = open_runtime();
    CHECK(count_boxes(runtime) == 1);
    end(child);
    close_runtime(runtime);
    return 0;
}
