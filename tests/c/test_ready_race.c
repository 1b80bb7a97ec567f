// Readiness that comes at any moment is told: a program that reads one output answers byte by byte,
// while the other output keeps whoever dispatches busy. What is told to nobody would hang here.
#include "check.h"

static void note(void *user_data, int32_t stream)
{
    ((int *)user_data)[stream]++;
}

static void count(void *user_data, const uint8_t *data, size_t length)
{
    CHECK(data);
    *(size_t *)user_data += length;
}

int main(void)
{
    enum { ROUNDS = 1500 };
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    boxlite_exec_options *options = shell("(while :; do echo noise >&2; done) & exec cat");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    boxlite_exec *exec = start_with(box, options);
    int ready[3] = {0}, told;
    size_t noise = 0, length;
    OK(boxlite_exec_on_ready(exec, note, ready, NULL, &error));
    OK(boxlite_exec_on_stderr(exec, count, &noise, NULL, &error));
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t sent = (uint8_t)round, got;
        boxlite_status status;
        while ((status = boxlite_exec_write(exec, &sent, 1, &length, NULL)) == BOXLITE_WOULD_BLOCK)
            OK(boxlite_dispatch(runtime, 60000, NULL, &error));
        CHECK(status == BOXLITE_OK);
        // Only what is told is followed: no read is tried in between.
        for (told = ready[BOXLITE_STDOUT];
             (status = boxlite_exec_read(exec, BOXLITE_STDOUT, &got, 1, &length, NULL)) != BOXLITE_OK;
             told = ready[BOXLITE_STDOUT]) {
            CHECK(status == BOXLITE_WOULD_BLOCK);
            time_t began = time(NULL);
            while (ready[BOXLITE_STDOUT] == told) {
                OK(boxlite_dispatch(runtime, 60000, NULL, &error));
                if (time(NULL) - began > 60)
                    FAIL("round %d: readiness was never told", round);
            }
        }
        CHECK(length == 1 && got == sent);
    }
    CHECK(noise > 0);
    boxlite_exec_free(exec);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
