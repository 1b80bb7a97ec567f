// Callbacks: what they may call, that they may free and replace themselves, and their order.
#include "check.h"
#include <pthread.h>

typedef struct {
    boxlite_runtime *runtime;
    boxlite_box *box;
    boxlite_exec *exec;
    boxlite_op *completed;
    // How often each callback was called.
    int outputs, errors, exits, readies, completions, progresses, logs, destroyed;
} scene;

static void destroy(void *user_data)
{
    ((scene *)user_data)->destroyed++;
}

// Waiting is refused, everything else works: called inside each kind of callback.
static void inside_a_callback(scene *s)
{
    boxlite_op *op;
    boxlite_exec_options *options;
    boxlite_output *output = NULL;
    size_t left = 77, count = 0;
    int32_t code = 77;
    const char *argv[] = {"true"};
    uint8_t byte;

    FAILS(boxlite_dispatch(s->runtime, 0, &left, &error), BOXLITE_BUSY, "callback");
    FAILS(boxlite_dispatch(s->runtime, -1, &left, &error), BOXLITE_BUSY, "callback");
    FAILS(boxlite_exec_wait(s->exec, 0, &code, &error), BOXLITE_BUSY, "callback");
    FAILS(boxlite_exec_wait(s->exec, -1, &code, &error), BOXLITE_BUSY, "callback");
    FAILS(boxlite_op_wait(s->completed, 0, &error), BOXLITE_BUSY, "callback");
    FAILS(boxlite_op_wait(s->completed, -1, &error), BOXLITE_BUSY, "callback");
    FAILS(boxlite_run(s->runtime, image("busybox"), argv, 1, 10, 1000, &output, &error), BOXLITE_BUSY, "callback");
    FAILS(boxlite_run(NULL, image("busybox"), argv, 1, 10, 1000, &output, &error), BOXLITE_BUSY, "callback");
    CHECK(left == 77 && code == 77 && !output);

    CHECK(boxlite_event_fd(s->runtime) >= 0 && *boxlite_box_id(s->box));
    OK(boxlite_box_list(s->runtime, &op, &error));
    OK(boxlite_op_on_complete(op, NULL, NULL, NULL, &error));
    OK(boxlite_op_cancel(op, &error));
    boxlite_op_free(op);
    OK(boxlite_box_inspect(s->box, &op, &error));
    CHECK(boxlite_op_ref(op) == op);
    boxlite_op_free(op);
    boxlite_op_free(op);
    OK(boxlite_exec_options_new(argv, 1, &options, &error));
    OK(boxlite_box_run(s->box, options, 10, &op, &error));
    boxlite_op_free(op);
    OK(boxlite_box_exec(s->box, options, &op, &error));
    boxlite_exec_options_free(options);
    boxlite_op_free(op);
    OK(boxlite_exec_pause(s->exec, BOXLITE_STDERR, &error));
    OK(boxlite_exec_resume(s->exec, BOXLITE_STDERR, &error));
    FAILS(boxlite_exec_read(s->exec, BOXLITE_STDOUT, &byte, 1, &count, &error), BOXLITE_INVALID_STATE, "callback");
    OK(boxlite_exec_signal(s->exec, 0, &op, &error));
    boxlite_op_free(op);
    boxlite_box_free(boxlite_box_ref(s->box));
    boxlite_exec_free(boxlite_exec_ref(s->exec));
    boxlite_runtime_free(boxlite_runtime_ref(s->runtime));
}

static void on_stdout(void *user_data, const uint8_t *data, size_t length)
{
    scene *s = user_data;
    CHECK(data && length > 0);
    if (!s->outputs++)
        inside_a_callback(s);
}

static void on_stderr(void *user_data, const uint8_t *data, size_t length)
{
    scene *s = user_data;
    CHECK(data && length > 0);
    if (!s->errors++)
        inside_a_callback(s);
}

static void on_exit_(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    scene *s = user_data;
    CHECK(code == 0 && signal == 0 && !why);
    s->exits++;
    inside_a_callback(s);
}

