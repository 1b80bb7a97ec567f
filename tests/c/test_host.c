// The host program's own signals and children: the library gets in the way of none of them.
#include "check.h"
#include <pthread.h>

static int deaths, foreign;
static pid_t own_child;

// What many programs do: collect whatever child has ended.
static void on_sigchld(int signal)
{
    int saved = errno, status;
    pid_t pid;
    (void)signal;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == own_child)
            deaths++;
        else
            foreign++;
    }
    errno = saved;
}

static void fork_and_wait(void)
{
    int before = deaths, status;
    sigset_t block, old;
    sigemptyset(&block);
    sigaddset(&block, SIGCHLD);
    // So that the handler knows the child's number.
    CHECK(pthread_sigmask(SIG_BLOCK, &block, &old) == 0);
    own_child = fork();
    CHECK(own_child >= 0);
    if (own_child == 0)
        _exit(7);
    CHECK(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
    EVENTUALLY(deaths == before + 1);

    // Or waits itself, without a handler.
    struct sigaction handler, none = {.sa_handler = SIG_DFL};
    CHECK(sigaction(SIGCHLD, &none, &handler) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(9);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 9);
    CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD);
    CHECK(sigaction(SIGCHLD, &handler, NULL) == 0);
}

static void the_hosts_children_are_its_own(void)
{
    struct sigaction action = {.sa_handler = on_sigchld, .sa_flags = SA_RESTART}, after;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    for (int i = 0; i < 3; i++) {
        boxlite_op *op;
        PRINTS(box, "echo works", "works\n");
        fork_and_wait();
        boxlite_exec *exec = start(box, "exec sleep 1000");
        if (i == 0)
            CHECK(signal_machines(SIGKILL) == 1);
        else {
            OK(boxlite_box_stop(box, 0, &op, &error));
            wait_op(op);
        }
        CHECK(boxlite_exec_wait(exec, 60000, NULL, NULL) != BOXLITE_TIMEOUT);
        boxlite_exec_free(exec);
        EVENTUALLY(count_machines() == 0);
    }
    CHECK(foreign == 0 && deaths == 3);
    // Handlers are where they were.
    CHECK(sigaction(SIGCHLD, NULL, &after) == 0 && after.sa_handler == on_sigchld);
    remove_box(runtime, box);
    boxlite_op *op;
    OK(boxlite_runtime_shutdown(runtime, 0, &op, &error));
    wait_op(op);
    boxlite_runtime_free(runtime);
    CHECK(foreign == 0 && deaths == 3);
    action.sa_handler = SIG_DFL;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);

    // A host that ignores its children: the kernel collects them.
    action.sa_handler = SIG_IGN;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    runtime = open_runtime();
    box = new_box(runtime);
    PRINTS(box, "echo works", "works\n");
    remove_box(runtime, box);
    action.sa_handler = SIG_DFL;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    close_runtime(runtime);
}

static void kill_machine(boxlite_box *box)
{
    (void)box;
    CHECK(signal_machines(SIGKILL) == 1);
}

static void kill_supervisor(boxlite_box *box)
{
    boxlite_box_info *info = inspect(box);
    pid_t pid = (pid_t)boxlite_box_info_pid(info);
    boxlite_box_info_free(info);
    CHECK(pid > 1 && kill(pid, SIGKILL) == 0);
}

// The command has no end of its own: its machine or its supervisor was killed.
static void box_ended(boxlite_exec *exec)
{
    int32_t code = 77;
    boxlite_status status = boxlite_exec_wait(exec, 60000, &code, &error);
    if ((status != BOXLITE_ENGINE && status != BOXLITE_STOPPED) || code != 77)
        FAIL("%s, code %d: %s", boxlite_status_name(status), (int)code, boxlite_error_message(error));
    boxlite_error_free(error);
    error = NULL;
}

// With SIGPIPE as it is by default: deadly.
static void a_broken_pipe_kills_nobody(boxlite_runtime *runtime, boxlite_box *box,
                                       void (*kill_it)(boxlite_box *box))
{
    enum { CHUNK = 65536 };
    static uint8_t data[CHUNK];
    struct sigaction action;
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    boxlite_exec_options *options = shell("cat > /dev/null");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    boxlite_exec *writer = start_with(box, options), *reader = start(box, "yes");
    bytes got = {0};
    OK(boxlite_exec_on_stdout(reader, append, &got, NULL, &error));
    boxlite_status status = BOXLITE_OK;
    time_t began = time(NULL);
    // Written to while it dies, and afterwards.
    for (int i = 0; status == BOXLITE_OK || status == BOXLITE_WOULD_BLOCK; i++) {
        size_t written;
        status = boxlite_exec_write(writer, data, CHUNK, &written, NULL);
        if (i == 50)
            kill_it(box);
        if (i > 50)
            sleep_ms(1);
        CHECK(time(NULL) - began < 60);
    }
    CHECK(status == BOXLITE_INVALID_STATE);
    box_ended(writer);
    box_ended(reader);
    boxlite_op *op;
    OK(boxlite_exec_signal(reader, SIGTERM, &op, &error));
    CHECK(boxlite_op_wait(op, 60000, NULL) != BOXLITE_TIMEOUT);
    boxlite_op_free(op);
    boxlite_exec_free(writer);
    boxlite_exec_free(reader);
    free(got.data);
    EVENTUALLY(count_machines() == 0);
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    EVENTUALLY(boxlite_box_start(box, &op, NULL) == BOXLITE_OK &&
               (status = boxlite_op_wait(op, 60000, NULL), boxlite_op_free(op), status == BOXLITE_OK));
    PRINTS(box, "echo again", "again\n");
    dispatch_all(runtime);
}

// Every thread but this one blocks all signals that can be blocked.
static void the_librarys_threads_get_no_signals(boxlite_box *box)
{
    int threads = 0;
    struct dirent *entry;
    PRINTS(box, "echo busy", "busy\n");
    DIR *dir = opendir("/proc/self/task");
    CHECK(dir);
    while ((entry = readdir(dir))) {
        char path[300], line[256];
        if (*entry->d_name == '.' || atoi(entry->d_name) == getpid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file)
            continue;
        unsigned long long blocked = 0;
        bool found = false;
        while (fgets(line, sizeof line, file))
            found |= sscanf(line, "SigBlk: %llx", &blocked) == 1;
        fclose(file);
        threads++;
        // But KILL and STOP, and the two that glibc keeps for itself.
        unsigned long long wanted = ~0ull & ~(1ull << (SIGKILL - 1)) & ~(1ull << (SIGSTOP - 1)) & ~(3ull << 31);
        if (!found || (blocked & wanted) != wanted)
            FAIL("thread %s blocks %llx", entry->d_name, blocked);
    }
    closedir(dir);
    CHECK(threads > 0);
}

int main(void)
{
    the_hosts_children_are_its_own();
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    the_librarys_threads_get_no_signals(box);
    a_broken_pipe_kills_nobody(runtime, box, kill_machine);
    a_broken_pipe_kills_nobody(runtime, box, kill_supervisor);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
