// Output in every shape: each byte comes once, in order, whatever else goes over the port.
//
// What a command writes is sent in two ways, copied when it is little and moved page by page when
// it is much. The shapes below cross from one to the other, cut pages anywhere, and hand pages
// over that are not the pipe's own.
#include "check.h"

// The pattern that every writer writes: a byte tells its place in the stream.
static uint8_t expected(size_t offset)
{
    return (uint8_t)(offset * 167 + (offset >> 8) * 13 + (offset >> 16));
}

typedef struct {
    const char *name;
    size_t seen;
} stream;

static void compare(void *user_data, const uint8_t *data, size_t length)
{
    stream *s = user_data;
    for (size_t i = 0; i < length; i++)
        if (data[i] != expected(s->seen + i))
            FAIL("%s: byte %zu is %u, not %u", s->name, s->seen + i, data[i],
                 expected(s->seen + i));
    s->seen += length;
}

enum { PATTERN = 3 << 20 };

// Puts the pattern into the box as /pattern, through a command's stdin.
static void install_pattern(boxlite_box *box)
{
    static uint8_t pattern[PATTERN];
    for (size_t i = 0; i < PATTERN; i++)
        pattern[i] = expected(i);
    boxlite_exec_options *options = shell("cat > /pattern");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    boxlite_exec *exec = start_with(box, options);
    for (size_t sent = 0; sent < PATTERN;) {
        size_t written = 0;
        boxlite_status status =
            boxlite_exec_write(exec, pattern + sent, PATTERN - sent, &written, &error);
        if (status == BOXLITE_WOULD_BLOCK) {
            boxlite_error_free(error);
            error = NULL;
            nanosleep(&(struct timespec){0, 1000000}, NULL);
            continue;
        }
        OK(status);
        sent += written;
    }
    OK(boxlite_exec_close_stdin(exec, &error));
    int32_t code;
    OK(boxlite_exec_wait(exec, 120000, &code, &error));
    CHECK(code == 0);
    boxlite_exec_free(exec);
}

typedef struct {
    boxlite_exec *exec;
    stream out, err;
    size_t wanted_out, wanted_err;
} writer;

static writer begin(boxlite_box *box, const char *script, size_t out, size_t err)
{
    return (writer){.exec = start(box, script),
                    .out = {.name = script},
                    .err = {.name = script},
                    .wanted_out = out,
                    .wanted_err = err};
}

static void listen(writer *w)
{
    OK(boxlite_exec_on_stdout(w->exec, compare, &w->out, NULL, &error));
    OK(boxlite_exec_on_stderr(w->exec, compare, &w->err, NULL, &error));
}

static void end(writer *w)
{
    int32_t code;
    OK(boxlite_exec_wait(w->exec, 120000, &code, &error));
    if (code != 0 || w->out.seen != w->wanted_out || w->err.seen != w->wanted_err)
        FAIL("%s: code %d, %zu of %zu bytes on stdout, %zu of %zu on stderr", w->out.name,
             (int)code, w->out.seen, w->wanted_out, w->err.seen, w->wanted_err);
    boxlite_exec_free(w->exec);
}

// Runs a script for what it does.
static void does(boxlite_box *box, const char *script)
{
    bytes out = {0}, err = {0};
    if (finish(start(box, script), &out, &err) != 0)
        FAIL("%s: %s", script, err.data ? (char *)err.data : "");
    free(out.data);
    free(err.data);
}

static void writes_of_one_size_arrive_whole(boxlite_box *box)
{
    static const int sizes[] = {1, 100, 4095, 4096, 4097, 8191, 8192, 12289, 65535, 65537, 300001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char script[128];
        int count = sizes[i] < 100 ? 2000 : PATTERN / sizes[i];
        snprintf(script, sizeof script, "dd if=/pattern bs=%d count=%d 2>/dev/null", sizes[i], count);
        writer w = begin(box, script, (size_t)sizes[i] * (size_t)count, 0);
        listen(&w);
        end(&w);
    }
}

// A shell's own small writes between the large ones of a program.
static void small_and_large_writes_keep_their_order(boxlite_box *box)
{
    writer w = begin(box,
                     "exec 3< /pattern; while :; do"
                     " dd bs=7 count=1 <&3 2>/dev/null; dd bs=200003 count=1 <&3 2>/dev/null;"
                     " dd bs=9000 count=1 <&3 2>/dev/null; dd bs=1 count=1 <&3 2>/dev/null;"
                     " i=$((i + 1)); [ $i -lt 15 ] || break; done",
                     15 * (7 + 200003 + 9000 + 1), 0);
    listen(&w);
    end(&w);
}

