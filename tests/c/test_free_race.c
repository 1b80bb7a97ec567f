// Handles that one thread frees while others run their callbacks: user data lives as long as a
// callback uses it, and is destroyed once.
#include "check.h"
#include <pthread.h>

enum { ROUNDS = 30, DISPATCHERS = 3 };

static boxlite_runtime *runtime;
static int stop, destroyed, calls;

typedef struct {
    int inside;
    char text[64];
} data;

static void use(data *d)
{
    __atomic_add_fetch(&d->inside, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 100; i++)
        d->text[i % 64]++;
    sched_yield();
    __atomic_sub_fetch(&d->inside, 1, __ATOMIC_SEQ_CST);
}

// Freed memory is what the sanitizer watches.
static void destroy(void *user_data)
{
    data *d = user_data;
    CHECK(__atomic_load_n(&d->inside, __ATOMIC_SEQ_CST) == 0);
    free(d);
    __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST);
}

static void on_bytes(void *user_data, const uint8_t *bytes, size_t length)
{
    CHECK(bytes[0] && bytes[length - 1]);
    use(user_data);
}

static void on_exit_(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    (void)code, (void)signal, (void)why;
    use(user_data);
}

static void on_complete(void *user_data, boxlite_op *op)
{
    CHECK(boxlite_op_is_done(op));
    use(user_data);
}

static data *fresh(void)
{
    data *d = calloc(1, sizeof *d);
    CHECK(d);
    return d;
}

static void *dispatcher(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST))
        (void)boxlite_dispatch(runtime, 20, NULL, NULL);
    return NULL;
}

static void *waiter(void *exec)
{
    int32_t code;
    (void)boxlite_exec_wait(exec, 60000, &code, NULL);
    boxlite_exec_free(exec);
    return NULL;
}

int main(void)
{
    pthread_t threads[DISPATCHERS];
    int expected = 0;
    runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    for (int i = 0; i < DISPATCHERS; i++)
        CHECK(pthread_create(&threads[i], NULL, dispatcher, NULL) == 0);
    for (int i = 0; i < ROUNDS; i++) {
        boxlite_op *op;
        pthread_t thread;
        // Some come to their end just now, some would write for ever.
        boxlite_exec *exec = start(box, i % 3 ? "yes | head -n 20000" : "yes");
        OK(boxlite_exec_on_stdout(exec, on_bytes, fresh(), destroy, &error));
        OK(boxlite_exec_on_stderr(exec, on_bytes, fresh(), destroy, &error));
        OK(boxlite_exec_on_exit(exec, on_exit_, fresh(), destroy, &error));
        expected += 3;
        bool waited = i % 3 == 1;
        if (waited)
            CHECK(pthread_create(&thread, NULL, waiter, boxlite_exec_ref(exec)) == 0);
        sleep_ms(i % 7);
        // Replaced while it may be running.
        OK(boxlite_exec_on_stdout(exec, on_bytes, fresh(), destroy, &error));
        expected++;
        sleep_ms(i % 5);
        if (i % 3 == 0) {
            boxlite_op *kill_it;
            OK(boxlite_exec_signal(exec, SIGKILL, &kill_it, &error));
            boxlite_op_free(kill_it);
        }
        boxlite_exec_free(exec);
        if (waited)
            pthread_join(thread, NULL);

        OK(boxlite_box_inspect(box, &op, &error));
        OK(boxlite_op_on_complete(op, on_complete, fresh(), destroy, &error));
        expected++;
        if (i % 2)
            OK(boxlite_op_wait(op, 60000, &error));
        boxlite_op_free(op);
    }
    // What runs just now may end a little later.
    EVENTUALLY(__atomic_load_n(&destroyed, __ATOMIC_SEQ_CST) == expected);
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < DISPATCHERS; i++)
        pthread_join(threads[i], NULL);
    CHECK(destroyed == expected && calls > ROUNDS);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
