// How soon a program learns that a part of its box has died, beside how soon it learns that a child of
// its own has.
#include "boxes.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 5 };

static struct {
    samples machine, supervisor, guest, child;
} seen;

static const figure FIGURES[] = {
    {"QEMU is killed", "ms", &seen.machine, "a child is", &seen.child, VALUE_AT_MOST, 1000},
    {"the supervisor is killed", "ms", &seen.supervisor, "a child is", &seen.child, VALUE_AT_MOST, 1000},
    {"the guest's kernel panics", "ms", &seen.guest, "a child is", &seen.child, VALUE_AT_MOST, 1000},
};

// Runs a command that never ends by itself, does something fatal to its box and waits for its exit.
static double until_known(boxlite_runtime *runtime, const char *image, pid_t (*victim)(boxlite_box *))
{
    const char *argv[] = {"sh", "-c", "read go; echo c > /proc/sysrq-trigger; exec sleep 1000"};
    int32_t code;
    boxlite_box *box = create(runtime, image, false);
    boxlite_exec *exec = start_command(box, argv, 3, true);
    pid_t pid = victim ? victim(box) : 0;
    double began = now_ms();
    if (victim)
        kill(pid, SIGKILL);
    else
        write_stdin(exec, "go\n", 3);
    boxlite_status status = boxlite_exec_wait(exec, PATIENCE_MS, &code, NULL);
    double elapsed = now_ms() - began;
    if (status == BOXLITE_OK || status == BOXLITE_TIMEOUT)
        fail("a command in a box that died ended with %s", boxlite_status_name(status));
    boxlite_exec_free(exec);
    discard(runtime, box);
    return elapsed;
}

static pid_t supervisor_of(boxlite_box *box)
{
    boxlite_box_info *info = inspect(box);
    pid_t pid = (pid_t)boxlite_box_info_pid(info);
    boxlite_box_info_free(info);
    return pid;
}

static pid_t machine_of(boxlite_box *box)
{
    return child_of(supervisor_of(box));
}

static double until_child_is_known(void)
{
    pid_t child = fork();
    if (child < 0)
        fail("fork failed");
    if (child == 0)
        for (;;)
            pause();
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN};
    double began = now_ms();
    kill(child, SIGKILL);
    poll(&end, 1, -1);
    double elapsed = now_ms() - began;
    close(end.fd);
    waitpid(child, NULL, 0);
    return elapsed;
}

void measure_ends(boxlite_runtime *runtime, const plan *p)
{
    add_table("from the death of a part to the exit of a command");
    add_figures(FIGURES, sizeof FIGURES / sizeof *FIGURES);
    for (int i = 0; i < ROUNDS; i++) {
        fprintf(stderr, "\rbench: ends %d/%d ", i + 1, ROUNDS);
        add(&seen.machine, until_known(runtime, p->image, machine_of));
        add(&seen.supervisor, until_known(runtime, p->image, supervisor_of));
        add(&seen.guest, until_known(runtime, p->image, NULL));
        add(&seen.child, until_child_is_known());
    }
    fputc('\n', stderr);
}