// Many at once, on both outputs, some of them read late: nobody gets another's bytes.
static void many_streams_do_not_mix(boxlite_box *box)
{
    enum { WRITERS = 12 };
    writer w[WRITERS];
    for (int i = 0; i < WRITERS; i++)
        w[i] = i % 3 == 2 ? begin(box, "dd if=/pattern bs=977 count=500 2>/dev/null", 977 * 500, 0)
                          : begin(box, "cat /pattern & cat /pattern >&2; wait", PATTERN, PATTERN);
    for (int i = 0; i < WRITERS; i += 2)
        listen(&w[i]);
    for (int i = 0; i < WRITERS; i += 2)
        end(&w[i]);
    for (int i = 1; i < WRITERS; i += 2) {
        listen(&w[i]);
        end(&w[i]);
    }
}

// A command's output ends with it: what its background process writes later is not of it, and
// holds up nobody.
static void a_background_writer_neither_delays_nor_adds(boxlite_box *box)
{
    time_t began = time(NULL);
    for (int i = 0; i < 5; i++) {
        boxlite_exec *exec =
            start(box, "(sleep 100; cat /pattern) & dd if=/pattern bs=65536 count=3 2>/dev/null");
        stream out = {.name = "background"};
        int32_t code;
        OK(boxlite_exec_on_stdout(exec, compare, &out, NULL, &error));
        OK(boxlite_exec_wait(exec, 120000, &code, &error));
        CHECK(code == 0 && out.seen == 3 * 65536);
        boxlite_exec_free(exec);
    }
    CHECK(time(NULL) - began < 90);
    // One that goes on writing goes on: its pipe is read for it, by nobody who listens.
    does(box, "(cat /pattern; cat /pattern; echo > /written) & :");
    PRINTS(box, "while [ ! -e /written ]; do sleep 0.1; done; echo went on", "went on\n");
}

// Killed while its payload is on its way: what was written before arrives as far as it goes, and
// the next command's bytes are its own.
static void a_killed_writer_leaves_the_port_in_order(boxlite_box *box)
{
    for (int i = 0; i < 10; i++) {
        stream out = {.name = "killed"};
        boxlite_exec *exec = start(box, "while :; do cat /pattern; done | dd bs=65536 count=40");
        boxlite_op *op;
        int32_t code;
        nanosleep(&(struct timespec){0, i * 5000000L}, NULL);
        OK(boxlite_exec_signal(exec, SIGKILL, &op, &error));
        boxlite_op_wait(op, 120000, NULL);
        boxlite_op_free(op);
        OK(boxlite_exec_on_stdout(exec, compare, &out, NULL, &error));
        OK(boxlite_exec_wait(exec, 120000, &code, &error));
        boxlite_exec_free(exec);
        PRINTS(box, "echo next", "next\n");
    }
}

// Users who change are seen at the next command, however soon.
static void a_changed_user_database_is_read_again(boxlite_box *box)
{
    does(box, "touch /etc/passwd; cp /etc/passwd /p");
    does(box, "echo 'root:x:0:0::/aaaa:/bin/sh' > /etc/passwd");
    PRINTS(box, "echo $HOME", "/aaaa\n");
    does(box, "echo 'root:x:0:0::/bbbb:/bin/sh' > /etc/passwd; sleep 3");
    PRINTS(box, "echo $HOME", "/bbbb\n");
    does(box, "echo 'root:x:0:0::/cccc:/bin/sh' > /etc/passwd");
    PRINTS(box, "echo $HOME; echo 'root:x:0:0::/dddd:/bin/sh' > /etc/passwd", "/cccc\n");
    PRINTS(box, "echo $HOME; cat /p > /etc/passwd", "/dddd\n");
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    install_pattern(box);
    writes_of_one_size_arrive_whole(box);
    small_and_large_writes_keep_their_order(box);
    many_streams_do_not_mix(box);
    a_background_writer_neither_delays_nor_adds(box);
    a_killed_writer_leaves_the_port_in_order(box);
    a_changed_user_database_is_read_again(box);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
