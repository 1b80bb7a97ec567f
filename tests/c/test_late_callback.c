// Output waits until there is a callback, also if the exit was told before.
#include "check.h"

static void on_exit_(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    CHECK(code == 0 && !signal && !why);
    ++*(int *)user_data;
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    int exits = 0;
    bytes got = {0};
    boxlite_exec *exec = start(box, "echo waits");
    OK(boxlite_exec_on_exit(exec, on_exit_, &exits, NULL, &error));
    DISPATCH_UNTIL(runtime, exits == 1);
    OK(boxlite_exec_on_stdout(exec, append, &got, NULL, &error));
    DISPATCH_UNTIL(runtime, got.length == 6);
    CHECK(!strcmp((char *)got.data, "waits\n"));
    free(got.data);
    boxlite_exec_free(exec);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
