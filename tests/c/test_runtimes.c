// Two runtimes in one process, on homes of their own and on the same one.
#include "check.h"
#include <pthread.h>

typedef struct {
    boxlite_runtime *runtime, *other;
    boxlite_exec *exec;
    bytes out;
    int exits, foreign;
} side;

// The runtime that is being dispatched.
static boxlite_runtime *now;

static void on_stdout(void *user_data, const uint8_t *data, size_t length)
{
    side *s = user_data;
    s->foreign += now != s->runtime;
    append(&s->out, data, length);
    // Inside a callback is inside a callback, of whatever runtime.
    CHECK(boxlite_dispatch(s->other, 0, NULL, NULL) == BOXLITE_BUSY);
}

static void on_exit_(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    side *s = user_data;
    s->foreign += now != s->runtime;
    CHECK(code == 0 && !signal && !why);
    s->exits++;
}

static boxlite_runtime *open_home(const char *path)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime;
    OK(boxlite_runtime_options_new(&options, &error));
    OK(boxlite_runtime_options_set_home(options, path, &error));
    OK(boxlite_runtime_open(options, &runtime, &error));
    boxlite_runtime_options_free(options);
    return runtime;
}

static void each_has_its_own_events(boxlite_runtime *a, boxlite_runtime *b, boxlite_box *in_a, boxlite_box *in_b)
{
    side sides[2] = {{.runtime = a, .other = b}, {.runtime = b, .other = a}};
    boxlite_box *boxes[2] = {in_a, in_b};
    CHECK(boxlite_event_fd(a) != boxlite_event_fd(b));
    for (int i = 0; i < 2; i++) {
        sides[i].exec = start(boxes[i], "seq 20000");
        OK(boxlite_exec_on_stdout(sides[i].exec, on_stdout, &sides[i], NULL, &error));
        OK(boxlite_exec_on_exit(sides[i].exec, on_exit_, &sides[i], NULL, &error));
    }
    // The first to its end, while the other waits.
    now = a;
    DISPATCH_UNTIL(a, sides[0].exits == 1);
    CHECK(sides[1].out.length == 0 && sides[1].exits == 0);
    now = b;
    DISPATCH_UNTIL(b, sides[1].exits == 1);
    for (int i = 0; i < 2; i++) {
        check_numbers(&sides[i].out, 20000);
        CHECK(sides[i].foreign == 0);
        free(sides[i].out.data);
        boxlite_exec_free(sides[i].exec);
        sides[i].out = (bytes){0};
        sides[i].exits = 0;
    }
    // In turn.
    for (int i = 0; i < 2; i++) {
        sides[i].exec = start(boxes[i], "seq 20000");
        OK(boxlite_exec_on_stdout(sides[i].exec, on_stdout, &sides[i], NULL, &error));
        OK(boxlite_exec_on_exit(sides[i].exec, on_exit_, &sides[i], NULL, &error));
    }
    for (time_t began = time(NULL); !sides[0].exits || !sides[1].exits;) {
        CHECK(time(NULL) - began < 60);
        now = now == a ? b : a;
        (void)boxlite_dispatch(now, 5, NULL, NULL);
    }
    for (int i = 0; i < 2; i++) {
        check_numbers(&sides[i].out, 20000);
        CHECK(sides[i].foreign == 0);
        free(sides[i].out.data);
        boxlite_exec_free(sides[i].exec);
    }
}

static void homes_of_their_own(void)
{
    boxlite_runtime *a = open_runtime();
    char second[sizeof home] = "/tmp/boxlite-test-XXXXXX";
    CHECK(mkdtemp(second));
    boxlite_runtime *b = open_home(second);
    boxlite_box *in_a = new_box(a), *in_b = new_box(b);
    each_has_its_own_events(a, b, in_a, in_b);
    CHECK(count_boxes(a) == 1 && count_boxes(b) == 1);
    // One's box is not the other's.
    boxlite_op *op;
    OK(boxlite_box_get(b, boxlite_box_id(in_a), &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_NOT_FOUND, boxlite_box_id(in_a));
    boxlite_op_free(op);
    // The end of one leaves the other alone.
    remove_box(a, in_a);
    close_runtime(a);
    PRINTS(in_b, "echo still", "still\n");
    remove_box(b, in_b);
    strcpy(home, second);
    close_runtime(b);
}

static void *start_it(void *box)
{
    boxlite_op *op;
    CHECK(boxlite_box_start(box, &op, NULL) == BOXLITE_OK);
    boxlite_status status = boxlite_op_wait(op, 60000, NULL);
    boxlite_op_free(op);
    return (void *)(intptr_t)status;
}

static void one_home_twice(void)
{
    boxlite_runtime *a = open_runtime(), *b = open_home(home);
    boxlite_box *box = new_box(a), *same;
    boxlite_op *op;
    CHECK(count_boxes(b) == 1);
    OK(boxlite_box_get(b, boxlite_box_id(box), &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &same, &error));
    boxlite_op_free(op);

    // Both start it: one machine, and nobody fails but by being too late.
    for (int i = 0; i < 3; i++) {
        pthread_t threads[2];
        void *statuses[2];
        CHECK(pthread_create(&threads[0], NULL, start_it, box) == 0);
        CHECK(pthread_create(&threads[1], NULL, start_it, same) == 0);
        for (int j = 0; j < 2; j++) {
            pthread_join(threads[j], &statuses[j]);
            boxlite_status status = (boxlite_status)(intptr_t)statuses[j];
            if (status != BOXLITE_OK && status != BOXLITE_BUSY)
                FAIL("%s", boxlite_status_name(status));
        }
        CHECK(statuses[0] == (void *)BOXLITE_OK || statuses[1] == (void *)BOXLITE_OK);
        CHECK(count_machines() == 1);
        PRINTS(box, "echo a > /who; cat /who", "a\n");
        PRINTS(same, "cat /who", "a\n");
        CHECK(status_of(box) == BOXLITE_BOX_RUNNING && status_of(same) == BOXLITE_BOX_RUNNING);
        // Each hears of its end by a command of its own.
        boxlite_exec *execs[2] = {start(box, "exec sleep 1000"), start(same, "exec sleep 1000")};
        OK(boxlite_box_stop(i % 2 ? box : same, 0, &op, &error));
        wait_op(op);
        for (int j = 0; j < 2; j++) {
            boxlite_status status = boxlite_exec_wait(execs[j], 60000, NULL, NULL);
            CHECK(status == BOXLITE_OK || status == BOXLITE_STOPPED);
            boxlite_exec_free(execs[j]);
        }
        EVENTUALLY(status_of(box) == BOXLITE_BOX_STOPPED && status_of(same) == BOXLITE_BOX_STOPPED);
        EVENTUALLY(count_machines() == 0);
    }

    // What one runs ends with it, and the other sees that.
    PRINTS(box, "echo runs", "runs\n");
    boxlite_exec *exec = start(same, "exec sleep 1000");
    boxlite_box_free(box);
    boxlite_runtime_free(a);
    EVENTUALLY(count_machines() == 0);
    boxlite_status ended = boxlite_exec_wait(exec, 60000, NULL, NULL);
    CHECK(ended != BOXLITE_OK && ended != BOXLITE_TIMEOUT);
    boxlite_exec_free(exec);
    EVENTUALLY(status_of(same) == BOXLITE_BOX_STOPPED);
    PRINTS(same, "echo mine now", "mine now\n");
    remove_box(b, same);
    close_runtime(b);
}

int main(void)
{
    homes_of_their_own();
    one_home_twice();
    return 0;
}
