// What the host program does with signals stays as it is: no handler, no mask is changed.
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

int main(void)
{
    char before[1024], after[1024];
    // The C library handles a signal of its own from the first thread on.
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
    signals(before, sizeof before);

    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo up", "up\n");
    signals(after, sizeof after);
    if (strcmp(before, after))
        FAIL("signals were\n%sand are\n%s", before, after);
    remove_box(runtime, box);
    close_runtime(runtime);

    // Control: a difference would be seen.
    CHECK(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
    signals(after, sizeof after);
    CHECK(strcmp(before, after) != 0);
    return 0;
}
