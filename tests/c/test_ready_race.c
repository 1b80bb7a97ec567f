// Readiness that comes at any moment is told: a program reads one output line by line, while the
// other, which comes just before, keeps whoever dispatches busy. After that nothing comes until the
// program answers: what is told to nobody hangs here.
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
    boxlite_exec_options *options = shell("while read -r line; do echo noise >&2; echo \"$line\"; done");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    boxlite_exec *exec = start_with(box, options);
    int ready[3] = {0}, told;
    size_t noise = 0, length;
    OK(boxlite_exec_on_ready(exec, note, ready, NULL, &error));
    OK(boxlite_exec_on_stderr(exec, count, &noise, NULL, &error));
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t got[2];
        boxlite_status status;
        while ((status = boxlite_exec_write(exec, (const uint8_t *)"x\n", 2, &length, NULL)) == BOXLITE_WOULD_BLOCK)
            OK(boxlite_dispatch(runtime, 60000, NULL, &error));
        CHECK(status == BOXLITE_OK && length == 2);
        // Only what is told is followed: no read is tried in between.
        for (told = ready[BOXLITE_STDOUT];
             (status = boxlite_exec_read(exec, BOXLITE_STDOUT, got, 2, &length, NULL)) != BOXLITE_OK;
             told = ready[BOXLITE_STDOUT]) {
            CHECK(status == BOXLITE_WOULD_BLOCK);
            time_t began = time(NULL);
            while (ready[BOXLITE_STDOUT] == told) {
                (void)boxlite_dispatch(runtime, 1000, NULL, NULL);
                if (time(NULL) - began > 60)
                    FAIL("round %d: readiness was never told", round);
            }
        }
        CHECK(length == 2 && got[0] == 'x');
    }
    CHECK(noise > 0);
    boxlite_exec_free(exec);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