static void on_ready(void *user_data, int32_t stream)
{
    scene *s = user_data;
    CHECK(stream == BOXLITE_STDIN);
    s->readies++;
    inside_a_callback(s);
}

static void on_log(void *user_data, int32_t level, const char *target, const char *message)
{
    scene *s = user_data;
    CHECK(level > 0 && *target && message);
    if (!s->logs++)
        inside_a_callback(s);
}

static void on_progress(void *user_data, const boxlite_progress *progress)
{
    scene *s = user_data;
    CHECK(progress);
    if (!s->progresses++)
        inside_a_callback(s);
}

static void on_complete(void *user_data, boxlite_op *op)
{
    scene *s = user_data;
    CHECK(boxlite_op_is_done(op));
    s->completions++;
    inside_a_callback(s);
}

// Writes until stdin takes no more, so that its readiness is told once the command reads.
static void fill_stdin(boxlite_exec *exec)
{
    static uint8_t data[65536];
    size_t written;
    boxlite_status status;
    while ((status = boxlite_exec_write(exec, data, sizeof data, &written, NULL)) == BOXLITE_OK)
        ;
    CHECK(status == BOXLITE_WOULD_BLOCK);
}

static boxlite_exec *reader(boxlite_box *box)
{
    boxlite_exec_options *options = shell("sleep 0.2; cat >/dev/null; echo out; echo err >&2");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    return start_with(box, options);
}

static void callbacks_may_call_anything_but_wait(boxlite_runtime *runtime, boxlite_box *box, bool wait)
{
    boxlite_op *op;
    scene s = {.runtime = runtime, .box = box, .exec = reader(box)};
    boxlite_box *other = new_box(runtime);
    OK(boxlite_box_list(runtime, &s.completed, &error));
    OK(boxlite_op_wait(s.completed, 60000, &error));
    OK(boxlite_runtime_on_log(runtime, BOXLITE_LOG_TRACE, on_log, &s, destroy, &error));
    OK(boxlite_exec_on_stdout(s.exec, on_stdout, &s, destroy, &error));
    OK(boxlite_exec_on_stderr(s.exec, on_stderr, &s, destroy, &error));
    OK(boxlite_exec_on_ready(s.exec, on_ready, &s, destroy, &error));
    OK(boxlite_exec_on_exit(s.exec, on_exit_, &s, destroy, &error));
    OK(boxlite_box_start(other, &op, &error));
    OK(boxlite_op_on_progress(op, on_progress, &s, destroy, &error));
    OK(boxlite_op_on_complete(op, on_complete, &s, destroy, &error));
    fill_stdin(s.exec);
    if (wait) {
        // This exec's callbacks only.
        CHECK(boxlite_exec_wait(s.exec, 1000, NULL, NULL) == BOXLITE_TIMEOUT);
        CHECK(s.readies == 1 && s.completions == 0 && s.logs == 0);
        OK(boxlite_exec_close_stdin(s.exec, &error));
        OK(boxlite_exec_wait(s.exec, 60000, NULL, &error));
        CHECK(s.outputs > 0 && s.errors > 0 && s.exits == 1 && s.completions == 0 && s.logs == 0);
    } else {
        DISPATCH_UNTIL(runtime, s.readies == 1);
        OK(boxlite_exec_close_stdin(s.exec, &error));
    }
    DISPATCH_UNTIL(runtime, s.exits && s.completions && s.logs);
    CHECK(s.outputs && s.errors && s.exits == 1 && s.readies == 1 && s.completions == 1 && s.progresses);
    boxlite_exec_free(s.exec);
    boxlite_op_free(s.completed);
    boxlite_op_free(op);
    OK(boxlite_runtime_on_log(runtime, BOXLITE_LOG_OFF, NULL, NULL, NULL, &error));
    CHECK(s.destroyed == 7);
    remove_box(runtime, other);
}

// ---- freeing ------------------------------------------------------------------------------------

typedef struct {
    boxlite_exec *exec;
    int calls, destroyed, in_callback;
} suicide;

static void gone(void *user_data)
{
    suicide *s = user_data;
    // Its data is there as long as it runs.
    CHECK(!s->in_callback);
    s->destroyed++;
}

