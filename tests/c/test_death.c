// What happens when parts die: a typed error, never a hang, and the disk is kept.
#include "program.h"

typedef struct {
    int calls, code;
    boxlite_status status;
    char message[512];
} end;

static void note(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    end *e = user_data;
    (void)signal;
    e->calls++;
    e->code = code;
    e->status = why ? boxlite_error_code(why) : BOXLITE_OK;
    snprintf(e->message, sizeof e->message, "%s", boxlite_error_message(why));
}

static uint32_t machine_pid(void)
{
    // The only process of ours that is QEMU.
    char command[256], line[64];
    snprintf(command, sizeof command, "grep -lz %s /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3", home);
    FILE *pipe = popen(command, "r");
    CHECK(pipe && fgets(line, sizeof line, pipe));
    pclose(pipe);
    return (uint32_t)strtoul(line, NULL, 10);
}

// The status of one of all boxes, newest first; -1 beyond the last.
static int32_t status_at(boxlite_runtime *runtime, size_t index)
{
    boxlite_op *op;
    boxlite_info_list *list;
    OK(boxlite_box_list(runtime, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_info_list(op, &list, &error));
    boxlite_op_free(op);
    const boxlite_box_info *info = boxlite_info_list_get(list, index);
    CHECK((info != NULL) == (index < boxlite_info_list_count(list)));
    int32_t status = info ? boxlite_box_info_status(info) : -1;
    boxlite_info_list_free(list);
    return status;
}

// Starts a command that would run for ever, does something fatal or has the command do it, and returns
// how it ended.
static end ends(boxlite_box *box, const char *script, void (*kill_it)(void), int32_t status)
{
    end e = {0};
    int32_t code;
    size_t written;
    boxlite_exec_options *options = shell(script);
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    boxlite_exec *exec = start_with(box, options);
    OK(boxlite_exec_on_exit(exec, note, &e, NULL, &error));
    if (kill_it)
        kill_it();
    else
        OK(boxlite_exec_write(exec, (const uint8_t *)"go\n", 3, &written, &error));
    boxlite_status waited = boxlite_exec_wait(exec, 120000, &code, &error);
    CHECK(waited != BOXLITE_OK && waited != BOXLITE_TIMEOUT);
    boxlite_error_free(error);
    CHECK(e.calls == 1 && e.code == -1);
    boxlite_exec_free(exec);
    EVENTUALLY(status_of(box) == status);
    EVENTUALLY(count_machines() == 0);
    return e;
}

static void kill_machine(void)
{
    CHECK(kill((pid_t)machine_pid(), SIGKILL) == 0);
}

static uint32_t supervisor;

static void kill_supervisor(void)
{
    CHECK(kill((pid_t)supervisor, SIGKILL) == 0);
}

static void be_killed(void)
{
    boxlite_runtime *runtime = open_runtime();
    new_box(runtime);
    start(new_box(runtime), "exec sleep 1000");
    die_and_leave_a_copy();
}

static const program programs[] = {{"be_killed", be_killed}, {NULL, NULL}};

int main(int argc, char **argv)
{
    (void)argc;
    be_program(argv, programs);
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo kept > /file; sync; cat /file", "kept\n");

    end e = ends(box, "exec sleep 1000", kill_machine, BOXLITE_BOX_FAILED);
    CHECK(e.status == BOXLITE_ENGINE && strstr(e.message, "signal 9"));
    PRINTS(box, "cat /file", "kept\n");

    // Nobody is left to tell why: what there is to be found is told.
    boxlite_box_info *info = inspect(box);
    supervisor = boxlite_box_info_pid(info);
    boxlite_box_info_free(info);
    char look[256];
    snprintf(look, sizeof look, "grep -q 'a last word' %s/boxes/%s/logs/console.log", home, boxlite_box_id(box));
    PRINTS(box, "echo a last word > /dev/console; echo said", "said\n");
    EVENTUALLY(system(look) == 0);
    e = ends(box, "exec sleep 1000", kill_supervisor, BOXLITE_BOX_FAILED);
    CHECK(e.status == BOXLITE_ENGINE && strstr(e.message, "was killed"));
    info = inspect(box);
    CHECK(strstr(boxlite_box_info_error(info), "was killed"));
    CHECK(strstr(boxlite_box_info_error(info), "a last word"));
    boxlite_box_info_free(info);
    PRINTS(box, "cat /file", "kept\n");

    e = ends(box, "read go; echo c > /proc/sysrq-trigger; exec sleep 1000", NULL, BOXLITE_BOX_FAILED);
    CHECK(e.status == BOXLITE_ENGINE && strstr(e.message, "Kernel panic"));
    PRINTS(box, "cat /file", "kept\n");

    // Switched off from inside: an ordinary end.
    e = ends(box, "read go; reboot -f; exec sleep 1000", NULL, BOXLITE_BOX_STOPPED);
    CHECK(e.status == BOXLITE_STOPPED);
    PRINTS(box, "cat /file", "kept\n");

    // The host program is killed: the box goes with it, at once, although a child that it forked
    // holds all its descriptors and lives on until we let it go.
    int lives_on[2];
    make_pipe(lives_on);
    wait_killed(start_program("be_killed", lives_on[0], -1));
    EVENTUALLY(count_machines() == 1);
    close(lives_on[0]);
    close(lives_on[1]);
    // What it left says that it is stopped; the first box, ours, still runs.
    EVENTUALLY(status_at(runtime, 0) == BOXLITE_BOX_STOPPED);
    CHECK(status_at(runtime, 1) == BOXLITE_BOX_CONFIGURED);
    CHECK(status_at(runtime, 2) == BOXLITE_BOX_RUNNING);
    CHECK(status_at(runtime, 3) == -1);

    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
