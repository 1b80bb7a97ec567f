// The supervisor is killed while a command reads and writes: its end is told as what it is.
#include "check.h"

static pid_t supervisor_pid(boxlite_box *box)
{
    boxlite_op *op;
    boxlite_box_info *info;
    OK(boxlite_box_inspect(box, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_info(op, &info, &error));
    pid_t pid = (pid_t)boxlite_box_info_pid(info);
    boxlite_op_free(op);
    boxlite_box_info_free(info);
    CHECK(pid > 1);
    return pid;
}

// The command has no end of its own: its machine or its supervisor was killed.
static void box_ended(boxlite_exec *exec)
{
    int32_t code = 77;
    boxlite_status status = boxlite_exec_wait(exec, 60000, &code, &error);
    if ((status != BOXLITE_ENGINE && status != BOXLITE_STOPPED) || code != 77)
        FAIL("%s, code %d: %s", boxlite_status_name(status), (int)code, boxlite_error_message(error));
    boxlite_error_free(error);
    error = NULL;
}

// With SIGPIPE as it is by default: deadly.
static void a_killed_supervisor_is_told(boxlite_runtime *runtime, boxlite_box *box)
{
    enum { CHUNK = 65536 };
    static uint8_t data[CHUNK];
    struct sigaction action;
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    boxlite_exec_options *options = shell("cat > /dev/null");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    boxlite_exec *writer = start_with(box, options), *reader = start(box, "yes");
    bytes got = {0};
    OK(boxlite_exec_on_stdout(reader, append, &got, NULL, &error));
    boxlite_status status = BOXLITE_OK;
    time_t began = time(NULL);
    // Written to while it dies, and afterwards.
    for (int i = 0; status == BOXLITE_OK || status == BOXLITE_WOULD_BLOCK; i++) {
        size_t written;
        status = boxlite_exec_write(writer, data, CHUNK, &written, NULL);
        if (i == 50)
            CHECK(kill(supervisor_pid(box), SIGKILL) == 0);
        if (i > 50)
            sleep_ms(1);
        CHECK(time(NULL) - began < 60);
    }
    CHECK(status == BOXLITE_INVALID_STATE);
    box_ended(writer);
    box_ended(reader);
    boxlite_op *op;
    OK(boxlite_exec_signal(reader, SIGTERM, &op, &error));
    CHECK(boxlite_op_wait(op, 60000, NULL) != BOXLITE_TIMEOUT);
    boxlite_op_free(op);
    boxlite_exec_free(writer);
    boxlite_exec_free(reader);
    free(got.data);
    EVENTUALLY(count_machines() == 0);
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    EVENTUALLY(boxlite_box_start(box, &op, NULL) == BOXLITE_OK &&
               (status = boxlite_op_wait(op, 60000, NULL), boxlite_op_free(op), status == BOXLITE_OK));
    PRINTS(box, "echo again", "again\n");
    dispatch_all(runtime);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    for (int i = 0; i < 3; i++)
        a_killed_supervisor_is_told(runtime, box);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
