// Thirty boots in a row without one failure, and nothing left of them.
#include "check.h"

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    int fds = 0;
    for (int i = 0; i < 30; i++) {
        boxlite_op *op;
        char script[64], wanted[64];
        OK(boxlite_box_start(box, &op, &error));
        wait_op(op);
        // The disk is the same at every boot.
        snprintf(script, sizeof script, "echo x >> /boots; wc -l < /boots");
        snprintf(wanted, sizeof wanted, "%d\n", i + 1);
        PRINTS(box, script, wanted);
        OK(boxlite_box_stop(box, 1000, &op, &error));
        wait_op(op);
        if (i == 0)
            fds = count_fds();
    }
    CHECK(count_fds() <= fds);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
