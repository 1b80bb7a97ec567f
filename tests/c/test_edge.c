// An edge-triggered poller that dispatches until nothing is left, after each edge, misses nothing.
#include "check.h"
#include <sys/epoll.h>

enum { COMMANDS = 6, LINES = 40 };

typedef struct {
    bytes out;
    int exits;
} command;

static void on_output(void *user_data, const uint8_t *data, size_t length)
{
    command *c = user_data;
    append(&c->out, data, length);
}

static void on_end(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    command *c = user_data;
    CHECK(code == 4 && signal == 0 && !why);
    c->exits++;
}

static void dispatch_what_is_due(boxlite_runtime *runtime)
{
    boxlite_status status;
    while ((status = boxlite_dispatch(runtime, 0, NULL, &error)) == BOXLITE_OK)
        ;
    CHECK(status == BOXLITE_TIMEOUT);
}

int main(void)
{
    command commands[COMMANDS] = {0};
    boxlite_exec *execs[COMMANDS];
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    int poller = epoll_create1(EPOLL_CLOEXEC), ended;
    CHECK(poller >= 0);

    // Some are due before anybody watches.
    for (int i = 0; i < COMMANDS; i++) {
        execs[i] = start(box, "for i in 1 2 3 4; do seq 10; sleep 0.1; done; exit 4");
        OK(boxlite_exec_on_stdout(execs[i], on_output, &commands[i], NULL, &error));
        OK(boxlite_exec_on_exit(execs[i], on_end, &commands[i], NULL, &error));
    }
    CHECK(epoll_ctl(poller, EPOLL_CTL_ADD, boxlite_event_fd(runtime), &event) == 0);
    do {
        if (epoll_wait(poller, &event, 1, 60000) != 1)
            FAIL("no edge in a minute");
        dispatch_what_is_due(runtime);
        ended = 0;
        for (int i = 0; i < COMMANDS; i++)
            ended += commands[i].exits;
    } while (ended < COMMANDS);

    for (int i = 0; i < COMMANDS; i++) {
        int lines = 0;
        for (size_t j = 0; j < commands[i].out.length; j++)
            lines += commands[i].out.data[j] == '\n';
        CHECK(lines == LINES && commands[i].exits == 1);
        free(commands[i].out.data);
        boxlite_exec_free(execs[i]);
    }
    // Nothing is left, and nothing says so.
    CHECK(epoll_wait(poller, &event, 1, 0) == 0);
    close(poller);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
