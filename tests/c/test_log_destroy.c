// A runtime's log callback: its data is destroyed when the last handle on the runtime is freed, on
// the thread that frees it, although boxes and operations keep the runtime itself alive.
#include "check.h"
#include <pthread.h>

static int destroyed, foreign;
static pthread_t main_thread;

static void destroy(void *user_data)
{
    (void)user_data;
    __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST);
    if (!pthread_equal(pthread_self(), main_thread))
        __atomic_add_fetch(&foreign, 1, __ATOMIC_SEQ_CST);
}

static void on_log(void *user_data, int32_t level, const char *target, const char *message)
{
    (void)user_data, (void)level, (void)target, (void)message;
}

int main(void)
{
    main_thread = pthread_self();

    // Work that nobody waits for is the last that knows of the runtime.
    for (int i = 1; i <= 20; i++) {
        boxlite_op *op;
        boxlite_runtime *runtime = open_runtime();
        OK(boxlite_runtime_on_log(runtime, BOXLITE_LOG_TRACE, on_log, NULL, destroy, &error));
        OK(boxlite_box_list(runtime, &op, &error));
        boxlite_op_free(op);
        boxlite_runtime_free(runtime);
        EVENTUALLY(__atomic_load_n(&destroyed, __ATOMIC_SEQ_CST) == i);
    }
    CHECK(foreign == 0);

    // A box keeps it alive: nobody can dispatch any more, so nobody is called any more.
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    OK(boxlite_runtime_on_log(runtime, BOXLITE_LOG_TRACE, on_log, NULL, destroy, &error));
    boxlite_runtime *more = boxlite_runtime_ref(runtime);
    boxlite_runtime_free(runtime);
    CHECK(destroyed == 20);
    boxlite_runtime_free(more);
    CHECK(destroyed == 21);
    boxlite_box_free(box);

    close_runtime(open_runtime());
    CHECK(destroyed == 21 && foreign == 0);
    return 0;
}
