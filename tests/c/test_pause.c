// Pausing one output: the command is held as on a pipe that nobody reads, the other output goes on,
// and nothing is lost.
#include "check.h"

typedef struct {
    boxlite_exec *exec;
    bytes out, err;
    int calls, exits;
    int32_t code;
} gathered;

static void on_stdout(void *user_data, const uint8_t *data, size_t length)
{
    gathered *g = user_data;
    CHECK(g->exits == 0);
    g->calls++;
    append(&g->out, data, length);
}

static void on_stderr(void *user_data, const uint8_t *data, size_t length)
{
    gathered *g = user_data;
    CHECK(g->exits == 0);
    append(&g->err, data, length);
}

static void on_exit_(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    gathered *g = user_data;
    CHECK(!signal && !why);
    g->exits++;
    g->code = code;
}

static void gather(gathered *g, boxlite_exec *exec)
{
    *g = (gathered){.exec = exec};
    OK(boxlite_exec_on_stdout(exec, on_stdout, g, NULL, &error));
    OK(boxlite_exec_on_stderr(exec, on_stderr, g, NULL, &error));
    OK(boxlite_exec_on_exit(exec, on_exit_, g, NULL, &error));
}

static void done(gathered *g)
{
    boxlite_exec_free(g->exec);
    free(g->out.data);
    free(g->err.data);
}

// A number that a command keeps in a file of the box.
static long counter(boxlite_box *box)
{
    bytes out = {0}, err = {0};
    // The file is empty for a moment whenever it is written.
    const char *script = "while :; do x=$(cat /tmp/counter 2>/dev/null || echo 0); [ -z \"$x\" ] || break; done; echo $x";
    CHECK(finish(start(box, script), &out, &err) == 0);
    long value = atol((char *)out.data);
    free(out.data);
    free(err.data);
    return value;
}

static bool stands_still(boxlite_box *box)
{
    long before = counter(box);
    sleep_ms(700);
    return before > 0 && counter(box) == before;
}

// Writes 64 KiB and counts it, 150 times: far beyond what can wait anywhere.
static const char *writer = "rm -f /tmp/counter; n=0; while [ $n -lt 150 ]; do head -c 65536 /dev/zero; "
                            "n=$((n + 1)); echo $n > /tmp/counter; done";

static void a_paused_output_holds_the_command(boxlite_runtime *runtime, boxlite_box *box)
{
    gathered g;
    gather(&g, start(box, writer));
    OK(boxlite_exec_pause(g.exec, BOXLITE_STDOUT, &error));
    EVENTUALLY(stands_still(box));
    long held = counter(box);
    if (held > 100)
        FAIL("the command wrote %ld KiB while it was paused", held * 64);
    // A callback that ran before the pause is one of few.
    dispatch_all(runtime);
    int calls = g.calls;
    CHECK(stands_still(box) && g.calls == calls);
    // Going on is going on, and stopping again is possible.
    OK(boxlite_exec_resume(g.exec, BOXLITE_STDOUT, &error));
    DISPATCH_UNTIL(runtime, g.out.length > 65536 * (size_t)held + 1000000);
    CHECK(counter(box) > held);
    OK(boxlite_exec_pause(g.exec, BOXLITE_STDOUT, &error));
    calls = g.calls;
    dispatch_all(runtime);
    CHECK(g.calls == calls);
    // Dropped, it is held no more.
    OK(boxlite_exec_discard(g.exec, BOXLITE_STDOUT, &error));
    EVENTUALLY(counter(box) == 150);
    DISPATCH_UNTIL(runtime, g.exits == 1);
    done(&g);
}

static void the_other_output_goes_on_and_nothing_is_lost(boxlite_runtime *runtime, boxlite_box *box)
{
    const char *scripts[] = {"seq 300000 & for i in 1 2 3 4 5; do echo $i >&2; sleep 0.05; done; wait; exit 9",
                             "seq 300000 >&2 & for i in 1 2 3 4 5; do echo $i; sleep 0.05; done; wait; exit 9"};
    for (int i = 0; i < 2; i++) {
        int32_t held = i == 0 ? BOXLITE_STDOUT : BOXLITE_STDERR;
        gathered g;
        boxlite_exec *exec = start(box, scripts[i]);
        // Before there is any callback; twice is once.
        OK(boxlite_exec_pause(exec, held, &error));
        OK(boxlite_exec_pause(exec, held, &error));
        gather(&g, exec);
        bytes *large = i == 0 ? &g.out : &g.err, *small = i == 0 ? &g.err : &g.out;
        DISPATCH_UNTIL(runtime, small->length == 10);
        CHECK(boxlite_exec_wait(exec, 300, NULL, NULL) == BOXLITE_TIMEOUT);
        CHECK(large->length == 0 && g.exits == 0);
        OK(boxlite_exec_resume(exec, held, &error));
        OK(boxlite_exec_resume(exec, held, &error));
        DISPATCH_UNTIL(runtime, g.exits == 1);
        check_numbers(large, 300000);
        CHECK(g.code == 9);
        done(&g);
    }
}

