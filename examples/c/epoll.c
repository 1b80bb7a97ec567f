// Ten boxes in one epoll loop, without threads: what they write is printed as it comes.
//   epoll IMAGE [COMMAND [ARGUMENT...]]
#include "common.h"
#include <sys/epoll.h>

enum { BOXES = 10 };
static int running = BOXES;

static void on_output(void *box, const uint8_t *data, size_t length)
{
    printf("%s: %.*s", boxlite_box_id(box), (int)length, (const char *)data);
}

static void on_end(void *exec, int32_t code, int32_t signal, const boxlite_error *why)
{
    printf("exit code %d, signal %d %s\n", code, signal, boxlite_error_message(why));
    boxlite_exec_free(exec);
    running--;
}

static void on_started(void *box, boxlite_op *op)
{
    boxlite_exec *exec;
    check(boxlite_op_take_exec(op, &exec, &error));
    check(boxlite_exec_on_stdout(exec, on_output, box, NULL, &error));
    check(boxlite_exec_on_stderr(exec, on_output, box, NULL, &error));
    check(boxlite_exec_on_exit(exec, on_end, exec, NULL, &error));
    boxlite_op_free(op);
}

int main(int argc, char **argv)
{
    struct epoll_event event = {.events = EPOLLIN};
    const char **words = (const char **)argv + 2;
    int loop = epoll_create1(EPOLL_CLOEXEC);
    boxlite_runtime *runtime;
    boxlite_box *boxes[BOXES];
    boxlite_exec_options *command;
    boxlite_op *op;

    check(boxlite_runtime_open(NULL, &runtime, &error));
    check(boxlite_exec_options_new(words, argc > 2 ? argc - 2 : 0, &command, &error));
    for (int i = 0; i < BOXES; i++) {
        boxes[i] = make_box(runtime, argv[1], 128);
        check(boxlite_box_exec(boxes[i], command, &op, &error)); // starts the box first
        check(boxlite_op_on_complete(op, on_started, boxes[i], NULL, &error));
    }
    if (epoll_ctl(loop, EPOLL_CTL_ADD, boxlite_event_fd(runtime), &event) != 0)
        return perror("epoll_ctl"), 125;
    while (running > 0) {
        (void)epoll_wait(loop, &event, 1, -1); // and the program's other descriptors
        boxlite_status status = boxlite_dispatch(runtime, 0, NULL, &error);
        check(status == BOXLITE_TIMEOUT ? BOXLITE_OK : status);
    }
    for (int i = 0; i < BOXES; i++)
        remove_box(runtime, boxes[i]);
    boxlite_exec_options_free(command);
    boxlite_runtime_free(runtime);
    return 0;
}
