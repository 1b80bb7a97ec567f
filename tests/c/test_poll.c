// Event loops of three kinds over the one descriptor: each gets every event.
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

enum { EXECS = 5, LINES = 20 };

typedef struct {
    boxlite_exec *exec;
    bytes out;
    int exits;
} job;

static int ended;

static void on_stdout(void *user_data, const uint8_t *data, size_t length)
{
    append(&((job *)user_data)->out, data, length);
}

static void on_exit_(void *user_data, int32_t code, int32_t signal, const boxlite_error *why)
{
    CHECK(code == 0 && !signal && !why);
    ((job *)user_data)->exits++;
    ended++;
}

static void on_started(void *user_data, boxlite_op *op)
{
    job *j = user_data;
    OK(boxlite_op_take_exec(op, &j->exec, &error));
    boxlite_op_free(op);
    OK(boxlite_exec_on_stdout(j->exec, on_stdout, j, NULL, &error));
    OK(boxlite_exec_on_exit(j->exec, on_exit_, j, NULL, &error));
}

static bool readable(boxlite_runtime *runtime)
{
    struct pollfd fd = {.fd = boxlite_event_fd(runtime), .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

// Dispatches until nothing is left, and no more.
static void dispatch_what_is_left(boxlite_runtime *runtime)
{
    size_t left;
    do {
        left = 77;
        boxlite_status status = boxlite_dispatch(runtime, 0, &left, &error);
        CHECK(status == BOXLITE_OK || (status == BOXLITE_TIMEOUT && left == 0));
    } while (left);
}

static void wait_edge(int epoll)
{
    struct epoll_event event;
    // 60 s only guard against hanging.
    int count = epoll_wait(epoll, &event, 1, 60000);
    if (count != 1)
        FAIL("no event for a minute, with %d of %d ended", ended, EXECS);
}

typedef enum { POLL, EPOLL_LEVEL, EPOLL_EDGE } kind;

static void a_loop_gets_every_event(boxlite_runtime *runtime, boxlite_box *const *boxes, kind kind)
{
    job jobs[EXECS] = {{0}};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event interest = {.events = EPOLLIN | (kind == EPOLL_EDGE ? EPOLLET : 0)};
    CHECK(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, boxlite_event_fd(runtime), &interest) == 0);
    ended = 0;
    for (int i = 0; i < EXECS; i++) {
        boxlite_op *op;
        boxlite_exec_options *options = shell("i=1; while [ $i -le 20 ]; do echo $i; i=$((i + 1)); sleep 0.0$((i % 4)); done");
        OK(boxlite_box_exec(boxes[i], options, &op, &error));
        boxlite_exec_options_free(options);
        OK(boxlite_op_on_complete(op, on_started, &jobs[i], NULL, &error));
    }
    while (ended < EXECS) {
        if (kind == POLL) {
            struct pollfd fd = {.fd = boxlite_event_fd(runtime), .events = POLLIN};
            CHECK(poll(&fd, 1, 60000) == 1);
            // One at a time will do.
            (void)boxlite_dispatch(runtime, 0, NULL, NULL);
        } else {
            wait_edge(epoll);
            dispatch_what_is_left(runtime);
        }
    }
    for (int i = 0; i < EXECS; i++) {
        CHECK(jobs[i].exits == 1);
        check_numbers(&jobs[i].out, LINES);
        free(jobs[i].out.data);
        boxlite_exec_free(jobs[i].exec);
    }
    close(epoll);
    dispatch_all(runtime);
    CHECK(!readable(runtime));
}

static void count(void *user_data, boxlite_op *op)
{
    (void)op;
    ++*(int *)user_data;
}

static boxlite_op *due(boxlite_runtime *runtime, boxlite_box *box, int *calls)
{
    boxlite_op *op;
    OK(boxlite_box_inspect(box, &op, &error));
    OK(boxlite_op_on_complete(op, count, calls, NULL, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    EVENTUALLY(readable(runtime));
    return op;
}

static void the_descriptor_is_readable_if_something_waits(boxlite_runtime *runtime, boxlite_box *box)
{
    int calls = 0;
    dispatch_all(runtime);
    CHECK(!readable(runtime));
    CHECK(boxlite_dispatch(runtime, 0, NULL, &error) == BOXLITE_TIMEOUT && !error);

    // Two things: readable until both were told.
    boxlite_op *first = due(runtime, box, &calls), *second = due(runtime, box, &calls);
    size_t left = 77;
    CHECK(readable(runtime) && calls == 0);
    OK(boxlite_dispatch(runtime, 0, &left, &error));
    CHECK(calls == 1 && left > 0 && readable(runtime));
    while (left)
        (void)boxlite_dispatch(runtime, 0, &left, NULL);
    CHECK(calls == 2 && !readable(runtime));
    boxlite_op_free(first);
    boxlite_op_free(second);

    // Freed before it was told: nothing waits.
    first = due(runtime, box, &calls);
    CHECK(readable(runtime));
    boxlite_op_free(first);
    CHECK(!readable(runtime) && calls == 2);

    // Removed before it was told: a dispatch finds nothing, and then nothing waits.
    first = due(runtime, box, &calls);
    OK(boxlite_op_on_complete(first, NULL, NULL, NULL, &error));
    CHECK(boxlite_dispatch(runtime, 0, &left, &error) == BOXLITE_TIMEOUT && left == 0 && !error);
    CHECK(!readable(runtime) && calls == 2);
    boxlite_op_free(first);

    // An edge for each change from nothing to something, also if nobody looked in between.
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event interest = {.events = EPOLLIN | EPOLLET};
    CHECK(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, boxlite_event_fd(runtime), &interest) == 0);
    for (int i = 0; i < 20; i++) {
        first = due(runtime, box, &calls);
        wait_edge(epoll);
        dispatch_what_is_left(runtime);
        CHECK(calls == 3 + i);
        boxlite_op_free(first);
    }
    close(epoll);
}

static void every_descriptor_is_closed_on_exec(void)
{
    struct dirent *entry;
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir);
    while ((entry = readdir(dir))) {
        int fd = atoi(entry->d_name);
        int flags = fcntl(fd, F_GETFD);
        // What was there before is the test's own.
        if (*entry->d_name != '.' && fd > 2 && fd != dirfd(dir) && !(flags & FD_CLOEXEC))
            FAIL("descriptor %d would be inherited", fd);
    }
    closedir(dir);
}

int main(void)
{
    // Descriptors that were inherited, of the test driver perhaps.
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *boxes[EXECS];
    for (int i = 0; i < EXECS; i++)
        boxes[i] = new_box(runtime);
    CHECK(fcntl(boxlite_event_fd(runtime), F_GETFD) & FD_CLOEXEC);
    boxlite_exec *exec = start(boxes[0], "exec sleep 1000");
    every_descriptor_is_closed_on_exec();
    boxlite_exec_free(exec);
    // The first loop sees the boxes start, too.
    a_loop_gets_every_event(runtime, boxes, EPOLL_EDGE);
    a_loop_gets_every_event(runtime, boxes, EPOLL_LEVEL);
    a_loop_gets_every_event(runtime, boxes, POLL);
    the_descriptor_is_readable_if_something_waits(runtime, boxes[0]);
    for (int i = 0; i < EXECS; i++)
        remove_box(runtime, boxes[i]);
    close_runtime(runtime);
    return 0;
}
