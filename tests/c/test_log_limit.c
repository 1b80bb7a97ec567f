// Messages that nobody dispatches: the latest 1024 wait, and the others are counted.
#include "check.h"

enum { WAITING = 1024, MORE = 100, AT_ONCE = 50 };

typedef struct {
    int messages, counted;
    unsigned long dropped;
} witness;

static void on_log(void *user_data, int32_t level, const char *target, const char *message)
{
    witness *w = user_data;
    CHECK(*target);
    if (level == BOXLITE_LOG_WARN && sscanf(message, "%lu messages were dropped", &w->dropped) == 1) {
        // Before those that are left.
        CHECK(w->messages == 0);
        w->counted++;
    } else {
        w->messages++;
    }
}

// Each command is a message, at the least.
static void run(boxlite_box *box, int count)
{
    boxlite_op *ops[AT_ONCE];
    boxlite_exec_options *options = shell(":");
    for (int done = 0; done < count; done += AT_ONCE) {
        for (int i = 0; i < AT_ONCE; i++)
            OK(boxlite_box_run(box, options, 0, &ops[i], &error));
        for (int i = 0; i < AT_ONCE; i++)
            wait_op(ops[i]);
    }
    boxlite_exec_options_free(options);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    witness w = {0};
    OK(boxlite_runtime_on_log(runtime, BOXLITE_LOG_DEBUG, on_log, &w, NULL, &error));
    run(box, WAITING + MORE);
    CHECK(w.messages == 0);
    dispatch_all(runtime);
    CHECK(w.messages == WAITING && w.counted == 1 && w.dropped >= MORE);

    // From here on nothing is lost, and nothing is counted.
    w = (witness){0};
    run(box, AT_ONCE);
    dispatch_all(runtime);
    CHECK(w.messages >= AT_ONCE && w.messages < WAITING && w.counted == 0);
    OK(boxlite_runtime_on_log(runtime, BOXLITE_LOG_OFF, NULL, NULL, NULL, &error));
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