static void pause_self(void *user_data, const uint8_t *data, size_t length)
{
    gathered *g = user_data;
    g->calls++;
    append(&g->out, data, length);
    OK(boxlite_exec_pause(g->exec, BOXLITE_STDOUT, &error));
}

static void a_callback_that_pauses_is_not_called_again(boxlite_runtime *runtime, boxlite_box *box)
{
    gathered g = {.exec = start(box, "seq 100000")};
    OK(boxlite_exec_on_stdout(g.exec, pause_self, &g, NULL, &error));
    OK(boxlite_exec_on_exit(g.exec, on_exit_, &g, NULL, &error));
    // Once for each time it may.
    for (int calls = 1; g.out.length < 588895; calls++) {
        DISPATCH_UNTIL(runtime, g.calls == calls);
        sleep_ms(calls < 5 ? 50 : 0);
        dispatch_all(runtime);
        // Nothing more; but the exit, once nothing is left to wait for.
        CHECK(g.calls == calls && (g.exits == 0 || g.out.length == 588895));
        if (calls % 2)
            CHECK(boxlite_exec_wait(g.exec, 0, NULL, NULL) == BOXLITE_TIMEOUT || g.out.length == 588895);
        OK(boxlite_exec_resume(g.exec, BOXLITE_STDOUT, &error));
    }
    CHECK(g.calls > 2);
    DISPATCH_UNTIL(runtime, g.exits == 1);
    check_numbers(&g.out, 100000);
    done(&g);
}

static bool has_ended(boxlite_exec *exec)
{
    boxlite_op *op;
    OK(boxlite_exec_signal(exec, 0, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, NULL);
    boxlite_op_free(op);
    return status == BOXLITE_NOT_FOUND;
}

static void the_exit_waits_for_a_paused_output(boxlite_runtime *runtime, boxlite_box *box)
{
    gathered g;
    boxlite_exec *exec = start(box, "sleep 0.2; echo last; exit 3");
    int32_t code = 77;
    OK(boxlite_exec_pause(exec, BOXLITE_STDOUT, &error));
    gather(&g, exec);
    EVENTUALLY(has_ended(exec));
    dispatch_all(runtime);
    CHECK(g.exits == 0 && g.calls == 0);
    CHECK(boxlite_exec_wait(exec, 100, &code, NULL) == BOXLITE_TIMEOUT && code == 77 && g.exits == 0);
    OK(boxlite_exec_resume(exec, BOXLITE_STDOUT, &error));
    OK(boxlite_exec_wait(exec, 60000, &code, &error));
    CHECK(code == 3 && g.exits == 1 && !strcmp((char *)g.out.data, "last\n"));
    done(&g);

    // A paused output that has nothing holds nothing up.
    exec = start(box, "exit 5");
    OK(boxlite_exec_pause(exec, BOXLITE_STDOUT, &error));
    OK(boxlite_exec_pause(exec, BOXLITE_STDERR, &error));
    gather(&g, exec);
    OK(boxlite_exec_wait(exec, 60000, &code, &error));
    CHECK(code == 5 && g.exits == 1 && g.calls == 0);
    done(&g);

    // Freed while paused: the command comes to its end.
    exec = start(box, "seq 300000; echo freed > /tmp/freed");
    OK(boxlite_exec_pause(exec, BOXLITE_STDOUT, &error));
    gather(&g, exec);
    done(&g);
    PRINTS(box, "while [ ! -e /tmp/freed ]; do sleep 0.05; done; cat /tmp/freed", "freed\n");
}

static void only_outputs_are_paused(boxlite_box *box)
{
    boxlite_exec *exec = start(box, "true");
    const int32_t bad[] = {BOXLITE_STDIN, 3, -1, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 5; i++) {
        FAILS(boxlite_exec_pause(exec, bad[i], &error), BOXLITE_INVALID_ARGUMENT, "stream");
        FAILS(boxlite_exec_resume(exec, bad[i], &error), BOXLITE_INVALID_ARGUMENT, "stream");
    }
    OK(boxlite_exec_wait(exec, 60000, NULL, &error));
    // After the end it has no effect.
    OK(boxlite_exec_pause(exec, BOXLITE_STDOUT, &error));
    OK(boxlite_exec_resume(exec, BOXLITE_STDOUT, &error));
    boxlite_exec_free(exec);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    a_paused_output_holds_the_command(runtime, box);
    the_other_output_goes_on_and_nothing_is_lost(runtime, box);
    a_callback_that_pauses_is_not_called_again(runtime, box);
    the_exit_waits_for_a_paused_output(runtime, box);
    only_outputs_are_paused(box);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
