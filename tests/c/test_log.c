// What the library tells of its work: when it is asked, inside dispatch, and never a secret.
#include "check.h"
#include <pthread.h>

static const char *secrets[] = {"SECRET-of-the-box", "SECRET-of-the-exec", "SECRET-on-stdin", "SECRET-on-stdout"};

typedef struct {
    int messages, levels[6], destroyed, max_level;
    bool named;
    const char *id;
} witness;

static pthread_t main_thread;
static int dispatching;

static void on_log(void *user_data, int32_t level, const char *target, const char *message)
{
    witness *w = user_data;
    CHECK(pthread_equal(pthread_self(), main_thread) && dispatching);
    CHECK(level >= 1 && level <= w->max_level && *target && *message);
    w->messages++;
    w->levels[level]++;
    w->named |= w->id && strstr(message, w->id);
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
        if (strstr(message, secrets[i]) || strstr(target, secrets[i]))
            FAIL("a secret was told: %s", message);
}

static void destroy(void *user_data)
{
    ((witness *)user_data)->destroyed++;
}

static void dispatch(boxlite_runtime *runtime)
{
    dispatching = 1;
    dispatch_all(runtime);
    dispatching = 0;
}

// Starts, runs, fails and stops, with secrets everywhere; nobody dispatches.
static void work(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_op *op;
    boxlite_exec_options *options = shell("read x; echo SECRET-on-stdout; test \"$KEY\" = SECRET-of-the-exec && test \"$TOKEN\" = SECRET-of-the-box");
    size_t written;
    int32_t code;
    bytes out = {0}, err = {0};
    OK(boxlite_exec_options_add_env(options, "KEY", secrets[1], &error));
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    OK(boxlite_box_exec(box, options, &op, &error));
    OK(boxlite_op_wait(op, 120000, &error));
    boxlite_exec *exec;
    OK(boxlite_op_take_exec(op, &exec, &error));
    boxlite_op_free(op);
    OK(boxlite_exec_write(exec, (const uint8_t *)"SECRET-on-stdin\n", 16, &written, &error));
    CHECK(finish(exec, &out, &err) == 0);
    free(out.data);
    // Failures, which quote what was asked for.
    OK(boxlite_exec_options_set_user(options, "no-such-user", &error));
    OK(boxlite_box_exec(box, options, &op, &error));
    CHECK(boxlite_op_wait(op, 60000, &error) == BOXLITE_INVALID_ARGUMENT);
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
        CHECK(!strstr(boxlite_error_message(error), secrets[i]));
    boxlite_error_free(error);
    error = NULL;
    boxlite_op_free(op);
    boxlite_exec_options_free(options);
    const char *argv[] = {"no-such-command"};
    OK(boxlite_exec_options_new(argv, 1, &options, &error));
    OK(boxlite_exec_options_add_env(options, "KEY", secrets[1], &error));
    exec = start_with(box, options);
    OK(boxlite_exec_wait(exec, 60000, &code, &error));
    CHECK(code == 127 && !strstr(boxlite_exec_message(exec), "SECRET"));
    boxlite_exec_free(exec);
    OK(boxlite_box_stop(box, 0, &op, &error));
    wait_op(op);
    setenv("BOXLITE_QEMU", "/bin/false", 1);
    OK(boxlite_box_start(box, &op, &error));
    CHECK(boxlite_op_wait(op, 60000, &error) == BOXLITE_ENGINE && !strstr(boxlite_error_message(error), "SECRET"));
    boxlite_error_free(error);
    error = NULL;
    boxlite_op_free(op);
    unsetenv("BOXLITE_QEMU");
    (void)runtime;
}

static void set(boxlite_runtime *runtime, int32_t level, witness *w)
{
    w->max_level = level;
    OK(boxlite_runtime_on_log(runtime, level, on_log, w, destroy, &error));
}

int main(void)
{
    main_thread = pthread_self();
    boxlite_runtime *runtime = open_runtime();
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_add_env(options, "TOKEN", secrets[0], &error));
    boxlite_box *box = create_box(runtime, options);
    witness quiet = {0}, w = {.id = boxlite_box_id(box)};

    // Off: nothing was kept of what happened before anybody asked.
    work(runtime, box);
    set(runtime, BOXLITE_LOG_TRACE, &w);
    dispatch(runtime);
    CHECK(w.messages == 0);

    // Everything, but only where it is dispatched.
    work(runtime, box);
    CHECK(w.messages == 0 && w.destroyed == 0);
    dispatch(runtime);
    CHECK(w.messages > 5 && w.named);
    CHECK(w.levels[BOXLITE_LOG_WARN] && w.levels[BOXLITE_LOG_INFO] && w.levels[BOXLITE_LOG_DEBUG]);

    // Less: what is as grave as asked for, or graver. Each callback is destroyed when it is replaced.
    for (int32_t level = BOXLITE_LOG_DEBUG; level >= BOXLITE_LOG_ERROR; level--) {
        dispatch(runtime);
        witness *next = calloc(1, sizeof *next);
        CHECK(next);
        set(runtime, level, next);
        CHECK(w.destroyed == 1);
        work(runtime, box);
        dispatch(runtime);
        CHECK((next->messages > 0) == (level >= BOXLITE_LOG_WARN));
        CHECK((next->levels[BOXLITE_LOG_INFO] > 0) == (level >= BOXLITE_LOG_INFO));
        CHECK((next->levels[BOXLITE_LOG_DEBUG] > 0) == (level >= BOXLITE_LOG_DEBUG));
        CHECK(next->destroyed == 0);
        OK(boxlite_runtime_on_log(runtime, BOXLITE_LOG_ERROR, NULL, NULL, NULL, &error));
        CHECK(next->destroyed == 1);
        free(next);
    }

    // Switched off, by level or by NULL: what waited is gone too.
    for (int i = 0; i < 2; i++) {
        quiet = (witness){0};
        set(runtime, BOXLITE_LOG_TRACE, &quiet);
        work(runtime, box);
        OK(boxlite_runtime_on_log(runtime, i ? BOXLITE_LOG_OFF : BOXLITE_LOG_TRACE, i ? on_log : NULL, NULL, NULL, &error));
        CHECK(quiet.destroyed == 1);
        dispatch(runtime);
        CHECK(quiet.messages == 0);
    }

    // Nor are secrets in any log file of the home.
    char command[256];
    snprintf(command, sizeof command, "find %s -path '*/logs/*' -type f | grep -q . && ! grep -rl SECRET- $(find %s -path '*/logs/*' -type f)", home, home);
    CHECK(system(command) == 0);

    // Still set when the runtime goes.
    w = (witness){0};
    set(runtime, BOXLITE_LOG_TRACE, &w);
    remove_box(runtime, box);
    boxlite_op *op;
    OK(boxlite_runtime_shutdown(runtime, 0, &op, &error));
    wait_op(op);
    CHECK(w.destroyed == 0);
    boxlite_runtime_free(runtime);
    CHECK(w.destroyed == 1);
    close_runtime(open_runtime());
    return 0;
}
