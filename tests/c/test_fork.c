// A fork: the child opens a runtime of its own if its parent had none, leaves its parent's handles
// alone, and harms nobody. Without the address sanitizer: gcc's would lock up the child now and then.
#include "check.h"
#include <poll.h>
#include <signal.h>

typedef struct {
    int completions, exits, code;
    bytes out;
} witness;

static void on_complete(void *user_data, boxlite_op *op)
{
    CHECK(boxlite_op_is_done(op));
    ((witness *)user_data)->completions++;
}

static void on_stdout(void *user_data, const uint8_t *data, size_t length)
{
    append(&((witness *)user_data)->out, data, length);
}

static void on_exit_(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    witness *w = user_data;
    CHECK(!signal && !why);
    w->exits++;
    w->code = code;
}

static bool readable(boxlite_runtime *runtime)
{
    struct pollfd fd = {.fd = boxlite_event_fd(runtime), .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

// The child's end, with a limit that only guards against hanging.
static void wait_child(pid_t child)
{
    int status;
    EVENTUALLY(waitpid(child, &status, WNOHANG) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        FAIL("the child ended with status %#x", status);
}

static void uses_a_box_of_its_own(boxlite_runtime *runtime)
{
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo of the child", "of the child\n");
    remove_box(runtime, box);
    boxlite_op *op;
    OK(boxlite_runtime_shutdown(runtime, 0, &op, &error));
    wait_op(op);
    boxlite_runtime_free(runtime);
}

static void before_any_runtime_is_open(void)
{
    // One that is closed again counts no more.
    boxlite_runtime_free(open_runtime());
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        *home = 0; // but in a home of its own
        boxlite_runtime *runtime = open_runtime();
        uses_a_box_of_its_own(runtime);
        close_runtime(open_runtime());
        _exit(0);
    }
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo of the parent", "of the parent\n");
    wait_child(child);
    remove_box(runtime, box);
    close_runtime(runtime);
}

#define REFUSED(call) FAILS(call, BOXLITE_INVALID_STATE, "fork")

typedef struct {
    boxlite_runtime *runtime;
    boxlite_box *box;
    boxlite_exec *exec;
    boxlite_op *running, *due;
    witness *running_witness;
} handles;

// Everything the child may try with its parent's handles.
static void the_child_tries(handles h)
{
    boxlite_op *op = NULL;
    boxlite_exec *exec = NULL;
    boxlite_box *box = NULL;
    boxlite_box_info *info = NULL;
    boxlite_info_list *list = NULL;
    boxlite_output *output = NULL;
    boxlite_box_options *box_options;
    boxlite_exec_options *exec_options = shell("true");
    const char *argv[] = {"true"};
    uint8_t byte = 'x';
    size_t length = 77;
    int32_t code = 77;
    OK(boxlite_box_options_new(image("busybox"), &box_options, &error));
    REFUSED(boxlite_dispatch(h.runtime, 0, &length, &error));
    REFUSED(boxlite_dispatch(h.runtime, -1, &length, &error));
    REFUSED(boxlite_runtime_shutdown(h.runtime, 0, &op, &error));
    REFUSED(boxlite_runtime_on_log(h.runtime, BOXLITE_LOG_TRACE, NULL, NULL, NULL, &error));
    REFUSED(boxlite_run(h.runtime, image("busybox"), argv, 1, 1, -1, &output, &error));
    REFUSED(boxlite_box_create(h.runtime, box_options, &op, &error));
    REFUSED(boxlite_box_get(h.runtime, "x", &op, &error));
    REFUSED(boxlite_box_list(h.runtime, &op, &error));
    REFUSED(boxlite_box_remove(h.runtime, boxlite_box_id(h.box), true, &op, &error));
    REFUSED(boxlite_box_start(h.box, &op, &error));
    REFUSED(boxlite_box_stop(h.box, 0, &op, &error));
    REFUSED(boxlite_box_inspect(h.box, &op, &error));
    REFUSED(boxlite_box_exec(h.box, exec_options, &op, &error));
    REFUSED(boxlite_box_run(h.box, exec_options, 1, &op, &error));
    REFUSED(boxlite_exec_on_exit(h.exec, NULL, NULL, NULL, &error));
    REFUSED(boxlite_exec_on_ready(h.exec, NULL, NULL, NULL, &error));
    REFUSED(boxlite_exec_on_stdout(h.exec, NULL, NULL, NULL, &error));
    REFUSED(boxlite_exec_on_stderr(h.exec, NULL, NULL, NULL, &error));
    REFUSED(boxlite_exec_pause(h.exec, BOXLITE_STDOUT, &error));
    REFUSED(boxlite_exec_resume(h.exec, BOXLITE_STDOUT, &error));
    REFUSED(boxlite_exec_read(h.exec, BOXLITE_STDERR, &byte, 1, &length, &error));
    REFUSED(boxlite_exec_write(h.exec, &byte, 1, &length, &error));
    REFUSED(boxlite_exec_close_stdin(h.exec, &error));
    REFUSED(boxlite_exec_signal(h.exec, SIGKILL, &op, &error));
    REFUSED(boxlite_exec_wait(h.exec, -1, &code, &error));
    boxlite_op *ops[] = {h.running, h.due};
    for (int i = 0; i < 2; i++) {
        REFUSED(boxlite_op_wait(ops[i], -1, &error));
        REFUSED(boxlite_op_cancel(ops[i], &error));
        REFUSED(boxlite_op_on_complete(ops[i], NULL, NULL, NULL, &error));
        REFUSED(boxlite_op_on_progress(ops[i], NULL, NULL, NULL, &error));
        REFUSED(boxlite_op_take_box(ops[i], &box, &error));
        REFUSED(boxlite_op_take_exec(ops[i], &exec, &error));
        REFUSED(boxlite_op_take_info(ops[i], &info, &error));
        REFUSED(boxlite_op_take_info_list(ops[i], &list, &error));
        REFUSED(boxlite_op_take_output(ops[i], &output, &error));
        (void)boxlite_op_is_done(ops[i]);
    }
    CHECK(!op && !exec && !box && !info && !list && !output && length == 77 && code == 77);
    // Getters harm nobody.
    (void)boxlite_event_fd(h.runtime);
    CHECK(strlen(boxlite_box_id(h.box)) == 26 && !boxlite_box_name(h.box));
    (void)boxlite_exec_message(h.exec);
    boxlite_box_options_free(box_options);
    boxlite_exec_options_free(exec_options);
}

static void the_child_frees(handles h)
{
    boxlite_op_free(boxlite_op_ref(h.running));
    boxlite_exec_free(boxlite_exec_ref(h.exec));
    boxlite_op_free(h.running);
    boxlite_op_free(h.due);
    boxlite_exec_free(h.exec);
    boxlite_box_free(h.box);
    boxlite_runtime_free(h.runtime);
}

// Neither on the home its parent uses nor on another.
static void the_child_opens_none(void)
{
    boxlite_runtime_options *options = in_home();
    boxlite_runtime *runtime = NULL;
    REFUSED(boxlite_runtime_open(options, &runtime, &error));
    char other[sizeof home + 8];
    snprintf(other, sizeof other, "%s/other", home);
    OK(boxlite_runtime_options_set_home(options, other, &error));
    REFUSED(boxlite_runtime_open(options, &runtime, &error));
    CHECK(!runtime);
    boxlite_runtime_options_free(options);
}

static void after_a_runtime_was_opened(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime), *other = new_box(runtime);
    witness w = {0}, running = {0};
    boxlite_exec_options *options = shell("read x; echo $x; exit 4");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    handles h = {.runtime = runtime, .box = box, .exec = start_with(box, options)};
    OK(boxlite_exec_on_stdout(h.exec, on_stdout, &w, NULL, &error));
    OK(boxlite_exec_on_exit(h.exec, on_exit_, &w, NULL, &error));
    dispatch_all(runtime);
    // One operation under way, and one whose callback is due.
    OK(boxlite_box_inspect(box, &h.due, &error));
    OK(boxlite_op_on_complete(h.due, on_complete, &w, NULL, &error));
    OK(boxlite_op_wait(h.due, 60000, &error));
    EVENTUALLY(readable(runtime));
    OK(boxlite_box_start(other, &h.running, &error));
    OK(boxlite_op_on_complete(h.running, on_complete, &running, NULL, &error));
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        the_child_tries(h);
        the_child_frees(h);
        the_child_opens_none();
        _exit(0);
    }
    wait_child(child);

    // The parent's event still waits, its operation completes, its command reads, writes and ends.
    CHECK(w.completions == 0 && readable(runtime));
    DISPATCH_UNTIL(runtime, w.completions == 1 && running.completions == 1);
    OK(boxlite_op_wait(h.running, 60000, &error));
    size_t written;
    OK(boxlite_exec_write(h.exec, (const uint8_t *)"still here\n", 11, &written, &error));
    DISPATCH_UNTIL(runtime, w.exits == 1);
    CHECK(w.code == 4 && !strcmp((char *)w.out.data, "still here\n"));
    free(w.out.data);
    PRINTS(box, "echo alive", "alive\n");
    PRINTS(other, "echo alive", "alive\n");
    CHECK(count_machines() == 2);
    boxlite_op_free(h.running);
    boxlite_op_free(h.due);
    boxlite_exec_free(h.exec);
    remove_box(runtime, other);
    remove_box(runtime, box);
    close_runtime(runtime);
}

int main(void)
{
    before_any_runtime_is_open();
    after_a_runtime_was_opened();
    return 0;
}
