// User data: destroyed exactly once, whatever becomes of the call or the handle it came with.
#include "check.h"
#include <pthread.h>

enum { SLOTS = 256 };

static int destroyed[SLOTS], slots;
static pthread_t main_thread;

static void destroy(void *user_data)
{
    // Destructors of the host program run on its own threads.
    CHECK(pthread_equal(pthread_self(), main_thread));
    ++*(int *)user_data;
}

// New user data.
static int *slot(void)
{
    CHECK(slots < SLOTS);
    return &destroyed[slots++];
}

static void on_bytes(void *user_data, const uint8_t *data, size_t length)
{
    (void)user_data, (void)data, (void)length;
}

static void on_exit_(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    (void)user_data, (void)code, (void)signal, (void)why;
}

static void on_ready(void *user_data, int32_t stream)
{
    (void)user_data, (void)stream;
}

static void on_complete(void *user_data, boxlite_op *op)
{
    (void)user_data, (void)op;
}

static void on_progress(void *user_data, const boxlite_progress *progress)
{
    (void)user_data, (void)progress;
}

static void on_log(void *user_data, int32_t level, const char *target, const char *message)
{
    (void)user_data, (void)level, (void)target, (void)message;
}

enum { SETTERS = 7 };

typedef struct {
    boxlite_runtime *runtime;
    boxlite_exec *exec;
    boxlite_op *op;
} handles;

// Sets one of the callbacks, or NULL with the same data.
static boxlite_status set(int setter, handles h, bool callback, int *data)
{
    switch (setter) {
    case 0: return boxlite_exec_on_stdout(h.exec, callback ? on_bytes : NULL, data, destroy, NULL);
    case 1: return boxlite_exec_on_stderr(h.exec, callback ? on_bytes : NULL, data, destroy, NULL);
    case 2: return boxlite_exec_on_exit(h.exec, callback ? on_exit_ : NULL, data, destroy, NULL);
    case 3: return boxlite_exec_on_ready(h.exec, callback ? on_ready : NULL, data, destroy, NULL);
    case 4: return boxlite_op_on_complete(h.op, callback ? on_complete : NULL, data, destroy, NULL);
    case 5: return boxlite_op_on_progress(h.op, callback ? on_progress : NULL, data, destroy, NULL);
    default: return boxlite_runtime_on_log(h.runtime, BOXLITE_LOG_TRACE, callback ? on_log : NULL, data, destroy, NULL);
    }
}

static handles new_handles(boxlite_runtime *runtime, boxlite_box *box, const char *script)
{
    handles h = {.runtime = runtime, .exec = start(box, script)};
    OK(boxlite_box_inspect(box, &h.op, &error));
    return h;
}

static void free_handles(handles h)
{
    boxlite_exec_free(h.exec);
    boxlite_op_free(h.op);
}

static void refused_calls_destroy_at_once(handles h)
{
    handles none = {0};
    for (int setter = 0; setter < SETTERS; setter++)
        for (int callback = 0; callback < 2; callback++) {
            int *data = slot();
            CHECK(set(setter, none, callback, data) == BOXLITE_INVALID_ARGUMENT);
            CHECK(*data == 1);
        }
    int *data = slot();
    CHECK(boxlite_runtime_on_log(h.runtime, 6, on_log, data, destroy, NULL) == BOXLITE_INVALID_ARGUMENT);
    CHECK(*data == 1);
    data = slot();
    CHECK(boxlite_runtime_on_log(h.runtime, -1, on_log, data, destroy, NULL) == BOXLITE_INVALID_ARGUMENT);
    CHECK(*data == 1);
}

