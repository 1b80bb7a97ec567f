// A callback that removes itself while its command is waited for: the wait ends all the same.
#include "check.h"

static boxlite_exec *exec;

static void once(void *user_data, const uint8_t *data, size_t length)
{
    CHECK(data && length);
    ++*(int *)user_data;
    OK(boxlite_exec_on_stdout(exec, NULL, NULL, NULL, &error));
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    int calls = 0;
    int32_t code = 77;
    exec = start(box, "seq 300000; exit 5");
    OK(boxlite_exec_on_stdout(exec, once, &calls, NULL, &error));
    OK(boxlite_exec_wait(exec, 60000, &code, &error));
    CHECK(calls == 1 && code == 5);
    boxlite_exec_free(exec);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
