// One program that starts and cancels commands without a pause: another command goes on meanwhile,
// and nothing is used up.
#include "check.h"

static void count(void *user_data, const uint8_t *data, size_t length)
{
    CHECK(data);
    *(size_t *)user_data += length;
}

int main(void)
{
    enum { TICKS = 200, LIMIT_S = 60 };
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    boxlite_exec_options *options = shell("exec sleep 1000");
    boxlite_exec *ticker = start(box, "while :; do echo; sleep 0.01; done");
    size_t ticks = 0, cancelled = 0;
    OK(boxlite_exec_on_stdout(ticker, count, &ticks, NULL, &error));
    time_t began = time(NULL);
    while (ticks < TICKS) {
        boxlite_op *op;
        OK(boxlite_box_run(box, options, 10, &op, &error));
        sleep_ms(1);
        OK(boxlite_op_cancel(op, &error));
        boxlite_op_free(op);
        cancelled++;
        dispatch_all(runtime);
        if (time(NULL) - began > LIMIT_S)
            FAIL("%zu ticks in %d s, beside %zu cancelled commands", ticks, LIMIT_S, cancelled);
    }
    CHECK(cancelled > 0);
    boxlite_exec_free(ticker);
    boxlite_exec_options_free(options);
    // None of the cancelled ones runs on, and the box is as good as before.
    PRINTS(box, "while pgrep -f 'sleep 1000' >/dev/null; do :; done; echo none", "none\n");
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
