// Large output: complete, in bounded memory, and one unread stream stalls no other.
#include "check.h"

enum { MEGABYTES = 100 };

// The sanitizer keeps freed memory for a while, which would look like growth.
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=1";
}

static long resident_kib(void)
{
    long pages, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%ld %ld", &pages, &resident) == 2);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void to_pipe(void *pipe, const uint8_t *data, size_t length)
{
    CHECK(fwrite(data, 1, length, pipe) == length);
}

static void count(void *total, const uint8_t *data, size_t length)
{
    (void)data;
    *(size_t *)total += length;
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    char script[256], wanted[128] = "", got[128] = "", command[128];
    bytes out = {0}, err = {0};

    snprintf(script, sizeof script, "head -c %d000000 /dev/urandom > /data && sha256sum < /data", MEGABYTES);
    CHECK(finish(start(box, script), &out, &err) == 0);
    CHECK(sscanf((char *)out.data, "%64s", wanted) == 1);
    free(out.data);

    // One exec that nobody reads, for as long as the other streams.
    boxlite_exec *unread = start(box, "cat /data; echo finished > /tmp/unread");
    boxlite_exec *exec = start(box, "cat /data");

    // Nobody dispatches: the command waits, and this process does not grow.
    size_t ignored = 0;
    time_t unread_since = time(NULL);
    OK(boxlite_exec_on_stdout(unread, count, &ignored, NULL, &error));
    long before = resident_kib();
    sleep(2);
    long grown = resident_kib() - before;
    if (grown > 8192)
        FAIL("memory grew by %ld KiB while nobody read", grown);

    snprintf(command, sizeof command, "sha256sum > %s/sum", home);
    FILE *sum = popen(command, "w");
    CHECK(sum);
    int32_t code;
    OK(boxlite_exec_on_stdout(exec, to_pipe, sum, NULL, &error));
    OK(boxlite_exec_wait(exec, 300000, &code, &error));
    CHECK(code == 0 && pclose(sum) == 0);
    boxlite_exec_free(exec);
    snprintf(command, sizeof command, "%s/sum", home);
    FILE *result = fopen(command, "r");
    CHECK(result && fscanf(result, "%64s", got) == 1);
    fclose(result);
    CHECK(!strcmp(wanted, got));
    grown = resident_kib() - before;
    if (grown > 16384)
        FAIL("memory grew by %ld KiB over %d MB", grown, MEGABYTES);

    // Ten seconds unread in all, while others run.
    while (time(NULL) - unread_since < 11)
        PRINTS(box, "sleep 0.5; echo on", "on\n");

    // The unread one is where it was, and comes to its end once somebody reads.
    CHECK(ignored == 0);
    PRINTS(box, "[ -e /tmp/unread ] || echo waiting", "waiting\n");
    OK(boxlite_exec_wait(unread, 300000, &code, &error));
    CHECK(code == 0 && ignored == MEGABYTES * (size_t)1000000);
    boxlite_exec_free(unread);

    // A command whose reader goes away goes on.
    boxlite_exec_free(start(box, "cat /data; echo finished > /tmp/freed"));
    PRINTS(box, "while [ ! -e /tmp/freed ]; do sleep 0.1; done; echo done", "done\n");

    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
