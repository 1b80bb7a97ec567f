// Several threads that wait for one command: each gets its end, and its output comes once.
#include "check.h"
#include <pthread.h>

enum { WAITERS = 4 };

typedef struct {
    bytes out;
    int inside, exits;
} witness;

static void on_stdout(void *user_data, const uint8_t *data, size_t length)
{
    witness *w = user_data;
    CHECK(__atomic_add_fetch(&w->inside, 1, __ATOMIC_SEQ_CST) == 1);
    append(&w->out, data, length);
    CHECK(__atomic_sub_fetch(&w->inside, 1, __ATOMIC_SEQ_CST) == 0);
}

static void on_exit_(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    CHECK(code == 6 && !signal && !why);
    // Who waits must not be back before this is.
    sleep_ms(20);
    __atomic_add_fetch(&((witness *)user_data)->exits, 1, __ATOMIC_SEQ_CST);
}

static witness w;

static void *waiter(void *exec)
{
    int32_t code = 77;
    boxlite_status status = boxlite_exec_wait(exec, 60000, &code, NULL);
    CHECK(status == BOXLITE_OK && code == 6);
    CHECK(__atomic_load_n(&w.exits, __ATOMIC_SEQ_CST) == 1);
    return NULL;
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    for (int i = 0; i < 6; i++) {
        pthread_t threads[WAITERS];
        boxlite_exec *exec = start(box, i % 2 ? "seq 30000; exit 6" : "exit 6");
        w = (witness){0};
        OK(boxlite_exec_on_stdout(exec, on_stdout, &w, NULL, &error));
        OK(boxlite_exec_on_exit(exec, on_exit_, &w, NULL, &error));
        for (int j = 0; j < WAITERS; j++)
            CHECK(pthread_create(&threads[j], NULL, waiter, exec) == 0);
        for (int j = 0; j < WAITERS; j++)
            pthread_join(threads[j], NULL);
        CHECK(w.exits == 1);
        check_numbers(&w.out, i % 2 ? 30000 : 0);
        free(w.out.data);
        // And once more, at once.
        waiter(exec);
        boxlite_exec_free(exec);
    }
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