static void end_it(suicide *s)
{
    s->calls++;
    s->in_callback = 1;
    boxlite_exec_free(s->exec);
    s->in_callback = 0;
}

static void free_on_output(void *user_data, const uint8_t *data, size_t length)
{
    CHECK(data && length);
    end_it(user_data);
    // The bytes are good until it returns.
    CHECK(data[0] == 'x' && data[length - 1] != 0);
}

static void free_on_exit(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    end_it(user_data);
    CHECK(code == 7 && !signal && !why);
}

static void free_on_ready(void *user_data, int32_t stream)
{
    CHECK(stream == BOXLITE_STDOUT);
    end_it(user_data);
}

static void an_exec_is_freed_inside_its_own_callback(boxlite_runtime *runtime, boxlite_box *box)
{
    for (int which = 0; which < 4; which++) {
        // Much more would come.
        suicide s = {.exec = start(box, "sleep 0.2; yes x | head -n 100000 | tee /dev/stderr; exit 7")};
        size_t length;
        uint8_t byte;
        switch (which) {
        case 0: OK(boxlite_exec_on_stdout(s.exec, free_on_output, &s, gone, &error)); break;
        case 1: OK(boxlite_exec_on_stderr(s.exec, free_on_output, &s, gone, &error)); break;
        case 2:
            OK(boxlite_exec_discard(s.exec, BOXLITE_STDOUT, &error));
            OK(boxlite_exec_discard(s.exec, BOXLITE_STDERR, &error));
            OK(boxlite_exec_on_exit(s.exec, free_on_exit, &s, gone, &error));
            break;
        case 3:
            CHECK(boxlite_exec_read(s.exec, BOXLITE_STDOUT, &byte, 1, &length, NULL) == BOXLITE_WOULD_BLOCK);
            OK(boxlite_exec_on_ready(s.exec, free_on_ready, &s, gone, &error));
            break;
        }
        DISPATCH_UNTIL(runtime, s.calls == 1);
        CHECK(s.destroyed == 1);
        PRINTS(box, "sleep 0.3; echo later", "later\n");
        dispatch_all(runtime);
        CHECK(s.calls == 1 && s.destroyed == 1);
    }
}

// ---- replacing ----------------------------------------------------------------------------------

typedef struct {
    boxlite_exec *exec;
    bytes got;
    int calls, exits, destroyed, other_destroyed;
    bool remove;
} chain;

static void chain_destroyed(void *user_data)
{
    ((chain *)user_data)->destroyed++;
}

static void other_destroyed(void *user_data)
{
    ((chain *)user_data)->other_destroyed++;
}

static void second(void *user_data, const uint8_t *data, size_t length)
{
    append(&((chain *)user_data)->got, data, length);
}

static void first(void *user_data, const uint8_t *data, size_t length)
{
    chain *c = user_data;
    c->calls++;
    append(&c->got, data, length);
    if (c->remove)
        OK(boxlite_exec_discard(c->exec, BOXLITE_STDOUT, &error));
    else
        OK(boxlite_exec_on_stdout(c->exec, second, c, other_destroyed, &error));
    // Replaced, but its own data stays until it returns.
    CHECK(c->destroyed == 0);
}

static void second_exit(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    CHECK(code == 0 && !signal && !why);
    ((chain *)user_data)->exits += 10;
}

static void first_exit(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    chain *c = user_data;
    CHECK(code == 0 && !signal && !why);
    c->exits++;
    OK(boxlite_exec_on_exit(c->exec, second_exit, c, other_destroyed, &error));
    CHECK(c->destroyed <= 1);
}

