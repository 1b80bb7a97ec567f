// Two programs in one home: one runs a box, the other finds it, runs commands in it, lets go of it,
// and stops it while the first is stopping it too.
#include "check.h"

static int to_child[2], to_parent[2];

// Messages are single bytes: each side waits for the other's step, not for time.
static void say(int fd, char word)
{
    CHECK(write(fd, &word, 1) == 1);
}

static void hear(int fd, char word)
{
    char heard = 0;
    ssize_t n = read(fd, &heard, 1);
    if (n != 1 || heard != word)
        FAIL("expected '%c' of the other program, got %zd '%c'", word, n, heard);
}

static boxlite_box *get_box(boxlite_runtime *runtime, const char *name)
{
    boxlite_op *op;
    boxlite_box *box;
    OK(boxlite_box_get(runtime, name, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    return box;
}

static void shut_down(boxlite_runtime *runtime)
{
    boxlite_op *op;
    OK(boxlite_runtime_shutdown(runtime, 0, &op, &error));
    wait_op(op);
    boxlite_runtime_free(runtime);
}

static int second_program(void)
{
    boxlite_op *op;
    hear(to_child[0], 'r'); // running

    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = get_box(runtime, "shared");
    CHECK(status_of(box) == BOXLITE_BOX_RUNNING);
    PRINTS(box, "cat /mark", "made by the first\n");
    // What it leaves running ends with its connection; the box does not.
    boxlite_exec *exec = start(box, "sleep 1000");
    boxlite_exec_free(exec);
    boxlite_box_free(box);
    shut_down(runtime);
    say(to_parent[1], 'g'); // gone

    hear(to_child[0], 's'); // stopping, with a long grace
    runtime = open_runtime();
    box = get_box(runtime, "shared");
    EVENTUALLY(status_of(box) == BOXLITE_BOX_STOPPING);
    OK(boxlite_box_stop(box, 0, &op, &error));
    wait_op(op);
    EVENTUALLY(status_of(box) == BOXLITE_BOX_STOPPED);
    boxlite_box_free(box);
    shut_down(runtime);
    say(to_parent[1], 'd'); // done
    return 0;
}

static void first_program(pid_t child)
{
    boxlite_box_options *options;
    boxlite_op *op;
    boxlite_runtime *runtime = open_runtime();
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "shared", &error));
    boxlite_box *box = create_box(runtime, options);
    PRINTS(box, "echo made by the first > /mark; echo ok", "ok\n");
    say(to_child[1], 'r');
    hear(to_parent[0], 'g');

    // The other program has come and gone: the box is as it was, but for that program's command.
    CHECK(status_of(box) == BOXLITE_BOX_RUNNING);
    PRINTS(box, "cat /mark", "made by the first\n");
    PRINTS(box, "while pgrep -x sleep >/dev/null; do :; done; echo none", "none\n");

    // A command that ignores SIGTERM makes a stop last as long as its grace; the other's stop, with
    // none, ends it at once.
    boxlite_exec *exec = start(box, "trap '' TERM; echo set; while :; do sleep 1; done");
    char byte;
    size_t length;
    boxlite_status read;
    EVENTUALLY((read = boxlite_exec_read(exec, BOXLITE_STDOUT, (uint8_t *)&byte, 1, &length, NULL),
                read == BOXLITE_OK));
    OK(boxlite_box_stop(box, 3600000, &op, &error));
    say(to_child[1], 's');
    hear(to_parent[0], 'd');
    wait_op(op);
    CHECK(status_of(box) == BOXLITE_BOX_STOPPED);
    boxlite_exec_free(exec);

    int result;
    CHECK(waitpid(child, &result, 0) == child && WIFEXITED(result) && WEXITSTATUS(result) == 0);
    remove_box(runtime, box);
    close_runtime(runtime);
}

// A program that lets go of everything inside a callback, and dispatches no more, leaves nothing.
static void free_all(void *user_data, const uint8_t *data, size_t length)
{
    boxlite_exec **exec = user_data;
    CHECK(data && length > 0);
    boxlite_exec_free(*exec);
    *exec = NULL;
}

static void leaves_nothing(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    boxlite_exec *exec = start(box, "yes");
    OK(boxlite_exec_on_stdout(exec, free_all, &exec, NULL, &error));
    while (exec)
        OK(boxlite_dispatch(runtime, 60000, NULL, &error));
    boxlite_box_free(box);
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_machines() == 0);
    runtime = open_runtime();
    close_runtime(runtime);
}

int main(void)
{
    alarm(300); // only guards against two programs waiting for each other
    strcpy(home, "/tmp/boxlite-test-XXXXXX");
    CHECK(mkdtemp(home));
    CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(to_child[1]);
        close(to_parent[0]);
        return second_program();
    }
    close(to_child[0]);
    close(to_parent[1]);
    first_program(child);
    leaves_nothing();
    return 0;
}