static void calls_after_a_fork_destroy_at_once(handles h)
{
    int *before = slot();
    CHECK(set(2, h, true, before) == BOXLITE_OK);
    // No thread does anything: gcc's address sanitizer would leave the child a locked allocator.
    OK(boxlite_op_wait(h.op, 60000, &error));
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int setter = 0; setter < SETTERS; setter++) {
            int *data = slot();
            CHECK(set(setter, h, true, data) == BOXLITE_INVALID_STATE);
            CHECK(*data == 1);
        }
        // What came over with the fork is left alone, for good.
        boxlite_exec_free(h.exec);
        CHECK(*before == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(*before == 0);
    CHECK(set(2, h, false, slot()) == BOXLITE_OK && *before == 1);
}

static void no_callback_destroys_at_once(handles h)
{
    for (int setter = 0; setter < SETTERS; setter++) {
        int *data = slot();
        CHECK(set(setter, h, false, data) == BOXLITE_OK);
        CHECK(*data == 1);
    }
    int *data = slot();
    OK(boxlite_runtime_on_log(h.runtime, BOXLITE_LOG_OFF, on_log, data, destroy, &error));
    CHECK(*data == 1);
}

static void replaced_callbacks_are_destroyed(handles h)
{
    for (int setter = 0; setter < SETTERS; setter++) {
        int *first = slot(), *second = slot(), *third = slot();
        CHECK(set(setter, h, true, first) == BOXLITE_OK && *first == 0);
        CHECK(set(setter, h, true, second) == BOXLITE_OK && *first == 1 && *second == 0);
        CHECK(set(setter, h, false, third) == BOXLITE_OK && *second == 1 && *third == 1);
    }
}

static void freed_handles_destroy(boxlite_runtime *runtime, boxlite_box *box)
{
    // With the last handle; completed and not, never dispatched.
    for (int ended = 0; ended < 2; ended++) {
        handles h = new_handles(runtime, box, ended ? "true" : "exec sleep 1000");
        int *data[SETTERS];
        if (ended) {
            OK(boxlite_op_wait(h.op, 60000, &error));
            sleep_ms(100);
        }
        for (int setter = 0; setter < SETTERS - 1; setter++)
            CHECK(set(setter, h, true, data[setter] = slot()) == BOXLITE_OK);
        handles more = {.exec = boxlite_exec_ref(h.exec), .op = boxlite_op_ref(h.op)};
        free_handles(h);
        for (int setter = 0; setter < SETTERS - 1; setter++)
            CHECK(*data[setter] == 0);
        free_handles(more);
        for (int setter = 0; setter < SETTERS - 1; setter++)
            CHECK(*data[setter] == 1);
        dispatch_all(runtime);
    }
}

static void called_for_the_last_time_destroys(boxlite_runtime *runtime, boxlite_box *box)
{
    handles h = new_handles(runtime, box, "echo out; echo err >&2");
    int *data[SETTERS];
    for (int setter = 0; setter < SETTERS - 1; setter++)
        CHECK(set(setter, h, true, data[setter] = slot()) == BOXLITE_OK);
    // Exit and completion come once.
    DISPATCH_UNTIL(runtime, *data[2] && *data[4]);
    // The others might come again, for all the library knows.
    OK(boxlite_exec_wait(h.exec, 60000, NULL, &error));
    free_handles(h);
    for (int setter = 0; setter < SETTERS - 1; setter++)
        CHECK(*data[setter] == 1);
}

// Every slot, at the end: never none, never twice.
static void check_all(void)
{
    for (int i = 0; i < slots; i++)
        if (destroyed[i] != 1)
            FAIL("user data %d was destroyed %d times", i, destroyed[i]);
}

int main(void)
{
    main_thread = pthread_self();
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    handles h = new_handles(runtime, box, "exec sleep 1000");
    refused_calls_destroy_at_once(h);
    calls_after_a_fork_destroy_at_once(h);
    no_callback_destroys_at_once(h);
    replaced_callbacks_are_destroyed(h);
    free_handles(h);
    freed_handles_destroy(runtime, box);
    called_for_the_last_time_destroys(runtime, box);
    check_all();
    remove_box(runtime, box);
    close_runtime(runtime);
    check_all();
    return 0;
}
