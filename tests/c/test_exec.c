// Commands in a box, as a user of the C library sees them.
#include "check.h"

static void bytes_come_back_as_they_are(boxlite_box *box)
{
    bytes out = {0}, err = {0};
    // All 256 values, twice, with nothing in between that looks like text.
    const char *script = "i=0; while [ $i -lt 512 ]; do printf \"\\\\$(printf %03o $((i % 256)))\"; "
                         "i=$((i + 1)); done";
    CHECK(finish(start(box, script), &out, &err) == 0);
    CHECK(out.length == 512 && err.length == 0);
    for (int i = 0; i < 512; i++)
        CHECK(out.data[i] == i % 256);
    free(out.data);
}

static void outputs_are_kept_apart(boxlite_box *box)
{
    bytes out = {0}, err = {0};
    CHECK(finish(start(box, "echo a; echo b >&2; echo c; exit 42"), &out, &err) == 42);
    CHECK(!strcmp((char *)out.data, "a\nc\n") && !strcmp((char *)err.data, "b\n"));
    free(out.data);
    free(err.data);
}

static void what_cannot_run_says_so(boxlite_box *box)
{
    const struct {
        const char *command;
        int32_t code;
        const char *message;
    } cases[] = {
        {"no-such-command", 127, "no-such-command: command not found"},
        {"/no/such/file", 127, "/no/such/file: no such file"},
        {"/etc/passwd", 126, "/etc/passwd: cannot be executed"},
        {"/etc", 126, "/etc: cannot be executed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        boxlite_exec_options *options;
        int32_t code;
        OK(boxlite_exec_options_new(&cases[i].command, 1, &options, &error));
        boxlite_exec *exec = start_with(box, options);
        OK(boxlite_exec_wait(exec, 60000, &code, &error));
        CHECK(code == cases[i].code);
        CHECK(strstr(boxlite_exec_message(exec), cases[i].message));
        boxlite_exec_free(exec);
    }
}

static void who_and_where_are_as_asked(boxlite_box *box)
{
    bytes out = {0}, err = {0};
    boxlite_exec_options *options = shell("id -u; id -g; id -G; pwd; echo $HOME $A $B");
    OK(boxlite_exec_options_set_user(options, "app", &error));
    OK(boxlite_exec_options_set_working_dir(options, "/tmp", &error));
    OK(boxlite_exec_options_add_env(options, "B", "exec", &error));
    CHECK(finish(start_with(box, options), &out, &err) == 0);
    char *text = (char *)out.data;
    CHECK(!strncmp(text, "1000\n1000\n1000 ", 15));
    CHECK(strstr(text, "\n/tmp\n/home/app box exec\n"));
    free(out.data);

    boxlite_op *op;
    options = shell("true");
    OK(boxlite_exec_options_set_user(options, "nobody-knows-me", &error));
    OK(boxlite_box_exec(box, options, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_INVALID_ARGUMENT, "nobody-knows-me");
    boxlite_op_free(op);
    OK(boxlite_exec_options_set_user(options, "root", &error));
    OK(boxlite_exec_options_set_working_dir(options, "/no/such/dir", &error));
    OK(boxlite_box_exec(box, options, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_INVALID_ARGUMENT, "/no/such/dir");
    boxlite_op_free(op);
    boxlite_exec_options_free(options);
}

static void stdin_is_a_stream(boxlite_box *box)
{
    enum { SIZE = 3000000 };
    bytes out = {0}, err = {0};
    boxlite_exec_options *options = shell("wc -c; echo end");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    boxlite_exec *exec = start_with(box, options);
    uint8_t *data = calloc(1, SIZE);
    size_t sent = 0;
    while (sent < SIZE) {
        size_t written;
        boxlite_status status = boxlite_exec_write(exec, data + sent, SIZE - sent, &written, &error);
        if (status == BOXLITE_WOULD_BLOCK) {
            boxlite_error_free(error);
            nanosleep(&(struct timespec){0, 1000000}, NULL);
            continue;
        }
        OK(status);
        sent += written;
    }
    OK(boxlite_exec_close_stdin(exec, &error));
    OK(boxlite_exec_close_stdin(exec, &error));
    FAILS(boxlite_exec_write(exec, data, 1, &sent, &error), BOXLITE_INVALID_STATE, "stdin");
    CHECK(finish(exec, &out, &err) == 0);
    CHECK(!strcmp((char *)out.data, "3000000\nend\n"));
    free(out.data);
    free(data);

    // Without one, a command reads end of file.
    PRINTS(box, "cat; echo done", "done\n");
}

static void signals_reach_the_whole_group(boxlite_box *box)
{
    bytes out = {0}, err = {0};
    boxlite_op *op;
    boxlite_exec *exec = start(box, "sleep 1000 & sleep 1000");
    OK(boxlite_exec_signal(exec, SIGKILL, &op, &error));
    wait_op(op);
    CHECK(finish(exec, &out, &err) == 128 + SIGKILL);
    PRINTS(box, "cat /proc/[0-9]*/comm | grep -c '^sleep$' || :", "0\n");

    exec = start(box, "exec sleep 1000");
    OK(boxlite_exec_signal(exec, 12345, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_INVALID_ARGUMENT, "signal");
    boxlite_op_free(op);
    boxlite_exec_free(exec);
}

static void background_processes_do_not_hold_up_the_exit(boxlite_box *box)
{
    bytes out = {0}, err = {0};
    CHECK(finish(start(box, "(while :; do echo noise; sleep 0.01; done) & echo main"), &out, &err) == 0);
    CHECK(strstr((char *)out.data, "main\n"));
    free(out.data);
    // It lives on, although nobody reads what it writes.
    PRINTS(box, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q 'echo [n]oise' && echo alive", "alive\n");
}

static void the_box_is_a_machine_of_its_own(boxlite_box *box)
{
    PRINTS(box, "hostname; cat /etc/hostname; echo $HOSTNAME", "box-one\nbox-one\nbox-one\n");
    PRINTS(box, "grep -c . /etc/machine-id; tr -d '\\n' < /etc/machine-id | wc -c", "1\n32\n");
    PRINTS(box, "ping -c 1 -W 5 127.0.0.1 >/dev/null && echo up", "up\n");
    PRINTS(box, "df -k / | awk 'NR==2 {print ($2 > 9000000 && $2 < 10485760)}'", "1\n");
    PRINTS(box, "for f in null zero random urandom full tty ptmx fd/0 pts shm mqueue; do "
                "[ -e /dev/$f ] || echo missing $f; done; echo ok",
           "ok\n");
    char script[128];
    snprintf(script, sizeof script, "d=$(( $(date +%%s) - %lld )); [ $d -ge -2 ] && [ $d -le 30 ] && echo ok",
             (long long)time(NULL));
    PRINTS(box, script, "ok\n");
}

int main(void)
{
    // The first runtime of a process opens two descriptors that stay until it ends.
    close_runtime(open_runtime());
    int before = count_fds();
    boxlite_runtime *runtime = open_runtime();
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "box_one", &error));
    OK(boxlite_box_options_add_env(options, "A", "box", &error));
    OK(boxlite_box_options_add_env(options, "B", "box", &error));
    boxlite_box *box = create_box(runtime, options);

    bytes_come_back_as_they_are(box);
    outputs_are_kept_apart(box);
    what_cannot_run_says_so(box);
    who_and_where_are_as_asked(box);
    stdin_is_a_stream(box);
    signals_reach_the_whole_group(box);
    background_processes_do_not_hold_up_the_exit(box);
    the_box_is_a_machine_of_its_own(box);

    remove_box(runtime, box);
    close_runtime(runtime);
    EVENTUALLY(count_fds() <= before);
    return 0;
}
