// The host program's signals stay its own: no handler, no mask, no child, no SIGPIPE.
#include "check.h"
#include <pthread.h>

static void *nothing(void *argument)
{
    return argument;
}

// What the kernel says of each signal's disposition and of this thread's mask.
static void signals(char *text, size_t size)
{
    char line[256];
    FILE *file = fopen("/proc/thread-self/status", "r");
    CHECK(file);
    *text = 0;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, "Sig", 3) == 0 && strncmp(line, "SigQ", 4) != 0)
            strncat(text, line, size - strlen(text) - 1);
    fclose(file);
    CHECK(strstr(text, "SigBlk") && strstr(text, "SigCgt") && strstr(text, "SigIgn"));
}

// How many threads of this process take none of the ordinary signals, and how many there are.
static void count_threads(int *deaf, int *all)
{
    struct dirent *entry;
    DIR *dir = opendir("/proc/self/task");
    CHECK(dir);
    *deaf = *all = 0;
    while ((entry = readdir(dir))) {
        char path[300], line[256];
        unsigned long long blocked;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        FILE *file = *entry->d_name == '.' ? NULL : fopen(path, "r");
        if (!file)
            continue;
        ++*all;
        while (fgets(line, sizeof line, file))
            // All but SIGKILL and SIGSTOP, which nobody can block, and the two of the C library.
            if (sscanf(line, "SigBlk: %llx", &blocked) == 1 && (blocked | 0x180040100ULL) == ~0ULL)
                ++*deaf;
        fclose(file);
    }
    closedir(dir);
}

int main(void)
{
    char before[1024], after[1024];
    int deaf, all;
    // The C library handles a signal of its own from the first thread on.
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    signals(before, sizeof before);
    count_threads(&deaf, &all);
    CHECK(deaf == 0);
    int own = all;

    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo up", "up\n");
    signals(after, sizeof after);
    if (strcmp(before, after))
        FAIL("signals were\n%sand are\n%s", before, after);
    count_threads(&deaf, &all);
    if (all <= own || deaf != all - own)
        FAIL("%d threads, %d of them take no signals; at first %d", all, deaf, own);
    // No helper is a child: there is nothing to wait for.
    errno = 0;
    CHECK(waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD);

    // The other end of the socket goes away while much is written to it.
    boxlite_exec_options *options = shell("exec cat >/dev/null");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    boxlite_exec *exec = start_with(box, options);
    static uint8_t zeros[65536];
    CHECK(signal_machines(SIGKILL) == 1);
    boxlite_status status;
    EVENTUALLY((status = boxlite_exec_write(exec, zeros, sizeof zeros, &(size_t){0}, NULL),
                status == BOXLITE_INVALID_STATE));
    boxlite_exec_free(exec);

    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
