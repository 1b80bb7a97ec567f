// Boxes and commands that outlive the program that started them.
#include "program.h"

enum { SPOOL = 65536, LINES = 20000, LENGTH = 108894 };

static boxlite_box *detached_box(boxlite_runtime *runtime, const char *name)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, name, &error));
    OK(boxlite_box_options_set_detach(options, true, &error));
    OK(boxlite_box_options_set_spool_bytes(options, SPOOL, &error));
    return create_box(runtime, options);
}

static void start_box(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_start(box, &op, &error));
    wait_op(op);
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

static boxlite_exec *start_detached(boxlite_box *box, const char *script)
{
    boxlite_exec_options *options = shell(script);
    OK(boxlite_exec_options_set_detach(options, true, &error));
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    return start_with(box, options);
}

static boxlite_exec *attach(boxlite_box *box, uint32_t id, uint64_t from)
{
    boxlite_op *op;
    boxlite_exec *exec;
    OK(boxlite_box_attach(box, id, from, 0, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_exec(op, &exec, &error));
    boxlite_op_free(op);
    return exec;
}

static boxlite_exec_list *list(boxlite_box *box)
{
    boxlite_op *op;
    boxlite_exec_list *execs;
    OK(boxlite_box_list_execs(box, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_exec_list(op, &execs, &error));
    boxlite_op_free(op);
    return execs;
}

static size_t count_execs(boxlite_box *box)
{
    boxlite_exec_list *execs = list(box);
    size_t count = boxlite_exec_list_count(execs);
    boxlite_exec_list_free(execs);
    return count;
}

static uint64_t total(boxlite_box *box, size_t index, int32_t stream)
{
    boxlite_exec_list *execs = list(box);
    uint64_t bytes = boxlite_exec_info_total(boxlite_exec_list_get(execs, index), stream);
    boxlite_exec_list_free(execs);
    return bytes;
}

// What a follower gets: bytes, and a gap before them.
typedef struct {
    bytes out;
    uint64_t lost;
    int gaps;
} followed;

static void on_bytes(void *user_data, const uint8_t *data, size_t length)
{
    append(&((followed *)user_data)->out, data, length);
}

static void on_gap(void *user_data, int32_t stream, uint64_t bytes)
{
    followed *f = user_data;
    CHECK(stream == BOXLITE_STDOUT && bytes > 0);
    f->lost += bytes;
    f->gaps++;
}

static void watch(boxlite_exec *exec, followed *f)
{
    OK(boxlite_exec_on_gap(exec, on_gap, f, NULL, &error));
    OK(boxlite_exec_on_stdout(exec, on_bytes, f, NULL, &error));
}

// The bytes of `seq`.
static char *numbers(int count, size_t *length)
{
    char *text = malloc((size_t)count * 8 + 1), *end = text;
    CHECK(text);
    for (int i = 1; i <= count; i++)
        end += sprintf(end, "%d\n", i);
    *length = (size_t)(end - text);
    return text;
}

// The first program: killed as soon as all runs.
static void starter(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = detached_box(runtime, "outlives");
    start_box(box);
    start(box, "exec sleep 1000");
    start_detached(box, "seq 20000; echo done >&2; read line; exec sleep 1000");
    boxlite_box *mortal = new_box(runtime);
    start_box(mortal);
    CHECK(count_machines() == 2);
    kill(getpid(), SIGKILL);
}

// Ends with everything let go of in order, and nothing stopped.
static void orderly(void)
{
    boxlite_op *op;
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = get_box(runtime, "outlives");
    boxlite_exec_free(start_detached(box, "exec sleep 1000"));
    boxlite_box_free(box);
    OK(boxlite_runtime_shutdown(runtime, 0, &op, &error));
    wait_op(op);
    boxlite_runtime_free(runtime);
}

// Starts a box in a machine that has waited for one, beside another that waits on.
static void pooled(void)
{
    boxlite_runtime *runtime;
    boxlite_runtime_options *options = in_home();
    OK(boxlite_runtime_options_set_pool_size(options, 2, &error));
    OK(boxlite_runtime_open(options, &runtime, &error));
    EVENTUALLY(boxlite_runtime_pool_ready(runtime) == 2);
    boxlite_box *box = detached_box(runtime, "pooled");
    start_as(box, BOXLITE_BOOT_POOLED);
    PRINTS(box, "echo of the first >/run/mark && ln -s /run/mark /mark; cat /mark", "of the first\n");
    kill(getpid(), SIGKILL);
}

// Starts a box, to be killed at any moment.
static void hasty(void)
{
    boxlite_runtime *runtime = open_runtime();
    start_box(get_box(runtime, "hasty"));
    CHECK(write(1, "s", 1) == 1);
    pause();
}

static void what_a_killed_program_left_is_found_and_followed(boxlite_runtime *runtime)
{
    boxlite_op *op;
    wait_killed(start_program("starter", -1, -1));
    // The other box is gone with its program: the negative control.
    EVENTUALLY(count_machines() == 1);
    boxlite_box *box = get_box(runtime, "outlives");
    CHECK(status_of(box) == BOXLITE_BOX_RUNNING);
    boxlite_box_info *info = inspect(box);
    CHECK(boxlite_box_info_detach(info));
    boxlite_box_info_free(info);
    // So is the command that was not detached.
    EVENTUALLY(count_execs(box) == 1);
    EVENTUALLY(total(box, 0, BOXLITE_STDOUT) == LENGTH && total(box, 0, BOXLITE_STDERR) == 5);
    boxlite_exec_list *execs = list(box);
    const boxlite_exec_info *one = boxlite_exec_list_get(execs, 0);
    CHECK(boxlite_exec_info_is_detached(one) && boxlite_exec_info_is_running(one) && !boxlite_exec_info_is_main(one));
    CHECK(boxlite_exec_info_argument_count(one) == 3 && !strcmp(boxlite_exec_info_argument(one, 0), "sh"));
    CHECK(boxlite_exec_info_first(one, BOXLITE_STDOUT) == LENGTH - SPOOL);
    CHECK(!boxlite_exec_list_get(execs, 1) && *boxlite_exec_info_started_at(one) == '2');
    uint32_t id = boxlite_exec_info_id(one);
    boxlite_exec_list_free(execs);

    size_t length;
    char *all = numbers(LINES, &length);
    CHECK(length == LENGTH);
    const uint64_t froms[] = {0, 5, LENGTH - SPOOL, LENGTH - 70, LENGTH};
    for (int i = 0; i < 5; i++) {
        followed f = {0};
        uint64_t gone = froms[i] < LENGTH - SPOOL ? LENGTH - SPOOL - froms[i] : 0;
        boxlite_exec *exec = attach(box, id, froms[i]);
        CHECK(boxlite_exec_id(exec) == id && boxlite_exec_offset(exec, BOXLITE_STDOUT) == froms[i]);
        watch(exec, &f);
        DISPATCH_UNTIL(runtime, boxlite_exec_offset(exec, BOXLITE_STDOUT) == LENGTH);
        CHECK(f.lost == gone && f.gaps == (gone > 0) && boxlite_exec_lost(exec, BOXLITE_STDOUT) == gone);
        CHECK(f.out.length == LENGTH - froms[i] - gone);
        CHECK(!f.out.length || !memcmp(f.out.data, all + froms[i] + gone, f.out.length));
        boxlite_exec_free(exec);
        free(f.out.data);
    }
    OK(boxlite_box_attach(box, id, LENGTH + 1, 0, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_INVALID_ARGUMENT, "beyond");
    boxlite_op_free(op);

    // Who reads is told once, and goes on behind it.
    uint8_t data[100];
    size_t read;
    boxlite_exec *exec = attach(box, id, 0);
    boxlite_status status;
    while ((status = boxlite_exec_read(exec, BOXLITE_STDOUT, data, sizeof data, &read, NULL)) == BOXLITE_WOULD_BLOCK)
        sleep_ms(1);
    CHECK(status == BOXLITE_GAP && boxlite_exec_lost(exec, BOXLITE_STDOUT) == LENGTH - SPOOL);
    OK(boxlite_exec_read(exec, BOXLITE_STDOUT, data, sizeof data, &read, &error));
    CHECK(read > 0 && !memcmp(data, all + LENGTH - SPOOL, read));
    CHECK(boxlite_exec_offset(exec, BOXLITE_STDOUT) == LENGTH - SPOOL + read);
    boxlite_exec_free(exec);
    free(all);

    // A follower may signal it; the end of its own program closed its stdin.
    exec = attach(box, id, LENGTH);
    OK(boxlite_exec_signal(exec, SIGKILL, &op, &error));
    wait_op(op);
    bytes out = {0}, err = {0};
    CHECK(finish(exec, &out, &err) == 137 && out.length == 0 && !strcmp((char *)err.data, "done\n"));
    free(err.data);
    execs = list(box);
    one = boxlite_exec_list_get(execs, 0);
    CHECK(boxlite_exec_info_id(one) == id && !boxlite_exec_info_is_running(one));
    CHECK(boxlite_exec_info_code(one) == 137 && boxlite_exec_info_signal(one) == SIGKILL);
    boxlite_exec_list_free(execs);
    boxlite_box_free(box);
}

static void a_slow_follower_holds_nobody_up(boxlite_runtime *runtime)
{
    boxlite_box *box = get_box(runtime, "outlives");
    size_t written;
    // The one that started it never reads until the end.
    boxlite_exec *slow = start_detached(box, "read go; seq 500000; exit 3");
    boxlite_exec *fast = attach(box, boxlite_exec_id(slow), 0);
    followed f = {0}, s = {0};
    int32_t code;
    size_t length;
    char *all = numbers(500000, &length);
    watch(fast, &f);
    EVENTUALLY(boxlite_exec_write(slow, (const uint8_t *)"go\n", 3, &written, NULL) == BOXLITE_OK);
    OK(boxlite_exec_wait(fast, 120000, &code, &error));
    CHECK(code == 3 && f.out.length + f.lost == length);
    // Its own end is the stream's, whatever was lost on the way.
    CHECK(f.out.length >= SPOOL && !memcmp(f.out.data + f.out.length - 1000, all + length - 1000, 1000));
    watch(slow, &s);
    OK(boxlite_exec_wait(slow, 120000, &code, &error));
    CHECK(code == 3 && s.out.length + s.lost == length && s.lost > 0);
    CHECK(!memcmp(s.out.data, all, 200000));
    CHECK(!memcmp(s.out.data + s.out.length - SPOOL, all + length - SPOOL, SPOOL));
    boxlite_exec_free(slow);
    boxlite_exec_free(fast);
    free(f.out.data);
    free(s.out.data);
    free(all);
    boxlite_box_free(box);
}

static void who_lets_go_of_a_command_ends_its_stdin(boxlite_runtime *runtime)
{
    boxlite_box *box = get_box(runtime, "outlives");
    size_t written;
    boxlite_exec *exec = start_detached(box, "cat; echo end");
    uint32_t id = boxlite_exec_id(exec);
    EVENTUALLY(boxlite_exec_write(exec, (const uint8_t *)"hello\n", 6, &written, NULL) == BOXLITE_OK);
    CHECK(written == 6);
    boxlite_exec *other = attach(box, id, 0);
    FAILS(boxlite_exec_write(other, (const uint8_t *)"x", 1, &written, &error), BOXLITE_INVALID_STATE, "stdin");
    boxlite_exec_free(exec);
    bytes out = {0}, err = {0};
    CHECK(finish(other, &out, &err) == 0 && !strcmp((char *)out.data, "hello\nend\n"));
    free(out.data);
    // One that is not detached belongs to its program.
    boxlite_op *op;
    exec = start(box, "exec sleep 1000");
    OK(boxlite_box_attach(box, boxlite_exec_id(exec), 0, 0, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_INVALID_STATE, "not detached");
    boxlite_op_free(op);
    boxlite_exec_free(exec);
    boxlite_box_free(box);
}

static void one_that_is_stopped_ends_its_commands_and_keeps_what_they_wrote(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box *box = get_box(runtime, "outlives");
    boxlite_exec *exec = start_detached(box, "echo words; exec sleep 1000");
    uint32_t id = boxlite_exec_id(exec);
    followed f = {0};
    watch(exec, &f);
    DISPATCH_UNTIL(runtime, f.out.length == 6);
    OK(boxlite_box_stop(box, 0, &op, &error));
    wait_op(op);
    CHECK(status_of(box) == BOXLITE_BOX_STOPPED && count_execs(box) == 0 && count_machines() == 0);
    boxlite_exec_free(exec);
    free(f.out.data);
    boxlite_exec *left = attach(box, id, 0);
    bytes out = {0}, err = {0};
    int32_t code = finish(left, &out, &err);
    CHECK((code == 137 || code == 143) && !strcmp((char *)out.data, "words\n"));
    free(out.data);
    remove_box(runtime, box);
}

static void one_from_a_pool_lives_on(boxlite_runtime *runtime)
{
    wait_killed(start_program("pooled", -1, -1));
    boxlite_box *box = get_box(runtime, "pooled");
    boxlite_box_info *info = inspect(box);
    // Its home is not in its machine's command line.
    pid_t supervisor = (pid_t)boxlite_box_info_pid(info);
    CHECK(boxlite_box_info_status(info) == BOXLITE_BOX_RUNNING && kill(supervisor, 0) == 0);
    boxlite_box_info_free(info);
    PRINTS(box, "cat /mark", "of the first\n");
    info = inspect(box);
    CHECK(boxlite_box_info_boot(info) == BOXLITE_BOOT_POOLED && (pid_t)boxlite_box_info_pid(info) == supervisor);
    boxlite_box_info_free(info);
    remove_box(runtime, box);
    EVENTUALLY(kill(supervisor, 0) != 0);
}

// Whenever its program is killed, a box either runs, or does not and has no process.
static void a_program_killed_at_any_moment_leaves_a_box_or_none(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box *box = detached_box(runtime, "hasty");
    int running = 0, rounds = 12;
    for (int round = 0; round < rounds; round++) {
        int ends[2];
        make_pipe(ends);
        pid_t child = start_program("hasty", -1, ends[1]);
        close(ends[1]);
        char word;
        // The last rounds wait for the start: those have to find it running.
        if (round >= rounds - 3)
            CHECK(read(ends[0], &word, 1) == 1);
        else
            sleep_ms(20 + 30 * round);
        kill(child, SIGKILL);
        wait_killed(child);
        close(ends[0]);
        // One that was not quite its own yet ends now.
        int32_t status;
        EVENTUALLY((status = status_of(box)) != BOXLITE_BOX_STARTING && count_machines() == (status == BOXLITE_BOX_RUNNING));
        CHECK(round < rounds - 3 || status == BOXLITE_BOX_RUNNING);
        running += status == BOXLITE_BOX_RUNNING;
        PRINTS(box, "echo here", "here\n");
        OK(boxlite_box_stop(box, 0, &op, &error));
        wait_op(op);
        EVENTUALLY(count_machines() == 0);
    }
    CHECK(running >= 3);
    remove_box(runtime, box);
}

// A test that fails must not leave a machine that outlives it.
static void leave_nothing(void)
{
    if (*home)
        signal_machines(SIGKILL);
}

static const program programs[] = {{"starter", starter}, {"orderly", orderly}, {"pooled", pooled}, {"hasty", hasty}, {NULL, NULL}};

int main(int argc, char **argv)
{
    (void)argc;
    be_program(argv, programs);
    atexit(leave_nothing);
    boxlite_runtime *runtime = open_runtime();
    what_a_killed_program_left_is_found_and_followed(runtime);
    a_slow_follower_holds_nobody_up(runtime);
    who_lets_go_of_a_command_ends_its_stdin(runtime);
    // A program that ends in order leaves it as well.
    wait_done(start_program("orderly", -1, -1));
    boxlite_box *box = get_box(runtime, "outlives");
    CHECK(status_of(box) == BOXLITE_BOX_RUNNING);
    boxlite_box_free(box);
    one_that_is_stopped_ends_its_commands_and_keeps_what_they_wrote(runtime);
    one_from_a_pool_lives_on(runtime);
    a_program_killed_at_any_moment_leaves_a_box_or_none(runtime);
    close_runtime(runtime);
    return 0;
}