static void a_callback_is_replaced_inside_itself(boxlite_runtime *runtime, boxlite_box *box)
{
    chain c = {.exec = start(box, "seq 100000")};
    OK(boxlite_exec_on_stdout(c.exec, first, &c, chain_destroyed, &error));
    OK(boxlite_exec_on_exit(c.exec, first_exit, &c, chain_destroyed, &error));
    DISPATCH_UNTIL(runtime, c.exits == 11);
    CHECK(c.calls == 1 && c.destroyed == 2 && c.other_destroyed == 1);
    check_numbers(&c.got, 100000);
    boxlite_exec_free(c.exec);
    CHECK(c.other_destroyed == 2);
    free(c.got.data);

    // The rest dropped by itself: the command comes to its end.
    c = (chain){.remove = true, .exec = start(box, "seq 100000")};
    OK(boxlite_exec_on_stdout(c.exec, first, &c, chain_destroyed, &error));
    OK(boxlite_exec_wait(c.exec, 60000, NULL, &error));
    CHECK(c.calls == 1 && c.destroyed == 1 && c.other_destroyed == 0 && c.got.length < 500000);
    boxlite_exec_free(c.exec);
    free(c.got.data);
}

// ---- order --------------------------------------------------------------------------------------

enum { EXECS = 3, THREADS = 4, NUMBERS = 30000 };

typedef struct {
    boxlite_exec *exec;
    int inside, exits;
    bytes out, err;
} stream;

static boxlite_runtime *shared;
static int all_exits;

static void enter(stream *s)
{
    CHECK(__atomic_add_fetch(&s->inside, 1, __ATOMIC_SEQ_CST) == 1);
    // Long enough for another thread to come in if nothing held it back.
    sched_yield();
    CHECK(__atomic_load_n(&s->exits, __ATOMIC_SEQ_CST) == 0);
}

static void leave(stream *s)
{
    CHECK(__atomic_sub_fetch(&s->inside, 1, __ATOMIC_SEQ_CST) == 0);
}

static void ordered_out(void *user_data, const uint8_t *data, size_t length)
{
    stream *s = user_data;
    enter(s);
    append(&s->out, data, length);
    leave(s);
}

static void ordered_err(void *user_data, const uint8_t *data, size_t length)
{
    stream *s = user_data;
    enter(s);
    append(&s->err, data, length);
    leave(s);
}

static void ordered_exit(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    stream *s = user_data;
    enter(s);
    CHECK(code == 0 && !signal && !why);
    leave(s);
    __atomic_add_fetch(&s->exits, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&all_exits, 1, __ATOMIC_SEQ_CST);
}

static void *dispatcher(void *unused)
{
    (void)unused;
    while (__atomic_load_n(&all_exits, __ATOMIC_SEQ_CST) < EXECS) {
        boxlite_status status = boxlite_dispatch(shared, 50, NULL, NULL);
        CHECK(status == BOXLITE_OK || status == BOXLITE_TIMEOUT);
    }
    return NULL;
}

static void an_exec_is_called_by_one_thread_at_a_time(boxlite_runtime *runtime, boxlite_box *box, bool wait)
{
    stream streams[EXECS] = {0};
    pthread_t threads[THREADS];
    shared = runtime;
    all_exits = 0;
    for (int i = 0; i < EXECS; i++) {
        stream *s = &streams[i];
        s->exec = start(box, "seq 30000 >&2 & seq 30000; wait");
        OK(boxlite_exec_on_stdout(s->exec, ordered_out, s, NULL, &error));
        OK(boxlite_exec_on_stderr(s->exec, ordered_err, s, NULL, &error));
        OK(boxlite_exec_on_exit(s->exec, ordered_exit, s, NULL, &error));
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, dispatcher, NULL) == 0);
    if (wait)
        for (int i = 0; i < EXECS; i++)
            OK(boxlite_exec_wait(streams[i].exec, 120000, NULL, &error));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < EXECS; i++) {
        CHECK(streams[i].exits == 1);
        check_numbers(&streams[i].out, NUMBERS);
        check_numbers(&streams[i].err, NUMBERS);
        boxlite_exec_free(streams[i].exec);
        free(streams[i].out.data);
        free(streams[i].err.data);
    }
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    callbacks_may_call_anything_but_wait(runtime, box, false);
    callbacks_may_call_anything_but_wait(runtime, box, true);
    an_exec_is_freed_inside_its_own_callback(runtime, box);
    a_callback_is_replaced_inside_itself(runtime, box);
    an_exec_is_called_by_one_thread_at_a_time(runtime, box, false);
    an_exec_is_called_by_one_thread_at_a_time(runtime, box, true);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
