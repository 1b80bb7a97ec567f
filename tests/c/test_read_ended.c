// A stream that came to its end before its box was killed has ended, and stays so.
#include "check.h"

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    uint8_t byte;
    size_t length = 77;
    boxlite_exec *exec = start(box, "exec >/dev/null; exec sleep 1000");
    EVENTUALLY(boxlite_exec_read(exec, BOXLITE_STDOUT, &byte, 1, &length, NULL) == BOXLITE_OK);
    CHECK(length == 0);
    CHECK(signal_machines(SIGKILL) == 1);
    EVENTUALLY(boxlite_exec_read(exec, BOXLITE_STDERR, &byte, 1, &length, NULL) == BOXLITE_ENGINE);
    length = 77;
    OK(boxlite_exec_read(exec, BOXLITE_STDOUT, &byte, 1, &length, &error));
    CHECK(length == 0);
    boxlite_exec_free(exec);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
